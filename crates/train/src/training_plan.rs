//! What a training run would do and need, determined before anything runs.

use serde::Serialize;
use siskin_engine::{Adapter, Session, TrainingMemory, TrainingSetup};
use siskin_models::Head;

use crate::identity::{examples_sum, model_sum};
use crate::items::Item;
use crate::objective::DataKind;
use crate::prepared::Prepared;
use crate::rollout::Asked;
use crate::{BadRecord, Error, Objective, Record, Result, Tokens, TrainOptions, Trainer};

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
        options: TrainOptions,
    ) -> Result<Self> {
        let context = session.model.dims().context_length;
        let prepared = Prepared::new(&session.text, context, records, validation, options)?;
        let max_len = prepared.max_len;
        let mismatched = prepared.all().filter_map(|i| i.mismatched.as_ref());
        let longest = prepared
            .all()
            .map(Item::rows)
            .chain(mismatched.map(Tokens::rows))
            .max();
        let longest = longest.unwrap_or(1);
        let (steps, steps_per_epoch) = (prepared.steps(), prepared.steps_per_epoch());
        let texts = || prepared.all().flat_map(|item| &item.texts);
        let (tokens, learned) = (
            texts().map(|t| t.ids.len()).sum(),
            texts().map(Tokens::learned_len).sum(),
        );
        let is_cut = |i: &&Item| i.texts.iter().any(|t| t.cut > 0);
        let cut = prepared.all().filter(is_cut).count();
        let Prepared {
            options,
            examples,
            held_out,
            places,
            unusable,
            unusable_validation,
            ..
        } = prepared;
        let mut held_out_places = places[examples.len()..].to_vec();
        held_out_places.dedup();
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
        let summary = Summary {
            objective: options.objective,
            examples: examples.len(),
            held_out: held_out.len(),
            tokens,
            learned,
            cut,
            max_len,
            unusable,
            unusable_validation,
            steps,
            steps_per_epoch,
            parameters,
            memory,
        };
        let of_records = || records.iter().chain(validation);
        let all: Vec<&Record> = of_records().collect();
        let asked = match options.objective.data() {
            DataKind::Prompts => places.iter().map(|place| Asked::of(all[*place])).collect(),
            _ => vec![],
        };
        Ok(Self {
            asked,
            held_out_places,
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
