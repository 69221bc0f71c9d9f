//! The best score of the held-out examples: when to stop early, and which adapter to keep.

use siskin_engine::{Session, TrainingState};

use crate::{Result, TrainOptions};

/// The lowest held-out loss so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Best {
    pub loss: f32,
    /// After which step.
    pub step: usize,
    /// Scores since that were no better.
    pub since: usize,
    /// The parameters of then, if they are wanted at the end.
    pub params: Vec<f32>,
}

impl Best {
    /// What is best after another score.
    pub async fn after(
        best: Option<Self>,
        loss: f32,
        step: usize,
        options: &TrainOptions,
        session: &mut Session,
    ) -> Result<Self> {
        match best {
            // What is not a number is worse than any that is.
            Some(mut best) if loss.is_nan() || loss >= best.loss => {
                best.since += 1;
                Ok(best)
            }
            _ => Self::of(loss, step, options, session).await,
        }
    }

    async fn of(
        loss: f32,
        step: usize,
        options: &TrainOptions,
        session: &mut Session,
    ) -> Result<Self> {
        Ok(Self {
            loss,
            step,
            since: 0,
            params: match options.load_best_model_at_end {
                true => session.training_state().await?.params,
                false => vec![],
            },
        })
    }

    /// Whether the training is to end.
    pub fn ends(&self, options: &TrainOptions) -> bool {
        options
            .early_stopping_patience
            .is_some_and(|patience| self.since >= patience)
    }

    /// Makes its adapter the session's, if that is wanted.
    pub async fn restore(&self, session: &mut Session) -> Result<()> {
        if self.params.is_empty() || self.since == 0 {
            return Ok(());
        }
        let state = TrainingState {
            params: self.params.clone(),
            moments: session.training_state().await?.moments,
        };
        Ok(session.set_training_state(state)?)
    }
}
