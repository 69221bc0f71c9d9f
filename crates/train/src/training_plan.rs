//! What a training run would do and need, determined before anything runs.

use serde::Serialize;
use siskin_engine::{Adapter, Session, TrainingMemory, TrainingSetup};
use siskin_models::Head;

use crate::batch::split;
use crate::identity::{examples_sum, model_sum};
use crate::items::{Item, check_labels, mismatch};
use crate::objective::DataKind;
use crate::rollout::Asked;
use crate::schedule::WARMUP_STEPS;
use crate::{BadRecord, Error, Limit, Objective, Record, Result, Tokens, TrainOptions, Trainer};

/// A record that cannot be learned from, and why.
pub type Unusable = BadRecord;

/// What a training run consists of.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub objective: Objective,
    pub examples: usize,
    pub held_out: usize,
    /// Over all examples: tokens, and learned tokens.
    pub tokens: usize,
    pub learned: usize,
    /// Examples that were truncated to `max_seq_len`, or to the model's context.
    pub cut: usize,
    /// Maximum tokens per example.
    pub max_len: usize,
    pub unusable: Vec<Unusable>,
    /// The same, of records that were given to be held out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unusable_validation: Vec<Unusable>,
    pub steps: usize,
    /// Steps per pass over the examples.
    pub steps_per_epoch: usize,
    pub parameters: usize,
    pub memory: TrainingMemory,
}

/// A planned training run: what is known before anything runs.
#[derive(Debug)]
pub struct TrainingPlan {
    pub(crate) options: TrainOptions,
    pub(crate) examples: Vec<Item>,
    pub(crate) held_out: Vec<Item>,
    /// Indices of the held-out examples in the given records, followed by those that were given to be held out.
    pub(crate) held_out_places: Vec<usize>,
    pub(crate) summary: Summary,
    /// A hash of the records as given: what a template renders may depend on the date.
    pub(crate) examples_sum: String,
    adapter: Adapter,
    /// What rewards need of each example, and of each that is held out.
    pub(crate) asked: Vec<Asked>,
    pub(crate) setup: TrainingSetup,
}

impl TrainingPlan {
    /// Plans the training of a new adapter for the session's model.
    ///
    /// # Errors
    /// If an option is out of range, no example can be learned from, or KTO's have one label only.
    pub fn new(session: &Session, records: &[Record], options: TrainOptions) -> Result<Self> {
        Self::with_validation(session, records, &[], options)
    }

    /// The same, with records that are held out; if there are none, [`TrainOptions::validation`] says how many of the others
    /// are.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_validation(
        session: &Session,
        records: &[Record],
        validation: &[Record],
        mut options: TrainOptions,
    ) -> Result<Self> {
        options.check()?;
        options.learning_rate = Some(options.peak_rate());
        if options.warmup_ratio.is_none() {
            options.warmup_steps.get_or_insert(WARMUP_STEPS);
        }
        let trained = session.model.dims().context_length;
        let max_len = options.max_seq_len.min(trained);
        let limit = Limit {
            tokens: max_len,
            is_the_models: options.max_seq_len >= trained,
        };
        let (mut usable, mut places) = (vec![], vec![]);
        let (mut unusable, mut unusable_validation) = (vec![], vec![]);
        for (place, record) in records.iter().chain(validation).enumerate() {
            match Item::all_of(&session.text, &record.example, &options, limit)? {
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
        let (learn, mut hold) = split(own, options.validation, options.seed);
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
        let mismatched = examples
            .iter()
            .chain(&held_out)
            .filter_map(|i| i.mismatched.as_ref());
        let longest = usable
            .iter()
            .map(Item::rows)
            .chain(mismatched.map(Tokens::rows))
            .max();
        let longest = longest.unwrap_or(1);
        // The examples of a step may add up to less than a run can hold.
        let mut lengths: Vec<usize> = examples.iter().map(Item::rows).collect();
        lengths.sort_unstable();
        let mut step_rows: usize = lengths.iter().rev().take(options.batch_size).sum();
        if options.objective.data() == DataKind::Prompts {
            step_rows *= options.num_generations();
            if longest > session.context() {
                return Err(Error::Option {
                    field: "max_completion_length",
                    value: options.max_completion_length().to_string(),
                    range: "with the longest prompt, it does not fit the context that the model was opened with",
                });
            }
        }
        let rows = if options.packing {
            step_rows.min(max_len).max(longest)
        } else {
            longest
        };
        let base = session.files().checkpoint.name.clone();
        let mut adapter = Adapter::new(
            "the new adapter",
            &session.model.graph(Head::Next)?,
            &options.target_modules,
            options.adapter_config(&base),
            options.seed,
        )?;
        adapter.within_vision = session.model.is_within_vision();
        let sizes = adapter.modules.iter();
        let parameters = sizes.map(|m| m.a.len() + m.b.len() + m.m.len()).sum();
        let setup = TrainingSetup {
            rows,
            dropout: options.lora_dropout,
            checkpointing: options.checkpointing(),
            moments: options.moments(),
            has_reference: options.has_reference(),
        };
        let memory = session.training_memory(&adapter, &setup)?;
        let steps_per_epoch = examples.len().div_ceil(options.batch_size);
        let texts = || usable.iter().flat_map(|item| &item.texts);
        let summary = Summary {
            objective: options.objective,
            examples: examples.len(),
            held_out: held_out.len(),
            tokens: texts().map(|t| t.ids.len()).sum(),
            learned: texts().map(Tokens::learned_len).sum(),
            cut: usable
                .iter()
                .filter(|i| i.texts.iter().any(|t| t.cut > 0))
                .count(),
            max_len,
            unusable,
            unusable_validation,
            steps: options.steps.unwrap_or(options.epochs * steps_per_epoch),
            steps_per_epoch,
            parameters,
            memory,
        };
        let of_records = || records.iter().chain(validation);
        let all: Vec<&Record> = of_records().collect();
        let places_of = learn.iter().chain(&hold).map(|i| places[*i]);
        let asked = match options.objective.data() {
            DataKind::Prompts => places_of.map(|place| Asked::of(all[place])).collect(),
            _ => vec![],
        };
        Ok(Self {
            asked,
            held_out_places: hold.iter().map(|i| places[*i]).collect(),
            examples_sum: examples_sum(records, validation, session.text.template()),
            options,
            examples,
            held_out,
            summary,
            adapter,
            setup,
        })
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Applies the new adapter to the session, ready for training.
    ///
    /// # Errors
    /// If the device lacks memory.
    pub async fn begin(self, session: &mut Session) -> Result<Trainer> {
        session.set_adapter(Some(self.adapter.clone())).await?;
        session.begin_dora().await?;
        session.prepare_training(&self.setup).await?;
        let model = model_sum(session).await?;
        Ok(Trainer::at_start(self, model))
    }
}
