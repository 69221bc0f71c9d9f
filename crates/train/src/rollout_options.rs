//! The options of objectives over rewards. Names are those of TRL's `GRPOConfig` and `RLOOConfig`.

use crate::objective::DataKind;
use crate::options::check;
use crate::policy_loss::{PolicyLoss, Ratio};
use crate::{ImportanceSamplingLevel, LossType, Objective, Result, TrainOptions};

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
        let most = self.max_completion_length();
        if let Some(n) = self.num_generations {
            let range = "it must be at least 2, and the objective grpo or rloo";
            check(has_rollouts && n >= 2, "num_generations", &n, range)?;
        }
        if let Some(n) = self.max_completion_length {
            let is_in_range = has_rollouts && (1..self.max_seq_len).contains(&n);
            let range =
                "it must be at least 1 and less than max_seq_len, and the objective grpo or rloo";
            check(is_in_range, "max_completion_length", &n, range)?;
        }
        if let Some(n) = self.num_iterations {
            let range = "it must be at least 1, and the objective grpo or rloo";
            check(has_rollouts && n >= 1, "num_iterations", &n, range)?;
        }
        if let Some(e) = self.epsilon {
            let is_in_range = has_rollouts && e > 0.0 && e < 1.0;
            let range = "it must be more than 0 and less than 1, and the objective grpo or rloo";
            check(is_in_range, "epsilon", &e, range)?;
        }
        if let Some(e) = self.epsilon_high {
            let is_in_range = has_rollouts && e > 0.0 && e.is_finite();
            let range = "it must be more than 0, and the objective grpo or rloo";
            check(is_in_range, "epsilon_high", &e, range)?;
        }
        let grpo_only = [
            ("scale_rewards", self.scale_rewards.is_some()),
            (
                "importance_sampling_level",
                self.importance_sampling_level.is_some(),
            ),
        ];
        for (field, is_set) in grpo_only {
            check(
                is_grpo || !is_set,
                field,
                &"set",
                "the objective must be grpo",
            )?;
        }
        let is_masked = self.mask_truncated_completions;
        let range = "the objective must be grpo or rloo";
        check(
            has_rollouts || !is_masked,
            "mask_truncated_completions",
            &"true",
            range,
        )?;
        if !has_rollouts {
            return Ok(());
        }
        let range = "grpo and rloo have no held-out loss";
        if let Some((field, value)) = self.needs_held_out() {
            return check(false, field, &value, range);
        }
        let range = "prompt and answer must fit: it must be more than max_completion_length";
        check(
            most < self.max_seq_len,
            "max_seq_len",
            &self.max_seq_len,
            range,
        )
    }
}
