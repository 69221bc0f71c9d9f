//! A session taken through the steps of a training.

use serde::Serialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use siskin_engine::{Adapter, Batch, Session, TrainingMemory, TrainingSetup};
use siskin_graph::Noise;
use siskin_models::Head;
use web_time::Instant;

use crate::batch::{pack, split};
use crate::checkpoint::Checkpoint;
use crate::{BadRecord, Error, Record, Result, Tokens, TrainOptions};

/// A record that cannot be learned from, and why.
pub type Unusable = BadRecord;

/// What there is to do.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub examples: usize,
    pub held_out: usize,
    /// Of all examples together: tokens, and those that are learned.
    pub tokens: usize,
    pub learned: usize,
    /// Examples that were cut to `max_seq_len`.
    pub cut: usize,
    pub unusable: Vec<Unusable>,
    pub steps: usize,
    /// Steps in one pass over the examples.
    pub steps_per_epoch: usize,
    pub parameters: usize,
    pub memory: TrainingMemory,
}

/// What a step did.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    /// Mean over the step's learned tokens, before it.
    pub loss: f32,
    pub learning_rate: f32,
    /// Before clipping.
    pub grad_norm: f32,
    /// Tokens that ran.
    pub tokens: usize,
    pub seconds: f64,
    /// Mean loss of the held-out examples after the step, where it was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f32>,
}

/// A training under way. The session that it was made for is given to each call, so that it can answer
/// with the adapter as it is in between.
#[derive(Debug)]
pub struct Trainer {
    options: TrainOptions,
    examples: Vec<Tokens>,
    held_out: Vec<Tokens>,
    /// Places in the records given of the held-out examples.
    held_out_places: Vec<usize>,
    summary: Summary,
    max_rows: usize,
    step: usize,
}

impl Trainer {
    /// Makes ready to train a new adapter.
    ///
    /// # Errors
    /// If an option is out of range, no example can be learned from, or the device lacks memory.
    pub async fn new(
        session: &mut Session,
        records: &[Record],
        options: TrainOptions,
    ) -> Result<Self> {
        options.check()?;
        let trained = session.model.dims().context_length;
        let max_len = options.max_seq_len.min(trained);
        let (mut usable, mut places, mut unusable) = (vec![], vec![], vec![]);
        for (place, record) in records.iter().enumerate() {
            match Tokens::of(&session.text, &record.example, options.loss_on, max_len)? {
                Ok(tokens) => {
                    usable.push(tokens);
                    places.push(place);
                }
                Err(reason) => unusable.push(Unusable {
                    line: record.line,
                    reason,
                }),
            }
        }
        if usable.is_empty() {
            let what = match unusable.first() {
                Some(u) => format!("record {}: {}", u.line, u.reason),
                None => "there are none".into(),
            };
            return Err(Error::NoExamples {
                name: "the data".into(),
                what,
            });
        }
        let (learn, hold) = split(usable.len(), options.validation, options.seed);
        let examples: Vec<Tokens> = learn.iter().map(|i| usable[*i].clone()).collect();
        let held_out: Vec<Tokens> = hold.iter().map(|i| usable[*i].clone()).collect();
        let longest = usable.iter().map(Tokens::rows).max().unwrap_or(1);
        // A step's examples together may be shorter than a run could be.
        let mut lengths: Vec<usize> = examples.iter().map(Tokens::rows).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let step_rows: usize = lengths.iter().take(options.batch_size).sum();
        let max_rows = if options.packing {
            step_rows.min(max_len).max(longest)
        } else {
            longest
        };
        let base = session.files().checkpoint.name.clone();
        let adapter = Adapter::new(
            "the new adapter",
            &session.model.graph(Head::Next)?,
            &options.target_modules,
            options.adapter_config(&base),
            options.seed,
        )?;
        let sizes = adapter.modules.iter();
        let parameters = sizes.map(|m| m.a.len() + m.b.len() + m.m.len()).sum();
        session.set_adapter(Some(adapter)).await?;
        session.begin_dora().await?;
        let setup = TrainingSetup {
            rows: max_rows,
            dropout: options.lora_dropout,
            checkpointing: options.checkpointing(),
            moments: options.moments(),
        };
        let memory = session.training_memory(&setup)?;
        session.prepare_training(&setup).await?;
        let steps_per_epoch = examples.len().div_ceil(options.batch_size);
        let summary = Summary {
            examples: examples.len(),
            held_out: held_out.len(),
            tokens: usable.iter().map(|t| t.ids.len()).sum(),
            learned: usable.iter().map(Tokens::learned_len).sum(),
            cut: usable.iter().filter(|t| t.cut > 0).count(),
            unusable,
            steps: options.steps.unwrap_or(options.epochs * steps_per_epoch),
            steps_per_epoch,
            parameters,
            memory,
        };
        Ok(Self {
            options,
            examples,
            held_out,
            held_out_places: hold.iter().map(|i| places[*i]).collect(),
            summary,
            max_rows,
            step: 0,
        })
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.step
    }

    pub fn is_finished(&self) -> bool {
        self.step >= self.summary.steps
    }

    /// Which of the records given were held out.
    pub fn held_out(&self) -> &[usize] {
        &self.held_out_places
    }

    /// The examples of a step, counted from 0: each epoch has its own order.
    fn examples_of(&self, step: usize) -> Vec<&Tokens> {
        let epoch = step / self.summary.steps_per_epoch;
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        Noise::new(self.options.seed ^ ((epoch as u64 + 1) << 32)).shuffle(&mut order);
        let at = step % self.summary.steps_per_epoch * self.options.batch_size;
        let end = (at + self.options.batch_size).min(order.len());
        order[at..end].iter().map(|i| &self.examples[*i]).collect()
    }

    /// One step over the next examples.
    ///
    /// # Errors
    /// If the loss is no number: the adapter is then as it was before.
    pub async fn step(&mut self, session: &mut Session) -> Result<StepReport> {
        let start = Instant::now();
        let step = self.step + 1;
        let seed = (self.options.seed as u32).wrapping_add(self.step as u32);
        let examples = self.examples_of(self.step);
        let batches = pack(&examples, self.max_rows, self.options.packing, seed);
        let (mut loss, mut tokens) = (0.0, 0);
        for batch in &batches {
            loss += session.train_batch(batch).await?;
            tokens += batch.rows();
        }
        let adamw = self.options.adamw(step, self.summary.steps);
        // Clears the gradients, too, when they are of no use.
        let grad_norm = session.optimise(&adamw).await?;
        if !loss.is_finite() || !grad_norm.is_finite() {
            let loss = if loss.is_finite() { grad_norm } else { loss };
            return Err(Error::NotFinite {
                step,
                loss,
                learning_rate: adamw.learning_rate,
            });
        }
        self.step = step;
        let every = self
            .options
            .eval_every
            .unwrap_or(self.summary.steps_per_epoch);
        let seconds = start.elapsed().as_secs_f64();
        let is_due = step.is_multiple_of(every) || self.is_finished();
        let held_out = if is_due {
            self.score(session).await?
        } else {
            None
        };
        Ok(StepReport {
            step,
            loss,
            learning_rate: adamw.learning_rate,
            grad_norm,
            tokens,
            seconds,
            held_out,
        })
    }

    /// Mean loss of the held-out examples; `None` where there are none.
    pub async fn score(&self, session: &mut Session) -> Result<Option<f32>> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let examples: Vec<&Tokens> = self.held_out.iter().collect();
        let batches: Vec<Batch> = pack(&examples, self.max_rows, self.options.packing, 0);
        let mut loss = 0.0;
        for batch in &batches {
            loss += session.loss_of(batch).await?;
        }
        Ok(Some(loss))
    }

    /// The adapter as it is now.
    pub async fn adapter(&self, session: &mut Session) -> Result<Adapter> {
        Ok(session.trained_adapter().await?)
    }

    /// Options and examples: what a checkpoint must agree in.
    fn made_with(&self) -> Json {
        let mut sum = Sha256::new();
        for example in self.examples.iter().chain(&self.held_out) {
            sum.update((example.ids.len() as u64).to_le_bytes());
            example
                .ids
                .iter()
                .for_each(|id| sum.update(id.to_le_bytes()));
            let learned: Vec<u8> = example.learned.iter().map(|l| u8::from(*l)).collect();
            sum.update(learned);
        }
        let examples: String = sum.finalize().iter().map(|b| format!("{b:02x}")).collect();
        json!({ "options": self.options, "examples": examples })
    }

    /// All that is needed to go on as if nothing had happened.
    pub async fn checkpoint(&self, session: &mut Session) -> Result<Vec<u8>> {
        let checkpoint = Checkpoint {
            step: self.step,
            made_with: self.made_with(),
            state: session.training_state().await?,
        };
        checkpoint.to_bytes()
    }

    /// Goes on from a checkpoint of the same training.
    ///
    /// # Errors
    /// If it is damaged, or was made with other options or examples; nothing is changed then.
    pub fn resume(&mut self, session: &mut Session, bytes: &[u8]) -> Result<()> {
        let checkpoint = Checkpoint::from_bytes(bytes)?;
        let mine = self.made_with();
        if checkpoint.made_with["examples"] != mine["examples"] {
            return Err(Error::OtherTraining("examples".into()));
        }
        let (theirs, mine) = (&checkpoint.made_with["options"], &mine["options"]);
        let differs = mine.as_object().into_iter().flatten();
        let differs: Vec<String> = differs
            .filter(|(key, value)| theirs[*key] != **value)
            .map(|(key, _)| format!("{key} ({})", theirs[key]))
            .collect();
        if !differs.is_empty() {
            return Err(Error::OtherTraining(differs.join(", ")));
        }
        session.set_training_state(checkpoint.state)?;
        self.step = checkpoint.step;
        Ok(())
    }
}
