//! Runs the steps of a training run on a session.

use serde::Serialize;
use serde_json::{Value as Json, json};
use siskin_engine::{Adapter, Batch, Session};
use siskin_graph::Noise;
use web_time::Instant;

use crate::batch::pack;
use crate::training_checkpoint::TrainingCheckpoint;
use crate::{Error, Record, Result, Summary, Tokens, TrainOptions, TrainingPlan};

/// The outcome of a step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    /// Mean over the step's learned tokens, before the update.
    pub loss: f32,
    pub learning_rate: f32,
    /// Before clipping.
    pub grad_norm: f32,
    /// Tokens that were processed.
    pub tokens: usize,
    pub seconds: f64,
    /// Mean loss of the held-out examples after the step, where it was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f32>,
}

/// A training run in progress. Each call takes the session that it was created for, so that the session can answer
/// with the current adapter between steps.
#[derive(Debug)]
pub struct Trainer {
    plan: TrainingPlan,
    /// Distinguishes the model from others with the same shapes.
    model: String,
    step: usize,
}

/// Options that determine how long a training run is, not what it does.
const MAY_CHANGE: [&str; 3] = ["epochs", "steps", "eval_every"];

impl Trainer {
    pub(crate) fn at_start(plan: TrainingPlan, model: String) -> Self {
        Self {
            plan,
            model,
            step: 0,
        }
    }

    /// Prepares the training of a new adapter.
    ///
    /// # Errors
    /// As [`TrainingPlan::new`] and [`TrainingPlan::begin`].
    pub async fn new(
        session: &mut Session,
        records: &[Record],
        options: TrainOptions,
    ) -> Result<Self> {
        TrainingPlan::new(session, records, options)?
            .begin(session)
            .await
    }

    pub fn summary(&self) -> &Summary {
        &self.plan.summary
    }

    /// Completed steps.
    pub fn done(&self) -> usize {
        self.step
    }

    pub fn is_finished(&self) -> bool {
        self.step >= self.plan.summary.steps
    }

    /// Which of the given records are held out.
    pub fn held_out(&self) -> &[usize] {
        &self.plan.held_out_places
    }

    /// The examples of a step, counted from 0; each epoch has its own order.
    fn examples_of(&self, step: usize) -> Vec<&Tokens> {
        let epoch = step / self.plan.summary.steps_per_epoch;
        let mut order: Vec<usize> = (0..self.plan.examples.len()).collect();
        Noise::new(self.plan.options.seed ^ ((epoch as u64 + 1) << 32)).shuffle(&mut order);
        let at = step % self.plan.summary.steps_per_epoch * self.plan.options.batch_size;
        let end = (at + self.plan.options.batch_size).min(order.len());
        order[at..end]
            .iter()
            .map(|i| &self.plan.examples[*i])
            .collect()
    }

    /// The next step's runs.
    fn batches(&self) -> Vec<Batch> {
        let options = &self.plan.options;
        let seed = (options.seed as u32).wrapping_add(self.step as u32);
        let examples = self.examples_of(self.step);
        pack(&examples, self.plan.setup.rows, options.packing, seed)
    }

    /// Seconds per step, measured on the next one without an update.
    pub async fn measure(&self, session: &mut Session) -> Result<f64> {
        let start = Instant::now();
        for batch in &self.batches() {
            session.train_batch(batch).await?;
        }
        let seconds = start.elapsed().as_secs_f64();
        session.forget_gradients();
        Ok(seconds)
    }

    /// Takes one step on the next examples.
    ///
    /// # Errors
    /// If the loss is not finite: the adapter is then unchanged.
    pub async fn step(&mut self, session: &mut Session) -> Result<StepReport> {
        let start = Instant::now();
        let step = self.step + 1;
        let batches = self.batches();
        let (mut loss, mut tokens) = (0.0, 0);
        for batch in &batches {
            loss += session.train_batch(batch).await?;
            tokens += batch.rows();
        }
        let adamw = self.plan.options.adamw(step, self.plan.summary.steps);
        // Also clears gradients that are not used.
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
            .plan
            .options
            .eval_every
            .unwrap_or(self.plan.summary.steps_per_epoch);
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
        if self.plan.held_out.is_empty() {
            return Ok(None);
        }
        let examples: Vec<&Tokens> = self.plan.held_out.iter().collect();
        let batches: Vec<Batch> = pack(
            &examples,
            self.plan.setup.rows,
            self.plan.options.packing,
            0,
        );
        let mut loss = 0.0;
        for batch in &batches {
            loss += session.loss_of(batch).await?;
        }
        Ok(Some(loss))
    }

    /// The current adapter.
    pub async fn adapter(&self, session: &mut Session) -> Result<Adapter> {
        Ok(session.trained_adapter().await?)
    }

    /// Options, examples and model: what must match in a checkpoint.
    fn made_with(&self) -> Json {
        json!({
            "options": self.plan.options,
            "examples": self.plan.examples_sum,
            "model": self.model,
        })
    }

    /// Everything needed to resume as if there had been no interruption.
    pub async fn checkpoint(&self, session: &mut Session) -> Result<Vec<u8>> {
        let checkpoint = TrainingCheckpoint {
            step: self.step,
            made_with: self.made_with(),
            state: session.training_state().await?,
        };
        checkpoint.to_bytes()
    }

    /// Resumes from a checkpoint of the same training run; its planned length may differ.
    ///
    /// # Errors
    /// If it is damaged, or was made with other options, examples or another model; nothing is changed in that case.
    pub fn resume(&mut self, session: &mut Session, bytes: &[u8]) -> Result<()> {
        let checkpoint = TrainingCheckpoint::from_bytes(bytes)?;
        let mine = self.made_with();
        if checkpoint.made_with["model"] != mine["model"] {
            return Err(Error::OtherTraining("weights of the model".into()));
        }
        if checkpoint.made_with["examples"] != mine["examples"] {
            return Err(Error::OtherTraining("examples".into()));
        }
        let (theirs, mine) = (&checkpoint.made_with["options"], &mine["options"]);
        let differs = mine.as_object().into_iter().flatten();
        let differs: Vec<String> = differs
            .filter(|(key, value)| !MAY_CHANGE.contains(&key.as_str()) && theirs[*key] != **value)
            .map(|(key, _)| format!("{key} ({})", theirs[key]))
            .collect();
        if !differs.is_empty() {
            return Err(Error::OtherTraining(differs.join(", ")));
        }
        let steps = self.plan.summary.steps;
        if checkpoint.step > steps {
            let done = checkpoint.step;
            return Err(Error::PastTheEnd { done, steps });
        }
        session.set_training_state(checkpoint.state)?;
        self.step = checkpoint.step;
        Ok(())
    }
}
