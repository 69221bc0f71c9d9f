//! Runs the steps of a training run on a session.

use serde::Serialize;
use serde_json::{Value as Json, json};
use siskin_engine::{Adapter, Batch, Session};
use web_time::Instant;

use crate::batch::{epoch_order, pack};
use crate::best::Best;
use crate::objective::DataKind;
use crate::preference_step::References;
use crate::training_checkpoint::TrainingCheckpoint;
use crate::{
    Error, Preferences, Record, Result, Rewarded, Summary, Tokens, TrainOptions, TrainingPlan,
};

/// The outcome of a step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    /// Before the update: the mean over the step's learned tokens, or of the objective over its examples.
    pub loss: f32,
    pub learning_rate: f32,
    /// Before clipping.
    pub grad_norm: f32,
    /// Tokens that were processed.
    pub tokens: usize,
    /// Without drawing answers, and without judging them.
    pub seconds: f64,
    /// What an objective over preferences is made of.
    #[serde(flatten)]
    pub preferences: Option<Preferences>,
    /// What the rewards of an objective over rewards are.
    #[serde(flatten)]
    pub rewarded: Option<Rewarded>,
    /// Loss of the held-out examples after the step, where it was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f32>,
    /// The fraction of held-out pairs whose chosen answer has the greater reward.
    #[serde(
        rename = "held_out_rewards/accuracies",
        skip_serializing_if = "Option::is_none"
    )]
    pub held_out_accuracies: Option<f32>,
}

/// What the held-out examples give.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldOut {
    pub loss: f32,
    #[serde(flatten)]
    pub preferences: Option<Preferences>,
}

/// What a step's gradients are of.
pub(crate) struct Accumulated {
    pub loss: f32,
    pub tokens: usize,
    pub preferences: Option<Preferences>,
    pub rewarded: Option<Rewarded>,
}

/// What became of an update.
pub(crate) struct Updated {
    pub learning_rate: f32,
    pub grad_norm: f32,
}

/// A training run in progress. Each call takes the session that it was created for, so that the session can answer
/// with the current adapter between steps.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) plan: TrainingPlan,
    /// Log-probabilities by the model without the adapter.
    pub(crate) references: References,
    /// Distinguishes the model from others with the same shapes.
    model: String,
    pub(crate) step: usize,
    /// In which the last answers were drawn.
    pub(crate) drawing_seconds: f64,
    best: Option<Best>,
}

/// Options that determine how long a training run is, not what it does.
const MAY_CHANGE: [&str; 4] = ["epochs", "steps", "eval_every", "early_stopping_patience"];

/// Whether two values of an option are the same: numbers of an option are f32, and reading JSON may change their last digit.
fn is_same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) if a.is_f64() && b.is_f64() => {
            a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32)
        }
        _ => a == b,
    }
}

impl Trainer {
    pub(crate) fn at_start(plan: TrainingPlan, model: String) -> Self {
        let items = plan.examples.len() + plan.held_out.len();
        Self {
            plan,
            references: References::of(items),
            model,
            step: 0,
            drawing_seconds: 0.0,
            best: None,
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

    /// After the last step, or if `early_stopping_patience` ends the training before it.
    pub fn is_finished(&self) -> bool {
        let ends = |best: &Best| best.ends(&self.plan.options);
        self.step >= self.plan.summary.steps || self.best.as_ref().is_some_and(ends)
    }

    /// The step after which the held-out loss was lowest; `None` before it was scored.
    pub fn best_step(&self) -> Option<usize> {
        Some(self.best.as_ref()?.step)
    }

    /// Which of the given records are held out; those that were given to be follow the others.
    pub fn held_out(&self) -> &[usize] {
        &self.plan.held_out_places
    }

    /// The places of the examples of a step, counted from 0; each epoch has its own order.
    pub(crate) fn examples_of(&self, step: usize) -> Vec<usize> {
        let epoch = step / self.plan.summary.steps_per_epoch;
        let order = epoch_order(self.plan.examples.len(), self.plan.options.seed, epoch);
        let at = step % self.plan.summary.steps_per_epoch * self.plan.options.batch_size;
        let end = (at + self.plan.options.batch_size).min(order.len());
        order[at..end].to_vec()
    }

    pub(crate) fn data(&self) -> DataKind {
        self.plan.options.objective.data()
    }

    /// Whether steps are taken with [`Self::roll_out`] and [`Self::learn`] instead of [`Self::step`].
    pub fn needs_rewards(&self) -> bool {
        self.data() == DataKind::Prompts
    }

    pub(crate) fn dropout_seed(&self) -> u32 {
        (self.plan.options.seed as u32).wrapping_add(self.step as u32)
    }

    /// Of the next step's run at this place.
    pub(crate) fn run_seed(&self, at: usize) -> u32 {
        let seed = self.dropout_seed().wrapping_mul(0x9e37_79b9);
        seed.wrapping_add(at as u32)
    }

    /// The next step's runs.
    fn batches(&self) -> Vec<Batch> {
        let examples = self.examples_of(self.step).into_iter();
        let texts = examples.flat_map(|i| &self.plan.examples[i].texts);
        let texts: Vec<&Tokens> = texts.collect();
        let (rows, packing) = (self.plan.setup.rows, self.plan.options.packing);
        pack(&texts, rows, packing, self.dropout_seed())
    }

    /// Accumulates the gradients of the next step.
    async fn accumulate(&mut self, session: &mut Session) -> Result<Accumulated> {
        let mut out = Accumulated {
            loss: 0.0,
            tokens: 0,
            preferences: None,
            rewarded: None,
        };
        match self.data() {
            DataKind::Prompts => return Err(Error::NoRewards),
            DataKind::Answers => {
                for batch in &self.batches() {
                    out.loss += session.train_batch(batch).await?;
                    out.tokens += batch.rows();
                }
            }
            DataKind::Pairs | DataKind::Rated => {
                let examples = self.examples_of(self.step);
                let found = self.accumulate_preferences(session, &examples).await?;
                (out.loss, out.tokens) = (found.loss, found.tokens);
                out.preferences = Some(found.preferences);
            }
        }
        Ok(out)
    }

    /// Seconds per step, measured on the next one without an update.
    pub async fn measure(&mut self, session: &mut Session) -> Result<f64> {
        let start = Instant::now();
        match self.data() {
            DataKind::Prompts => self.measure_answers(session).await?,
            _ => _ = self.accumulate(session).await?,
        }
        let seconds = start.elapsed().as_secs_f64();
        session.forget_gradients();
        Ok(seconds)
    }

    /// The gradients of the next step, which is not taken, in the place of A, B and magnitudes.
    pub async fn gradients(&mut self, session: &mut Session) -> Result<Adapter> {
        self.accumulate(session).await?;
        let gradients = session.gradients().await?;
        session.forget_gradients();
        Ok(gradients)
    }

    /// Takes one step on the next examples. After the last one, the session has the adapter that is to be kept.
    ///
    /// # Errors
    /// If the loss is not finite: the adapter is then unchanged.
    pub async fn step(&mut self, session: &mut Session) -> Result<StepReport> {
        let start = Instant::now();
        let found = self.accumulate(session).await?;
        let updated = self.update(session, found.loss, self.step + 1).await?;
        self.report(session, start, found, updated).await
    }

    /// Updates the parameters with the gradients of the next step's loss. `updates` counts this one too.
    pub(crate) async fn update(
        &self,
        session: &mut Session,
        loss: f32,
        updates: usize,
    ) -> Result<Updated> {
        let step = self.step + 1;
        let mut adamw = self.plan.options.adamw(step, self.plan.summary.steps);
        adamw.step = updates as u32;
        let not_finite = |loss| Error::NotFinite {
            step,
            loss,
            learning_rate: adamw.learning_rate,
        };
        if !loss.is_finite() {
            session.forget_gradients();
            return Err(not_finite(loss));
        }
        let grad_norm = session.optimise(&adamw).await?;
        if !grad_norm.is_finite() {
            return Err(not_finite(grad_norm));
        }
        Ok(Updated {
            learning_rate: adamw.learning_rate,
            grad_norm,
        })
    }

    /// Ends a step after its update.
    pub(crate) async fn report(
        &mut self,
        session: &mut Session,
        start: Instant,
        found: Accumulated,
        updated: Updated,
    ) -> Result<StepReport> {
        self.step += 1;
        let step = self.step;
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
        if let Some(score) = held_out {
            let (best, options) = (self.best.take(), &self.plan.options);
            let best = Best::after(best, score.loss, step, options, session).await?;
            self.best = Some(best);
            if self.is_finished()
                && let Some(best) = &self.best
            {
                best.restore(session).await?;
            }
        }
        Ok(StepReport {
            step,
            loss: found.loss,
            learning_rate: updated.learning_rate,
            grad_norm: updated.grad_norm,
            tokens: found.tokens,
            seconds,
            preferences: found.preferences,
            rewarded: found.rewarded,
            held_out: held_out.map(|h| h.loss),
            held_out_accuracies: held_out.and_then(|h| h.preferences?.accuracies),
        })
    }

    /// Scores the held-out examples; `None` where there are none.
    pub async fn score(&mut self, session: &mut Session) -> Result<Option<HeldOut>> {
        if self.plan.held_out.is_empty() || self.needs_rewards() {
            return Ok(None);
        }
        if self.data() != DataKind::Answers {
            return Ok(Some(self.score_preferences(session).await?));
        }
        let texts = self.plan.held_out.iter().flat_map(|item| &item.texts);
        let examples: Vec<&Tokens> = texts.collect();
        let batches: Vec<Batch> = pack(
            &examples,
            self.plan.setup.rows,
            self.plan.options.packing,
            0,
        );
        let mut loss = 0.0;
        for batch in &batches {
            loss += session.losses_of(batch).await?.iter().sum::<f32>();
        }
        Ok(Some(HeldOut {
            loss,
            preferences: None,
        }))
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
            best: self.best.clone(),
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
        // A checkpoint of a version without an option was made with its default.
        let mut theirs = json!(TrainOptions::default());
        if let (Json::Object(all), Json::Object(given)) =
            (&mut theirs, &checkpoint.made_with["options"])
        {
            all.extend(given.clone());
        }
        let mine = &mine["options"];
        let differs = mine.as_object().into_iter().flatten();
        let differs: Vec<String> = differs
            .filter(|(key, value)| {
                !MAY_CHANGE.contains(&key.as_str()) && !is_same(&theirs[*key], value)
            })
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
        self.best = checkpoint.best;
        Ok(())
    }
}
