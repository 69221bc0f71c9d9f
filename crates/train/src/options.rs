//! Training options. Names are those of PEFT's `LoraConfig` and transformers' `TrainingArguments`.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use siskin_engine::{AdamW, AdapterConfig, Checkpointing, MomentType};

use crate::policy_loss::{ImportanceSamplingLevel, ScaleRewards};
use crate::{Error, LossType, Objective, Result, Schedule};

/// How the optimiser stores its moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optim {
    #[serde(rename = "adamw")]
    AdamW,
    /// In 8 bits, block-wise: saves a third of an adapter's memory.
    #[serde(rename = "adamw_8bit")]
    AdamW8bit,
}

/// Which tokens are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// The assistant's, including the end of each of its turns.
    Assistant,
    All,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    pub objective: Objective,
    /// How strongly the objective holds on to the reference, or the scale of its rewards; by default 0.1, for SimPO 2.
    pub beta: Option<f32>,
    /// Of DPO and CPO, by default the sigmoid; of GRPO, by default DAPO's.
    pub loss_type: Option<LossType>,
    /// The probability that a pair is taken to be the other way round.
    pub label_smoothing: f32,
    /// The margin of SimPO's rewards; 1 by default.
    pub simpo_gamma: Option<f32>,
    /// The weight of the chosen answers' cross-entropy: of CPO 1 by default, of SimPO 0.
    pub cpo_alpha: Option<f32>,
    /// The weights of KTO's desirable and undesirable answers; 1 by default.
    pub desirable_weight: Option<f32>,
    pub undesirable_weight: Option<f32>,
    /// Answers that are drawn for each prompt, and the most tokens of one; 8 and 128 by default.
    pub num_generations: Option<usize>,
    pub max_completion_length: Option<usize>,
    /// Updates with the answers of a step; 1 by default.
    pub num_iterations: Option<usize>,
    /// By how much the probability of what was drawn counts as less or more; 0.2 by default, above as below.
    pub epsilon: Option<f32>,
    pub epsilon_high: Option<f32>,
    /// What GRPO divides advantages by; by default the standard deviation of the group's rewards.
    pub scale_rewards: Option<ScaleRewards>,
    /// What GRPO compares probabilities of; by default each token's.
    pub importance_sampling_level: Option<ImportanceSamplingLevel>,
    /// Answers that did not end are not learned from.
    pub mask_truncated_completions: bool,
    pub rank: usize,
    /// The adapter is scaled by `lora_alpha / rank`, or with rslora by `lora_alpha / √rank`; by default
    /// twice the rank.
    pub lora_alpha: Option<f32>,
    pub use_rslora: bool,
    /// Weights are split into magnitudes, which are learned too, and directions, which the adapter changes.
    pub use_dora: bool,
    /// `q_proj … down_proj`, or `all-linear`.
    pub target_modules: Vec<String>,
    pub lora_dropout: f32,
    pub optim: Optim,
    /// By default 1e-3, 5e-5 for objectives over preferences, and 1e-4 for those over rewards.
    pub learning_rate: Option<f32>,
    pub schedule: Schedule,
    /// Steps over which the rate rises to its peak; 5 by default.
    pub warmup_steps: Option<usize>,
    /// The same as a fraction of all steps.
    pub warmup_ratio: Option<f32>,
    /// How often the schedule `cosine_with_restarts` begins at the peak; 1 by default.
    pub num_cycles: Option<usize>,
    /// How many of the last steps the schedule `warmup_stable_decay` decays in; by default a fifth of those after warm-up.
    pub num_decay_steps: Option<usize>,
    /// What a schedule decays to, as a fraction of the peak.
    pub min_lr_rate: f32,
    /// Decays of AdamW's moments per step, and what is added to the root of the second.
    pub adam_beta1: f32,
    pub adam_beta2: f32,
    pub adam_epsilon: f32,
    pub weight_decay: f32,
    pub max_grad_norm: f32,
    pub epochs: usize,
    /// Number of steps, instead of epochs.
    pub steps: Option<usize>,
    /// Examples per step. Gradients are accumulated over several runs where one run cannot hold them.
    pub batch_size: usize,
    /// Longer examples are truncated; packed runs have at most this many tokens.
    pub max_seq_len: usize,
    /// Plain texts that are longer become several examples instead, each of which begins with so many tokens of the one
    /// before, which are not learned again.
    pub chunk_overlap: Option<usize>,
    /// Put several examples into one run; they do not attend to each other.
    pub packing: bool,
    pub loss_on: LossOn,
    /// Fraction of the examples that is held out, to measure whether what is learned generalises.
    pub validation: f32,
    /// Steps between scores of the held-out examples; by default once per epoch.
    pub eval_every: Option<usize>,
    /// The training ends when so many scores in a row were no better than the best one.
    pub early_stopping_patience: Option<usize>,
    /// The adapter at the end is the one whose score was the best.
    pub load_best_model_at_end: bool,
    /// Blocks that are recomputed together in the backward pass, to save memory; 0 keeps all values.
    pub gradient_checkpointing: usize,
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            objective: Objective::Sft,
            beta: None,
            loss_type: None,
            label_smoothing: 0.0,
            simpo_gamma: None,
            cpo_alpha: None,
            desirable_weight: None,
            undesirable_weight: None,
            num_generations: None,
            max_completion_length: None,
            num_iterations: None,
            epsilon: None,
            epsilon_high: None,
            scale_rewards: None,
            importance_sampling_level: None,
            mask_truncated_completions: false,
            rank: 8,
            lora_alpha: None,
            use_rslora: false,
            use_dora: false,
            target_modules: vec!["all-linear".into()],
            lora_dropout: 0.0,
            optim: Optim::AdamW,
            learning_rate: None,
            schedule: Schedule::Cosine,
            warmup_steps: None,
            warmup_ratio: None,
            num_cycles: None,
            num_decay_steps: None,
            min_lr_rate: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            epochs: 3,
            steps: None,
            batch_size: 4,
            max_seq_len: 512,
            chunk_overlap: None,
            packing: true,
            loss_on: LossOn::Assistant,
            validation: 0.1,
            eval_every: None,
            early_stopping_patience: None,
            load_best_model_at_end: false,
            gradient_checkpointing: 0,
            seed: 0,
        }
    }
}

impl TrainOptions {
    /// # Errors
    /// If a value is out of range.
    pub fn check(&self) -> Result<()> {
        let positive = |v: f32| v > 0.0 && v.is_finite();
        let (rate, decay, clip) = (self.peak_rate(), self.weight_decay, self.max_grad_norm);
        check(
            (1..=1024).contains(&self.rank),
            "rank",
            &self.rank,
            "it must be from 1 to 1024",
        )?;
        check(
            positive(self.alpha()),
            "lora_alpha",
            &self.alpha(),
            "it must be more than 0",
        )?;
        check(
            positive(rate),
            "learning_rate",
            &rate,
            "it must be more than 0, such as 1e-3",
        )?;
        let drop = self.lora_dropout;
        check(
            (0.0..1.0).contains(&drop),
            "lora_dropout",
            &drop,
            "it must be at least 0 and less than 1",
        )?;
        check(
            (0.0..1.0).contains(&decay),
            "weight_decay",
            &decay,
            "it must be at least 0 and less than 1",
        )?;
        check(
            clip > 0.0 && !clip.is_nan(),
            "max_grad_norm",
            &clip,
            "it must be more than 0",
        )?;
        check(
            self.batch_size > 0,
            "batch_size",
            &self.batch_size,
            "it must be at least 1",
        )?;
        check(
            self.max_seq_len > 1,
            "max_seq_len",
            &self.max_seq_len,
            "it must be at least 2",
        )?;
        if let Some(overlap) = self.chunk_overlap {
            check(
                2 * overlap <= self.max_seq_len && self.objective == Objective::Sft,
                "chunk_overlap",
                &overlap,
                "it must be at most half of max_seq_len, and the objective sft",
            )?;
        }
        check(self.steps != Some(0), "steps", &0, "it must be at least 1")?;
        check(
            self.eval_every != Some(0),
            "eval_every",
            &0,
            "it must be at least 1",
        )?;
        let epochs = self.epochs > 0 || self.steps.is_some();
        check(epochs, "epochs", &self.epochs, "it must be at least 1")?;
        let held = self.validation;
        check(
            (0.0..=0.9).contains(&held),
            "validation",
            &held,
            "it must be from 0 to 0.9",
        )?;
        let targets = !self.target_modules.is_empty();
        check(
            targets,
            "target_modules",
            &"empty",
            "use all-linear, or names such as q_proj",
        )?;
        check(
            self.early_stopping_patience != Some(0),
            "early_stopping_patience",
            &0,
            "it must be at least 1",
        )?;
        self.check_schedule()?;
        self.check_rollouts()?;
        self.check_objective()
    }

    /// The option that needs held-out examples, if one does, and its value.
    pub(crate) fn needs_held_out(&self) -> Option<(&'static str, String)> {
        match self.early_stopping_patience {
            Some(n) => Some(("early_stopping_patience", n.to_string())),
            None if self.load_best_model_at_end => Some(("load_best_model_at_end", "true".into())),
            None => None,
        }
    }

    pub(crate) fn alpha(&self) -> f32 {
        self.lora_alpha.unwrap_or(2.0 * self.rank as f32)
    }

    pub fn adamw(&self, step: usize, total: usize) -> AdamW {
        AdamW {
            learning_rate: self.rate(step, total),
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            eps: self.adam_epsilon,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            step: step as u32,
        }
    }

    pub fn checkpointing(&self) -> Checkpointing {
        match self.gradient_checkpointing {
            0 => Checkpointing::Off,
            n => Checkpointing::Every(n),
        }
    }

    pub fn moments(&self) -> MomentType {
        match self.optim {
            Optim::AdamW => MomentType::F32,
            Optim::AdamW8bit => MomentType::Int8,
        }
    }

    /// The adapter's configuration for PEFT.
    pub fn adapter_config(&self, base: &str) -> AdapterConfig {
        let targets = match &self.target_modules[..] {
            [all] if all == "all-linear" => serde_json::json!(all),
            names => serde_json::json!(names),
        };
        AdapterConfig {
            base_model_name_or_path: Some(base.into()),
            lora_dropout: self.lora_dropout,
            use_rslora: self.use_rslora,
            use_dora: self.use_dora,
            target_modules: targets,
            ..AdapterConfig::plain(self.rank, self.alpha())
        }
    }
}

/// # Errors
/// If an option's value is not `ok`.
pub(crate) fn check(
    ok: bool,
    field: &'static str,
    value: &dyn Display,
    range: &'static str,
) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Option {
        field,
        value: value.to_string(),
        range,
    })
}

/// The `known` name most similar to a wrong one, if any is similar enough.
pub fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|k| (strsim::jaro_winkler(wrong, k), *k));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_and_names_are_told() {
        let o = TrainOptions {
            lora_dropout: 1.0,
            ..TrainOptions::default()
        };
        assert!(
            o.check()
                .unwrap_err()
                .to_string()
                .contains("lora_dropout is 1")
        );
        assert_eq!(
            nearest("learning_rat", &["rank", "learning_rate"]),
            Some("learning_rate")
        );
        assert_eq!(nearest("zzz", &["rank"]), None);
    }
}
