//! How the learning rate changes over a training run.

use std::f64::consts::PI;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, TrainOptions};

/// The learning rate schedule after warm-up, under transformers' names (`SchedulerType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Linearly down to `min_lr_rate` of the peak.
    Linear,
    /// Down along half a cosine.
    Cosine,
    /// Down along half a cosine, `num_cycles` times.
    CosineWithRestarts,
    /// Constant, but for the last `num_decay_steps`: down along half a cosine.
    WarmupStableDecay,
}

/// Half a cosine, from 1 to 0.
fn cosine(done: f64) -> f64 {
    0.5 * (1.0 + (PI * done).cos())
}

impl TrainOptions {
    pub(crate) fn check_schedule(&self) -> Result<()> {
        let check = |ok: bool, field, value: &dyn Display, range| match ok {
            true => Ok(()),
            false => Err(Error::Option {
                field,
                value: value.to_string(),
                range,
            }),
        };
        if let Some(ratio) = self.warmup_ratio {
            let range = "it must be at least 0 and less than 1";
            check((0.0..1.0).contains(&ratio), "warmup_ratio", &ratio, range)?;
            let range = "give it or warmup_steps, not both";
            check(self.warmup_steps.is_none(), "warmup_ratio", &ratio, range)?;
        }
        if let Some(n) = self.num_cycles {
            let restarts = self.schedule == Schedule::CosineWithRestarts;
            check(n > 0, "num_cycles", &n, "it must be at least 1")?;
            let range = "only the schedule cosine_with_restarts has it";
            check(restarts, "num_cycles", &n, range)?;
        }
        if let Some(n) = self.num_decay_steps {
            let decays = self.schedule == Schedule::WarmupStableDecay;
            check(n > 0, "num_decay_steps", &n, "it must be at least 1")?;
            let range = "only the schedule warmup_stable_decay has it";
            check(decays, "num_decay_steps", &n, range)?;
        }
        let least = self.min_lr_rate;
        let range = "it must be from 0 to 1";
        check((0.0..=1.0).contains(&least), "min_lr_rate", &least, range)?;
        let decays = least == 0.0 || self.schedule != Schedule::Constant;
        let range = "the schedule constant does not decay";
        check(decays, "min_lr_rate", &least, range)?;
        let range = "it must be at least 0 and less than 1";
        for (field, beta) in [
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
        ] {
            check((0.0..1.0).contains(&beta), field, &beta, range)?;
        }
        let eps = self.adam_epsilon;
        let range = "it must be more than 0, such as 1e-8";
        check(eps > 0.0 && eps.is_finite(), "adam_epsilon", &eps, range)
    }

    /// Steps over which the rate rises, of `total`: at most half of them.
    fn warmup(&self, total: usize) -> usize {
        let steps = match self.warmup_ratio {
            Some(ratio) => (f64::from(ratio) * total as f64).ceil() as usize,
            None => self.warmup_steps.unwrap_or(WARMUP_STEPS),
        };
        steps.min(total / 2)
    }

    /// Steps in which the schedule `warmup_stable_decay` decays, of those after warm-up.
    fn decay(&self, after: usize) -> usize {
        self.num_decay_steps.unwrap_or(after.div_ceil(5)).min(after)
    }

    /// With the schedule's values for a training run of so many steps, as numbers of steps.
    pub(crate) fn with_schedule(&self, steps: usize) -> Self {
        let warmup = self.warmup(steps);
        let decays = self.schedule == Schedule::WarmupStableDecay;
        let restarts = self.schedule == Schedule::CosineWithRestarts;
        Self {
            warmup_steps: Some(warmup),
            warmup_ratio: None,
            num_decay_steps: decays.then(|| self.decay(steps - warmup)),
            num_cycles: restarts.then(|| self.num_cycles.unwrap_or(1)),
            ..self.clone()
        }
    }

    /// The rate of a step, counted from 1, of `total`. After warm-up, which ends with the peak, it is that of transformers'
    /// `get_scheduler`; the first step's rate is more than 0.
    pub fn rate(&self, step: usize, total: usize) -> f32 {
        let (at, warmup) = (step - 1, self.warmup(total));
        let peak = self.peak_rate();
        if at < warmup {
            return peak * (at + 1) as f32 / (warmup + 1) as f32;
        }
        let after = total - warmup;
        let done = (at - warmup) as f64 / after.max(1) as f64;
        let factor = match self.schedule {
            Schedule::Constant => return peak,
            Schedule::Linear => 1.0 - done,
            Schedule::Cosine => cosine(done),
            Schedule::CosineWithRestarts => {
                cosine((done * self.num_cycles.unwrap_or(1) as f64).fract())
            }
            Schedule::WarmupStableDecay => {
                let decay = self.decay(after);
                let into = (at - warmup).saturating_sub(after - decay);
                cosine(into as f64 / decay.max(1) as f64)
            }
        };
        let least = f64::from(self.min_lr_rate);
        (f64::from(peak) * (least + (1.0 - least) * factor)) as f32
    }
}

/// Unless an option says otherwise.
pub(crate) const WARMUP_STEPS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(options: &TrainOptions, total: usize) -> Vec<f32> {
        (1..=total).map(|s| options.rate(s, total)).collect()
    }

    fn of(schedule: Schedule) -> TrainOptions {
        TrainOptions {
            learning_rate: Some(1.0),
            warmup_steps: Some(0),
            schedule,
            ..TrainOptions::default()
        }
    }

    #[track_caller]
    fn assert_near(ours: &[f32], theirs: &[f32]) {
        let differs = ours.iter().zip(theirs).any(|(a, b)| (a - b).abs() > 1e-6);
        assert!(!differs && ours.len() == theirs.len(), "{ours:?}");
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let o = TrainOptions {
            warmup_steps: Some(3),
            ..of(Schedule::Linear)
        };
        assert_near(&rates(&o, 7), &[0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]);
        let ratio = TrainOptions {
            warmup_steps: None,
            warmup_ratio: Some(0.35),
            ..o.clone()
        };
        assert_eq!(rates(&ratio, 7), rates(&o, 7));
        // Never more than half of a short run.
        assert_near(&rates(&o, 2), &[0.5, 1.0]);
        let default = TrainOptions {
            learning_rate: Some(6.0),
            ..TrainOptions::default()
        };
        assert_near(&rates(&default, 100)[..6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    const LINEAR: [f32; 10] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];
    const COSINE: [f32; 10] = [
        1.0, 0.9755283, 0.9045085, 0.7938926, 0.6545085, 0.5, 0.3454915, 0.2061074, 0.0954915,
        0.0244717,
    ];
    const RESTARTS: [f32; 10] = [
        1.0, 0.7938926, 0.3454915, 0.0244717, 0.9045085, 0.5, 0.0954915, 0.9755283, 0.6545085,
        0.2061074,
    ];
    const FLOOR: [f32; 10] = [
        1.0, 0.9779754, 0.9140576, 0.8145034, 0.6890576, 0.55, 0.4109424, 0.2854966, 0.1859424,
        0.1220246,
    ];
    const STABLE: [f32; 10] = [
        1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8681981, 0.55, 0.2318019,
    ];

    /// Ten steps by `transformers.get_scheduler` 5.24, without warm-up.
    #[test]
    fn schedules_are_those_of_transformers() {
        let restarts = TrainOptions {
            num_cycles: Some(3),
            ..of(Schedule::CosineWithRestarts)
        };
        let floor = TrainOptions {
            min_lr_rate: 0.1,
            ..of(Schedule::Cosine)
        };
        let stable = TrainOptions {
            num_decay_steps: Some(4),
            min_lr_rate: 0.1,
            ..of(Schedule::WarmupStableDecay)
        };
        assert_near(&rates(&of(Schedule::Linear), 10), &LINEAR);
        assert_near(&rates(&of(Schedule::Cosine), 10), &COSINE);
        assert_near(&rates(&restarts, 10), &RESTARTS);
        assert_near(&rates(&floor, 10), &FLOOR);
        assert_near(&rates(&stable, 10), &STABLE);
        assert_eq!(rates(&of(Schedule::Constant), 3), [1.0; 3]);
    }

    #[test]
    fn options_of_other_schedules_are_refused() {
        let refused = |options: TrainOptions| options.check().unwrap_err().to_string();
        let restarts = TrainOptions {
            num_cycles: Some(2),
            ..of(Schedule::Cosine)
        };
        assert!(
            refused(restarts).contains("num_cycles is 2; only the schedule cosine_with_restarts")
        );
        let floor = TrainOptions {
            min_lr_rate: 0.5,
            ..of(Schedule::Constant)
        };
        assert!(refused(floor).contains("min_lr_rate is 0.5"));
        let both = TrainOptions {
            warmup_ratio: Some(0.1),
            ..of(Schedule::Cosine)
        };
        assert!(refused(both).contains("warmup_steps, not both"));
        let beta = TrainOptions {
            adam_beta2: 1.0,
            ..TrainOptions::default()
        };
        assert!(refused(beta).contains("adam_beta2 is 1"));
    }
}
