//! Objectives over rewarded answers, as TRL 1.x computes them. What they make of an answer depends on the log-probabilities
//! of its tokens, so their gradient is that of a cross-entropy with a weight for each token.

use serde::{Deserialize, Serialize};

/// What the advantages of a prompt's answers are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of the rewards of the prompt's answers.
    #[default]
    Group,
    /// That of all answers of the step.
    Batch,
    /// Nothing, as Liu et al., "Understanding R1-Zero-Like Training" (2025), have it.
    None,
}

/// What is compared with the answer's probability when it was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceSamplingLevel {
    /// Each token's probability.
    #[default]
    Token,
    /// The geometric mean over the answer: Zheng et al., "Group Sequence Policy Optimization" (2025).
    Sequence,
}

/// Keeps the division by a standard deviation finite.
const STD_EPSILON: f64 = 1e-4;

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// With n − 1, as PyTorch has it.
pub(crate) fn std_dev(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (squares / (values.len().max(2) - 1) as f64).sqrt()
}

/// How much better than the others of its group each answer is; groups have `group` answers, one after the other.
pub(crate) fn advantages(rewards: &[f64], group: usize, scale: ScaleRewards) -> Vec<f64> {
    let of_batch = std_dev(rewards);
    let groups = rewards.chunks(group).flat_map(|group| {
        let (mean, of_group) = (mean(group), std_dev(group));
        group.iter().map(move |reward| match scale {
            ScaleRewards::Group => (reward - mean) / (of_group + STD_EPSILON),
            ScaleRewards::Batch => (reward - mean) / (of_batch + STD_EPSILON),
            ScaleRewards::None => reward - mean,
        })
    });
    groups.collect()
}

/// The same against the mean of the others alone: Ahmadian et al., "Back to Basics" (2024).
pub(crate) fn leave_one_out(rewards: &[f64], group: usize) -> Vec<f64> {
    let groups = rewards.chunks(group).flat_map(|group| {
        let (sum, others) = (group.iter().sum::<f64>(), (group.len().max(2) - 1) as f64);
        group
            .iter()
            .map(move |reward| reward - (sum - reward) / others)
    });
    groups.collect()
}

/// What is compared: the whole answer's probability, or its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ratio {
    Token,
    /// The geometric mean over the tokens.
    Sequence,
    /// The product over the tokens, whose loss is one number (RLOO).
    Answer,
}

/// The clipped objective with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PolicyLoss {
    pub ratio: Ratio,
    /// By how much a ratio may be less or more than 1.
    pub epsilon: [f64; 2],
    /// The weight of the divergence from the reference.
    pub beta: f64,
}

/// An answer's loss: a sum over its tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct PolicyValue {
    pub loss: f64,
    /// By how much it changes with each token's log-probability.
    pub slopes: Vec<f64>,
    /// The sum over the tokens of the divergence from the reference.
    pub kl: f64,
    /// Tokens whose ratio is clipped.
    pub clipped: usize,
}

impl PolicyLoss {
    /// The log-probabilities of an answer's tokens now, when it was drawn, and by the reference if there is one.
    pub fn of(
        &self,
        now: &[f64],
        drawn: &[f64],
        reference: Option<&[f64]>,
        advantage: f64,
    ) -> PolicyValue {
        let n = now.len();
        let gains: Vec<f64> = now.iter().zip(drawn).map(|(a, b)| a - b).collect();
        let total: f64 = gains.iter().sum();
        let of_token = |t: usize| match self.ratio {
            Ratio::Token => gains[t].exp(),
            Ratio::Sequence => (total / n.max(1) as f64).exp(),
            Ratio::Answer => total.exp(),
        };
        let mut value = PolicyValue {
            slopes: vec![0.0; n],
            ..PolicyValue::default()
        };
        // What each token's ratio adds to the slope of the logarithm that it is made of.
        let mut by_ratio = vec![0.0; n];
        for (t, by_ratio) in by_ratio.iter_mut().enumerate() {
            let ratio = of_token(t);
            let clipped = ratio.clamp(1.0 - self.epsilon[0], 1.0 + self.epsilon[1]);
            let is_clipped = clipped * advantage < ratio * advantage;
            value.clipped += usize::from(is_clipped);
            value.loss -= if is_clipped { clipped } else { ratio } * advantage;
            if !is_clipped {
                *by_ratio = -ratio * advantage;
            }
            if let Some(reference) = reference.filter(|_| self.beta != 0.0) {
                // Schulman's estimate of the divergence, times the ratio: "DeepSeek-V3.2" (2025).
                let off = reference[t] - now[t];
                let kl = (off.exp() - off - 1.0) * ratio;
                value.kl += kl;
                value.loss += self.beta * kl;
                *by_ratio += self.beta * kl;
                value.slopes[t] = self.beta * ratio * (1.0 - off.exp());
            }
        }
        if self.ratio == Ratio::Answer {
            value.loss /= n.max(1) as f64;
        }
        let shared = mean(&by_ratio);
        for (slope, own) in value.slopes.iter_mut().zip(by_ratio) {
            *slope += match self.ratio {
                Ratio::Token => own,
                Ratio::Sequence | Ratio::Answer => shared,
            };
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_loss() {
        let (drawn, reference) = ([-1.0, -2.5, -0.3], [-1.4, -2.0, -0.5]);
        let h = 1e-6;
        for ratio in [Ratio::Token, Ratio::Sequence, Ratio::Answer] {
            for beta in [0.0, 0.3] {
                // RLOO's divergence is part of its rewards.
                if ratio == Ratio::Answer && beta > 0.0 {
                    continue;
                }
                let loss = PolicyLoss {
                    ratio,
                    epsilon: [0.2, 0.3],
                    beta,
                };
                for advantage in [0.7, -1.3] {
                    for now in [drawn, [-0.9, -2.7, -0.25], [-0.2, -2.1, -0.9]] {
                        let of = |now: &[f64]| loss.of(now, &drawn, Some(&reference), advantage);
                        let value = of(&now);
                        for t in 0..now.len() {
                            let moved = |by: f64| {
                                let mut now = now;
                                now[t] += by;
                                of(&now).loss
                            };
                            let slope = (moved(h) - moved(-h)) / (2.0 * h);
                            let found = value.slopes[t];
                            assert!((slope - found).abs() < 1e-5, "{loss:?} {slope} {found}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn advantages_are_relative_to_the_group() {
        let rewards = [1.0, 0.0, 0.0, 1.0, 5.0, 5.0, 5.0, 5.0];
        let found = advantages(&rewards, 4, ScaleRewards::Group);
        assert!((found[0] - 0.5 / (1.0f64 / 3.0).sqrt()).abs() < 1e-3);
        assert_eq!(found[4..], [0.0; 4]);
        let found = leave_one_out(&rewards, 4);
        assert!((found[0] - (1.0 - 1.0 / 3.0)).abs() < 1e-12);
        assert!((found[1] + 2.0 / 3.0).abs() < 1e-12);
    }
}
