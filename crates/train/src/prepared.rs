//! The examples of a training run, before the weights of a model are needed.

use siskin_text::TextModel;

use crate::batch::split;
use crate::items::{Item, check_labels, mismatch};
use crate::objective::DataKind;
use crate::schedule::WARMUP_STEPS;
use crate::training_plan::Unusable;
use crate::{Error, Limit, Record, Result, TrainOptions};

/// Examples as an objective learns from them, and those that are held out.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// As given, and with what the records determine.
    pub options: TrainOptions,
    pub examples: Vec<Item>,
    pub held_out: Vec<Item>,
    /// Of each example, and then of each held-out one, the index in the given records, which those that were given to be
    /// held out follow.
    pub(crate) places: Vec<usize>,
    pub unusable: Vec<Unusable>,
    /// The same, of records that were given to be held out.
    pub unusable_validation: Vec<Unusable>,
    /// Maximum tokens per example.
    pub max_len: usize,
}

impl Prepared {
    /// The examples of these records for a model with this tokenizer and trained context. If `validation` is empty,
    /// [`TrainOptions::validation`] says how many of the others are held out.
    ///
    /// # Errors
    /// If an option is out of range, no example can be learned from, or KTO's have one label only.
    pub fn new(
        model: &TextModel,
        context: usize,
        records: &[Record],
        validation: &[Record],
        mut options: TrainOptions,
    ) -> Result<Self> {
        options.check()?;
        options.learning_rate = Some(options.peak_rate());
        if options.warmup_ratio.is_none() {
            options.warmup_steps.get_or_insert(WARMUP_STEPS);
        }
        let max_len = options.max_seq_len.min(context);
        let limit = Limit {
            tokens: max_len,
            is_the_models: options.max_seq_len >= context,
        };
        let (mut usable, mut places) = (vec![], vec![]);
        let (mut unusable, mut unusable_validation) = (vec![], vec![]);
        for (place, record) in records.iter().chain(validation).enumerate() {
            match Item::all_of(model, &record.example, &options, limit)? {
                Ok(items) => {
                    places.resize(places.len() + items.len(), place);
                    usable.extend(items);
                }
                Err(reason) => {
                    let unusable = match place < records.len() {
                        true => &mut unusable,
                        false => &mut unusable_validation,
                    };
                    unusable.push(Unusable {
                        line: record.line,
                        reason,
                    });
                }
            }
        }
        let own = places.partition_point(|place| *place < records.len());
        if own == 0 {
            let what = match unusable.first() {
                Some(u) => format!("record {}: {}", u.line, u.reason),
                None => "there are none".into(),
            };
            return Err(Error::NoExamples {
                name: "the data".into(),
                what,
            });
        }
        if !validation.is_empty() {
            options.validation = 0.0;
        }
        // Whole records are held out: a text may be several items.
        let (mut whole, mut records_of) = (places[..own].to_vec(), vec![]);
        whole.dedup();
        let (learned, _) = split(whole.len(), options.validation, options.seed);
        records_of.extend(learned.into_iter().map(|i| whole[i]));
        let is_learned = |i: &usize| records_of.binary_search(&places[*i]).is_ok();
        let (learn, mut hold): (Vec<usize>, Vec<usize>) = (0..own).partition(is_learned);
        hold.extend(own..usable.len());
        if let (true, Some((field, value))) = (hold.is_empty(), options.needs_held_out()) {
            return Err(Error::Option {
                field,
                value,
                range: "it needs held-out examples, and none are held out",
            });
        }
        let mut examples: Vec<Item> = learn.iter().map(|i| usable[*i].clone()).collect();
        let mut held_out: Vec<Item> = hold.iter().map(|i| usable[*i].clone()).collect();
        if options.objective.data() == DataKind::Rated {
            let rated = learn.iter().map(|i| (&records[places[*i]], &usable[*i]));
            check_labels(&rated.collect::<Vec<_>>())?;
            mismatch(&mut examples, options.batch_size, limit);
            mismatch(&mut held_out, options.batch_size, limit);
        }
        Ok(Self {
            options,
            examples,
            held_out,
            places: learn.iter().chain(&hold).map(|i| places[*i]).collect(),
            unusable,
            unusable_validation,
            max_len,
        })
    }

    /// Those to learn from, and those held out.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Item> {
        self.examples.iter().chain(&self.held_out)
    }

    pub fn steps_per_epoch(&self) -> usize {
        self.examples.len().div_ceil(self.options.batch_size)
    }

    pub fn steps(&self) -> usize {
        let epochs = self.options.epochs * self.steps_per_epoch();
        self.options.steps.unwrap_or(epochs)
    }
}
