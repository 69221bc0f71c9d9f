//! The options of objectives over preferences. Names are those of TRL's `DPOConfig`, `CPOConfig` and `KTOConfig`.

use crate::objective::{DataKind, PairLoss, RatedLoss};
use crate::{Error, LossOn, LossType, Objective, Result, TrainOptions};

/// The rates that are used where none is set. Objectives over preferences say which answer is to become likelier than
/// another, not how likely: at the rate of answers they lead a model away from both within 30 steps.
const LEARNING_RATE: f32 = 1e-3;
const PREFERENCE_RATE: f32 = 5e-5;
const REWARD_RATE: f32 = 1e-4;

/// Of SimPO, as its authors use them; TRL's defaults are CPO's.
const SIMPO_BETA: f32 = 2.0;
const SIMPO_GAMMA: f32 = 1.0;
const BETA: f32 = 0.1;
/// Those of TRL's `GRPOConfig` and `RLOOConfig`.
const GRPO_BETA: f32 = 0.0;
const RLOO_BETA: f32 = 0.05;

impl TrainOptions {
    /// The learning rate after warm-up.
    pub fn peak_rate(&self) -> f32 {
        let default = match self.objective.data() {
            DataKind::Answers => LEARNING_RATE,
            DataKind::Pairs | DataKind::Rated => PREFERENCE_RATE,
            DataKind::Prompts => REWARD_RATE,
        };
        self.learning_rate.unwrap_or(default)
    }

    /// With the values that apply where none is set: of this objective, for a training run of so many steps.
    pub fn resolved(&self, steps: usize) -> Self {
        let of = |objectives: &[Objective], value: f32| {
            objectives.contains(&self.objective).then_some(value)
        };
        let pair = self.pair_loss();
        let rated = self.rated_loss();
        Self {
            beta: (self.objective != Objective::Sft).then(|| self.beta()),
            loss_type: self.objective.has_loss_type().then_some(pair.loss_type),
            simpo_gamma: of(&[Objective::Simpo], pair.simpo_gamma as f32),
            cpo_alpha: of(
                &[Objective::Cpo, Objective::Simpo],
                self.nll_weight() as f32,
            ),
            desirable_weight: of(&[Objective::Kto], rated.desirable_weight as f32),
            undesirable_weight: of(&[Objective::Kto], rated.undesirable_weight as f32),
            lora_alpha: Some(self.alpha()),
            learning_rate: Some(self.peak_rate()),
            steps: Some(steps),
            ..self.with_schedule(steps)
        }
    }

    /// Whether the objective compares with the model without the adapter.
    pub(crate) fn has_reference(&self) -> bool {
        match self.objective {
            Objective::Dpo | Objective::Kto => true,
            Objective::Grpo | Objective::Rloo => self.beta() > 0.0,
            Objective::Sft | Objective::Orpo | Objective::Simpo | Objective::Cpo => false,
        }
    }

    pub(crate) fn beta(&self) -> f32 {
        let default = match self.objective {
            Objective::Simpo => SIMPO_BETA,
            Objective::Grpo => GRPO_BETA,
            Objective::Rloo => RLOO_BETA,
            _ => BETA,
        };
        self.beta.unwrap_or(default)
    }

    pub(crate) fn pair_loss(&self) -> PairLoss {
        PairLoss {
            objective: self.objective,
            loss_type: self.loss_type.unwrap_or_default(),
            beta: f64::from(self.beta()),
            label_smoothing: f64::from(self.label_smoothing),
            simpo_gamma: f64::from(self.simpo_gamma.unwrap_or(SIMPO_GAMMA)),
        }
    }

    pub(crate) fn rated_loss(&self) -> RatedLoss {
        let weight = |w: Option<f32>| f64::from(w.unwrap_or(1.0));
        RatedLoss {
            beta: f64::from(self.beta()),
            desirable_weight: weight(self.desirable_weight),
            undesirable_weight: weight(self.undesirable_weight),
        }
    }

    /// The weight of the chosen answers' cross-entropy in an objective over pairs.
    pub(crate) fn nll_weight(&self) -> f64 {
        match self.objective {
            Objective::Orpo => 1.0,
            Objective::Cpo => f64::from(self.cpo_alpha.unwrap_or(1.0)),
            Objective::Simpo => f64::from(self.cpo_alpha.unwrap_or(0.0)),
            Objective::Sft
            | Objective::Dpo
            | Objective::Kto
            | Objective::Grpo
            | Objective::Rloo => 0.0,
        }
    }

    /// # Errors
    /// If an option is out of range, or is not one of the objective's.
    pub(crate) fn check_objective(&self) -> Result<()> {
        use Objective::{Cpo, Dpo, Grpo, Kto, Orpo, Rloo, Sft, Simpo};
        let objective = self.objective;
        let wrong = |field, value: String, range| {
            Err(Error::Option {
                field,
                value,
                range,
            })
        };
        let positive = |v: f32| v > 0.0 && v.is_finite();
        let at_least_0 = |v: f32| v >= 0.0 && v.is_finite();
        type Numbers<'a> = [(&'static str, Option<f32>, bool, &'static str, bool); 5];
        let in_range = |v: Option<f32>, test: fn(f32) -> bool| v.is_none_or(test);
        let numbers: Numbers<'_> = [
            (
                "beta",
                self.beta,
                objective != Sft,
                "it must be more than 0 (or 0 for grpo and rloo), and the objective not sft",
                match objective {
                    Grpo | Rloo => in_range(self.beta, at_least_0),
                    _ => in_range(self.beta, positive),
                },
            ),
            (
                "simpo_gamma",
                self.simpo_gamma,
                objective == Simpo,
                "it must be at least 0, and the objective simpo",
                in_range(self.simpo_gamma, at_least_0),
            ),
            (
                "cpo_alpha",
                self.cpo_alpha,
                matches!(objective, Cpo | Simpo),
                "it must be at least 0, and the objective cpo or simpo",
                in_range(self.cpo_alpha, at_least_0),
            ),
            (
                "desirable_weight",
                self.desirable_weight,
                objective == Kto,
                "it must be more than 0, and the objective kto",
                in_range(self.desirable_weight, positive),
            ),
            (
                "undesirable_weight",
                self.undesirable_weight,
                objective == Kto,
                "it must be more than 0, and the objective kto",
                in_range(self.undesirable_weight, positive),
            ),
        ];
        for (field, value, is_its, range, is_in_range) in numbers {
            if let Some(value) = value.filter(|_| !is_its || !is_in_range) {
                return wrong(field, value.to_string(), range);
            }
        }
        let loss_type = self.loss_type.unwrap_or_default();
        let named = serde_json::to_value(loss_type).unwrap_or_default();
        let named = named.as_str().unwrap_or_default().to_string();
        if self.loss_type.is_some() && !objective.has_loss_type() {
            let range = "only the objectives dpo, cpo and grpo have one";
            return wrong("loss_type", named, range);
        }
        if self.loss_type.is_some() && loss_type.is_of_rewards() != (objective == Grpo) {
            let range =
                "dapo, grpo and dr_grpo are of the objective grpo, the others of dpo and cpo";
            return wrong("loss_type", named, range);
        }
        if loss_type == LossType::Robust && objective != Dpo {
            return wrong("loss_type", named, "it is one of the objective dpo");
        }
        let smoothed = match objective {
            Dpo | Cpo => matches!(loss_type, LossType::Sigmoid | LossType::Robust),
            Simpo => true,
            Sft | Orpo | Kto | Grpo | Rloo => false,
        };
        let smoothing = self.label_smoothing;
        if !(0.0..0.5).contains(&smoothing) || smoothing > 0.0 && !smoothed {
            let range = "it must be at least 0 and less than 0.5, and is for dpo and cpo (loss types sigmoid and robust) and \
                         simpo";
            return wrong("label_smoothing", smoothing.to_string(), range);
        }
        if objective == Kto && self.batch_size < 2 {
            let range =
                "kto compares the examples of a step with each other, so it must be at least 2";
            return wrong("batch_size", self.batch_size.to_string(), range);
        }
        if objective != Sft && self.loss_on != LossOn::Assistant {
            let range = "only the objective sft has a choice; others learn from completions";
            return wrong("loss_on", "all".into(), range);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_other_objectives_are_refused() {
        let of = |objective| TrainOptions {
            objective,
            ..TrainOptions::default()
        };
        let smoothed = |objective, loss_type| TrainOptions {
            loss_type,
            label_smoothing: 0.1,
            ..of(objective)
        };
        let beta = |beta, objective| TrainOptions {
            beta: Some(beta),
            ..of(objective)
        };
        for (options, field) in [
            (beta(0.1, Objective::Sft), "beta"),
            (beta(0.0, Objective::Dpo), "beta"),
            (beta(f32::NAN, Objective::Dpo), "beta"),
            (smoothed(Objective::Orpo, None), "label_smoothing"),
            (
                smoothed(Objective::Dpo, Some(LossType::Ipo)),
                "label_smoothing",
            ),
            (smoothed(Objective::Simpo, Some(LossType::Ipo)), "loss_type"),
            (
                smoothed(Objective::Cpo, Some(LossType::Robust)),
                "loss_type",
            ),
            (
                TrainOptions {
                    batch_size: 1,
                    ..of(Objective::Kto)
                },
                "batch_size",
            ),
            (
                TrainOptions {
                    loss_on: LossOn::All,
                    ..of(Objective::Dpo)
                },
                "loss_on",
            ),
            (
                TrainOptions {
                    simpo_gamma: Some(0.5),
                    ..of(Objective::Cpo)
                },
                "simpo_gamma",
            ),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(
            smoothed(Objective::Dpo, Some(LossType::Robust))
                .check()
                .is_ok()
        );
        assert!(smoothed(Objective::Simpo, None).check().is_ok());
        assert!(beta(0.1, Objective::Kto).check().is_ok());
    }
}
