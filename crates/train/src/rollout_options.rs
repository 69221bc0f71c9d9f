//! The options of objectives over rewards. Names are those of TRL's `GRPOConfig` and `RLOOConfig`.

use crate::objective::DataKind;
use crate::policy_loss::{PolicyLoss, Ratio};
use crate::{Error, ImportanceSamplingLevel, LossType, Objective, Result, TrainOptions};

const NUM_GENERATIONS: usize = 8;
const MAX_COMPLETION_LENGTH: usize = 128;
const EPSILON: f32 = 0.2;

impl TrainOptions {
    /// Answers that are drawn for each prompt.
    pub fn num_generations(&self) -> usize {
        self.num_generations.unwrap_or(NUM_GENERATIONS)
    }

    /// The most tokens of an answer that is drawn.
    pub fn max_completion_length(&self) -> usize {
        self.max_completion_length.unwrap_or(MAX_COMPLETION_LENGTH)
    }

    pub(crate) fn num_iterations(&self) -> usize {
        self.num_iterations.unwrap_or(1)
    }

    pub(crate) fn policy_loss(&self) -> PolicyLoss {
        let level = self.importance_sampling_level.unwrap_or_default();
        let (low, is_rloo) = (
            self.epsilon.unwrap_or(EPSILON),
            self.objective == Objective::Rloo,
        );
        PolicyLoss {
            ratio: match level {
                _ if is_rloo => Ratio::Answer,
                ImportanceSamplingLevel::Token => Ratio::Token,
                ImportanceSamplingLevel::Sequence => Ratio::Sequence,
            },
            epsilon: [low, self.epsilon_high.unwrap_or(low)].map(f64::from),
            // RLOO's divergence is part of its rewards.
            beta: if is_rloo { 0.0 } else { f64::from(self.beta()) },
        }
    }

    pub(crate) fn policy_loss_type(&self) -> LossType {
        self.loss_type.unwrap_or(LossType::Dapo)
    }

    /// # Errors
    /// If an option is out of range, or is not one of the objective's.
    pub(crate) fn check_rollouts(&self) -> Result<()> {
        let has_rollouts = self.objective.data() == DataKind::Prompts;
        let is_grpo = self.objective == Objective::Grpo;
        let count = |n: Option<usize>| n.map(|n| n.to_string());
        let number = |n: Option<f32>| n.map(|n| n.to_string());
        let set = |is_set: bool| is_set.then(|| "set".to_string());
        let is_share = |e: Option<f32>| e.is_none_or(|e| e > 0.0 && e.is_finite());
        let most = self.max_completion_length();
        let checks = [
            (
                "num_generations",
                count(self.num_generations),
                has_rollouts && self.num_generations() >= 2,
                "it must be at least 2, and the objective grpo or rloo",
            ),
            (
                "max_completion_length",
                count(self.max_completion_length),
                has_rollouts && (1..self.max_seq_len).contains(&most),
                "it must be at least 1 and less than max_seq_len, and the objective grpo or rloo",
            ),
            (
                "num_iterations",
                count(self.num_iterations),
                has_rollouts && self.num_iterations() >= 1,
                "it must be at least 1, and the objective grpo or rloo",
            ),
            (
                "epsilon",
                number(self.epsilon),
                has_rollouts && is_share(self.epsilon) && self.epsilon.is_none_or(|e| e < 1.0),
                "it must be more than 0 and less than 1, and the objective grpo or rloo",
            ),
            (
                "epsilon_high",
                number(self.epsilon_high),
                has_rollouts && is_share(self.epsilon_high),
                "it must be more than 0, and the objective grpo or rloo",
            ),
            (
                "mask_truncated_completions",
                set(self.mask_truncated_completions),
                has_rollouts,
                "the objective must be grpo or rloo",
            ),
            (
                "scale_rewards",
                set(self.scale_rewards.is_some()),
                is_grpo,
                "the objective must be grpo",
            ),
            (
                "importance_sampling_level",
                set(self.importance_sampling_level.is_some()),
                is_grpo,
                "the objective must be grpo",
            ),
            (
                "early_stopping_patience",
                count(self.early_stopping_patience),
                !has_rollouts,
                "grpo and rloo have no held-out loss",
            ),
            (
                "load_best_model_at_end",
                set(self.load_best_model_at_end),
                !has_rollouts,
                "grpo and rloo have no held-out loss",
            ),
        ];
        let wrong = checks.into_iter().find(|c| c.1.is_some() && !c.2);
        if let Some((field, Some(value), _, range)) = wrong {
            return Err(Error::Option {
                field,
                value,
                range,
            });
        }
        if has_rollouts && most >= self.max_seq_len {
            return Err(Error::Option {
                field: "max_seq_len",
                value: self.max_seq_len.to_string(),
                range: "prompt and answer must fit: it must be more than max_completion_length",
            });
        }
        Ok(())
    }
}
