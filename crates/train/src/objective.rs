//! Objectives: what is minimised, as TRL 1.x computes it. An objective over preferences depends on an answer only by the
//! log-probability of its tokens, so its gradient is that of a cross-entropy with a weight for each answer: the
//! objective's slope.

use serde::{Deserialize, Serialize};

/// What a training run minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Cross-entropy of the answers (supervised fine-tuning).
    #[default]
    Sft,
    /// Rafailov et al., "Direct Preference Optimization" (2023).
    Dpo,
    /// Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model" (2024).
    Orpo,
    /// Meng et al., "SimPO: Simple Preference Optimization with a Reference-Free Reward" (2024).
    Simpo,
    /// Xu et al., "Contrastive Preference Optimization" (2024).
    Cpo,
    /// Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization" (2024).
    Kto,
    /// Shao et al., "DeepSeekMath" (2024): the model's own answers, which are rewarded.
    Grpo,
    /// Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization" (2024).
    Rloo,
}

/// What examples an objective learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// One text to be learned.
    Answers,
    /// A chosen and a rejected answer.
    Pairs,
    /// An answer with a label.
    Rated,
    Prompts,
}

impl Objective {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Orpo => "orpo",
            Self::Simpo => "simpo",
            Self::Cpo => "cpo",
            Self::Kto => "kto",
            Self::Grpo => "grpo",
            Self::Rloo => "rloo",
        }
    }

    /// What examples it learns from.
    pub fn data(self) -> DataKind {
        match self {
            Self::Sft => DataKind::Answers,
            Self::Kto => DataKind::Rated,
            Self::Grpo | Self::Rloo => DataKind::Prompts,
            Self::Dpo | Self::Orpo | Self::Simpo | Self::Cpo => DataKind::Pairs,
        }
    }

    /// Whether it learns from answers that the model draws.
    pub fn is_of_rewards(self) -> bool {
        self.data() == DataKind::Prompts
    }

    /// Objectives that take a loss type.
    pub(crate) fn has_loss_type(self) -> bool {
        matches!(self, Self::Dpo | Self::Cpo | Self::Grpo)
    }
}

/// How DPO and CPO penalise a margin, and what GRPO divides the sum of its tokens' losses by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// The negative log-sigmoid; with label smoothing, that of conservative DPO.
    #[default]
    Sigmoid,
    /// Zhao et al., "SLiC-HF" (2023).
    Hinge,
    /// Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences" (2023); of means over
    /// tokens.
    Ipo,
    /// Chowdhury et al., "Provably Robust DPO" (2024): unbiased if labels are flipped with the probability that is the label
    /// smoothing. For DPO.
    Robust,
    /// The tokens of the step's answers: Yu et al., "DAPO" (2025). GRPO's default.
    Dapo,
    /// The tokens of each answer, and the number of answers, as GRPO's authors have it.
    Grpo,
    /// The most tokens that the step's answers could have: Liu et al., "Understanding R1-Zero-Like Training" (2025).
    DrGrpo,
}

impl LossType {
    /// Those of GRPO, as against those of pairs.
    pub(crate) fn is_of_rewards(self) -> bool {
        matches!(self, Self::Dapo | Self::Grpo | Self::DrGrpo)
    }
}

/// The log-probability of an answer: the sum over its tokens, of which there are `len`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Score {
    pub sum: f64,
    pub len: usize,
}

impl Score {
    fn mean(self) -> f64 {
        self.sum / self.len.max(1) as f64
    }
}

/// The value of an objective for one example.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Value {
    pub loss: f64,
    /// By how much the loss changes with the sum of each answer's log-probabilities.
    pub slopes: [f64; 2],
    pub rewards: [f64; 2],
    /// As TRL reports them: sums or means.
    pub logps: [f64; 2],
    /// The log of the odds ratio, and of its sigmoid.
    pub odds: Option<[f64; 2]>,
}

/// An objective over pairs with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairLoss {
    pub objective: Objective,
    pub loss_type: LossType,
    pub beta: f64,
    pub label_smoothing: f64,
    /// What the rewards of a pair should differ by at least.
    pub simpo_gamma: f64,
}

impl PairLoss {
    /// Whether margins are of means over tokens.
    fn is_of_means(&self) -> bool {
        match self.objective {
            Objective::Simpo | Objective::Orpo => true,
            _ => self.loss_type == LossType::Ipo,
        }
    }

    /// The chosen and the rejected answer by the policy, and their sums by the reference.
    pub fn of(&self, policy: [Score; 2], reference: [f64; 2]) -> Value {
        let shares = policy.map(|p| match self.is_of_means() {
            true => 1.0 / p.len.max(1) as f64,
            false => 1.0,
        });
        let gains = [0, 1].map(|i| (policy[i].sum - reference[i]) * shares[i]);
        let means_or_sums = [0, 1].map(|i| policy[i].sum * shares[i]);
        if self.objective == Objective::Orpo {
            return self.odds(policy, shares);
        }
        let (loss, slope) = match self.objective {
            Objective::Simpo => self.sigmoid(self.beta * (gains[0] - gains[1]) - self.simpo_gamma),
            _ => self.margin(gains[0] - gains[1]),
        };
        // DPO's rewards are of sums, whatever its loss is of.
        let (rewards, logps) = match self.objective {
            Objective::Dpo => (
                [0, 1].map(|i| policy[i].sum - reference[i]),
                policy.map(|p| p.sum),
            ),
            _ => (gains, means_or_sums),
        };
        Value {
            loss,
            slopes: [slope * shares[0], -slope * shares[1]],
            rewards: rewards.map(|r| self.beta * r),
            logps,
            odds: None,
        }
    }

    /// The loss of a margin, and its slope.
    fn margin(&self, margin: f64) -> (f64, f64) {
        let beta = self.beta;
        match self.loss_type {
            // The others are not of pairs, which the options' check tells.
            LossType::Sigmoid | LossType::Dapo | LossType::Grpo | LossType::DrGrpo => {
                self.sigmoid(beta * margin)
            }
            LossType::Hinge if beta * margin < 1.0 => (1.0 - beta * margin, -beta),
            LossType::Hinge => (0.0, 0.0),
            LossType::Ipo => {
                let off = margin - 0.5 / beta;
                (off * off, 2.0 * off)
            }
            LossType::Robust => {
                let (e, x) = (self.label_smoothing, beta * margin);
                let scale = 1.0 - 2.0 * e;
                let loss = e * log_sigmoid(-x) - (1.0 - e) * log_sigmoid(x);
                let slope = (1.0 - e) * sigmoid(-x) + e * sigmoid(x);
                (loss / scale, -beta * slope / scale)
            }
        }
    }

    /// The smoothed negative log-sigmoid of x, and its slope by x / β.
    fn sigmoid(&self, x: f64) -> (f64, f64) {
        let e = self.label_smoothing;
        let loss = -(1.0 - e) * log_sigmoid(x) - e * log_sigmoid(-x);
        let slope = e * sigmoid(x) - (1.0 - e) * sigmoid(-x);
        (loss, self.beta * slope)
    }

    /// ORPO's term; its cross-entropy of the chosen answers is added elsewhere.
    fn odds(&self, policy: [Score; 2], shares: [f64; 2]) -> Value {
        let means = policy.map(Score::mean);
        let odds = (means[0] - means[1]) - (log_1m_exp(means[0]) - log_1m_exp(means[1]));
        // The slope of x − log(1 − eˣ) is 1 / (1 − eˣ).
        let slopes = [0, 1].map(|i| self.beta * sigmoid(-odds) * shares[i] / -means[i].exp_m1());
        Value {
            loss: -self.beta * log_sigmoid(odds),
            slopes: [-slopes[0], slopes[1]],
            rewards: means.map(|m| self.beta * m),
            logps: means,
            odds: Some([odds, log_sigmoid(odds)]),
        }
    }
}

/// KTO with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RatedLoss {
    pub beta: f64,
    pub desirable_weight: f64,
    pub undesirable_weight: f64,
}

impl RatedLoss {
    /// Loss, slope and reward of an answer whose log-probability is `gain` more than the reference's. `kl` is the estimate
    /// of the divergence from the reference, at least 0.
    pub fn of(&self, is_desirable: bool, gain: f64, kl: f64) -> [f64; 3] {
        let (sign, weight) = match is_desirable {
            true => (1.0, self.desirable_weight),
            false => (-1.0, self.undesirable_weight),
        };
        let x = sign * self.beta * (gain - kl);
        let slope = -sign * weight * self.beta * sigmoid(x) * sigmoid(-x);
        [weight * sigmoid(-x), slope, self.beta * gain]
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// log(1 − eˣ), for x < 0.
fn log_1m_exp(x: f64) -> f64 {
    match x < -std::f64::consts::LN_2 {
        true => (-x.exp()).ln_1p(),
        false => (-x.exp_m1()).ln(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(sums: [f64; 2]) -> [Score; 2] {
        let [a, b] = sums;
        [Score { sum: a, len: 3 }, Score { sum: b, len: 5 }]
    }

    fn losses() -> Vec<PairLoss> {
        let all = [
            (Objective::Dpo, LossType::Sigmoid),
            (Objective::Dpo, LossType::Hinge),
            (Objective::Dpo, LossType::Ipo),
            (Objective::Dpo, LossType::Robust),
            (Objective::Cpo, LossType::Sigmoid),
            (Objective::Cpo, LossType::Hinge),
            (Objective::Cpo, LossType::Ipo),
            (Objective::Simpo, LossType::Sigmoid),
            (Objective::Orpo, LossType::Sigmoid),
        ];
        let loss = |(objective, loss_type)| PairLoss {
            objective,
            loss_type,
            beta: 0.3,
            label_smoothing: 0.1,
            simpo_gamma: 0.5,
        };
        all.map(loss).to_vec()
    }

    #[test]
    fn slopes_are_those_of_the_loss() {
        let (reference, h) = ([-5.0, -6.5], 1e-5);
        for loss in losses() {
            for sums in [[-4.0, -7.0], [-8.0, -3.0]] {
                let value = loss.of(pair(sums), reference);
                for i in 0..2 {
                    let moved = |by: f64| {
                        let mut sums = sums;
                        sums[i] += by;
                        loss.of(pair(sums), reference).loss
                    };
                    let slope = (moved(h) - moved(-h)) / (2.0 * h);
                    assert!((slope - value.slopes[i]).abs() < 1e-6, "{loss:?} {i}");
                }
            }
        }
        let kto = RatedLoss {
            beta: 0.2,
            desirable_weight: 1.5,
            undesirable_weight: 0.5,
        };
        for is_desirable in [true, false] {
            let of = |gain| kto.of(is_desirable, gain, 0.4)[0];
            let slope = (of(1.0 + h) - of(1.0 - h)) / (2.0 * h);
            assert!((slope - kto.of(is_desirable, 1.0, 0.4)[1]).abs() < 1e-8);
        }
    }

    /// No log-probability that a model can give leads to something that is no number.
    #[test]
    fn extreme_margins_have_a_loss() {
        for loss in losses() {
            for sums in [[-1e-9, -4000.0], [-4000.0, -1e-9], [-800.0, -800.0]] {
                let value = loss.of(pair(sums), [-10.0, -10.0]);
                let numbers = [value.loss, value.slopes[0], value.slopes[1]];
                assert!(numbers.iter().all(|n| n.is_finite()), "{loss:?} {value:?}");
            }
        }
    }

    /// The definition of conservative DPO, which mixes the loss with that of the flipped pair.
    #[test]
    fn smoothing_mixes_in_the_flipped_pair() {
        let loss = |e| PairLoss {
            label_smoothing: e,
            ..losses()[0]
        };
        let (there, back) = (pair([-4.0, -7.0]), pair([-7.0, -4.0]));
        let plain = |p| loss(0.0).of(p, [0.0; 2]).loss;
        let mixed = 0.8 * plain(there) + 0.2 * plain(back);
        assert!((loss(0.2).of(there, [0.0; 2]).loss - mixed).abs() < 1e-12);
    }
}
