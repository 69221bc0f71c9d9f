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
        let own = "it is an option of the objectives grpo and rloo";
        let set = [
            ("num_generations", self.num_generations.is_some()),
            (
                "max_completion_length",
                self.max_completion_length.is_some(),
            ),
            ("num_iterations", self.num_iterations.is_some()),
            ("epsilon", self.epsilon.is_some()),
            ("epsilon_high", self.epsilon_high.is_some()),
            (
                "mask_truncated_completions",
                self.mask_truncated_completions,
            ),
        ];
        for (field, is_set) in set {
            check(has_rollouts || !is_set, field, &"set", own)?;
        }
        let grpo_only = [
            ("scale_rewards", self.scale_rewards.is_some()),
            (
                "importance_sampling_level",
                self.importance_sampling_level.is_some(),
            ),
        ];
        for (field, is_set) in grpo_only {
            let own = "it is an option of the objective grpo";
            check(is_grpo || !is_set, field, &"set", own)?;
        }
        if !has_rollouts {
            return Ok(());
        }
        let n = self.num_generations();
        let range = "it must be from 2 to 1024";
        check((2..=1024).contains(&n), "num_generations", &n, range)?;
        let range = "it must be at least 1 and less than max_seq_len";
        let is_in_range = (1..self.max_seq_len).contains(&most);
        check(is_in_range, "max_completion_length", &most, range)?;
        let n = self.num_iterations();
        let range = "it must be from 1 to 1024";
        check((1..=1024).contains(&n), "num_iterations", &n, range)?;
        let e = self.epsilon.unwrap_or(EPSILON);
        let range = "it must be more than 0 and less than 1";
        check(e > 0.0 && e < 1.0, "epsilon", &e, range)?;
        let e = self.epsilon_high.unwrap_or(EPSILON);
        let is_in_range = e > 0.0 && e.is_finite();
        check(is_in_range, "epsilon_high", &e, "it must be more than 0")?;
        let range = "grpo and rloo have no held-out loss";
        if let Some(n) = self.eval_every {
            return check(false, "eval_every", &n, range);
        }
        match self.needs_held_out() {
            Some((field, value)) => check(false, field, &value, range),
            None => Ok(()),
        }
    }
}
