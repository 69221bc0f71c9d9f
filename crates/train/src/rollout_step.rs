//! Steps of objectives over rewards: answers that were drawn become likelier or less likely by how much better they are than
//! the others to the same prompt.

use serde::Serialize;
use siskin_engine::Session;
use web_time::Instant;

use crate::policy_loss::{PolicyLoss, Ratio, advantages, leave_one_out, std_dev};
use crate::texts::Texts;
use crate::trainer::Accumulated;
use crate::{Error, LossType, Objective, Result, Rollout, StepReport, Tokens, Trainer};

/// What a step's rewards are, under TRL's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rewarded {
    /// Mean and standard deviation over the step's answers.
    pub reward: f32,
    pub reward_std: f32,
    /// The fraction of prompts whose answers all have the same reward, from which nothing is learned.
    pub frac_reward_zero_std: f32,
    /// Mean tokens of an answer.
    #[serde(rename = "completions/mean_length")]
    pub mean_length: f32,
    /// The fraction of answers that reached `max_completion_length`.
    #[serde(rename = "completions/clipped_ratio")]
    pub clipped_ratio: f32,
    /// The divergence from the reference, per token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f32>,
    /// The fraction of tokens whose ratio is clipped, or of answers if these have one; in the last update.
    #[serde(rename = "clip_ratio/region_mean")]
    pub clip_ratio: f32,
    /// Seconds in which the answers were drawn.
    pub drawing_seconds: f64,
}

/// Log-probabilities of each answer's tokens.
type Logps = Vec<Vec<f64>>;

/// A step's answers.
struct Drawn {
    /// Each with its prompt.
    texts: Vec<Tokens>,
    advantages: Vec<f64>,
    /// What each token's loss is multiplied by.
    shares: Vec<f64>,
    /// At the time when they were drawn, once known.
    drawn: Logps,
    /// By the reference.
    reference: Option<Logps>,
}

/// Sums over a step's answers.
#[derive(Default)]
struct Tally {
    loss: f64,
    kl: f64,
    clipped: usize,
    clipped_answers: usize,
    tokens: usize,
}

/// The log-probabilities of a run's texts, each of its learned tokens.
fn logps(texts: &Texts<'_>, losses: &[f32]) -> Logps {
    let of = |(tokens, rows): &(&Tokens, std::ops::Range<usize>)| {
        let rows = losses[rows.clone()].iter().zip(&tokens.learned[1..]);
        rows.filter(|r| *r.1).map(|r| -f64::from(*r.0)).collect()
    };
    texts.texts.iter().map(of).collect()
}

impl Trainer {
    /// Takes one step on answers that were [drawn](Self::roll_out), of which each has a reward.
    ///
    /// # Errors
    /// If a reward is no number, or all of the first step are the same; or as [`Self::step`].
    pub async fn learn(
        &mut self,
        session: &mut Session,
        rollouts: &[Rollout],
        rewards: &[f32],
    ) -> Result<StepReport> {
        let start = Instant::now();
        self.check_rewards(rollouts, rewards)?;
        let mut drawn = self.drawn(session, rollouts, rewards).await?;
        let updates = self.plan.options.num_iterations();
        let mut first: Option<f32> = None;
        let (mut tally, mut update) = (Tally::default(), None);
        for i in 0..updates {
            tally = self.accumulate_answers(session, &mut drawn).await?;
            let loss = tally.loss as f32;
            first.get_or_insert(loss);
            update = Some(
                self.update(session, loss, self.step * updates + i + 1)
                    .await?,
            );
        }
        let Some(update) = update else {
            return Err(Error::NoRewards);
        };
        let rewarded = self.rewarded(rollouts, rewards, &drawn, &tally);
        let accumulated = Accumulated {
            loss: first.unwrap_or_default(),
            tokens: tally.tokens * updates,
            preferences: None,
            rewarded: Some(rewarded),
        };
        self.report(session, start, accumulated, update).await
    }

    /// As [`Self::measure`].
    pub(crate) async fn measure_answers(&mut self, session: &mut Session) -> Result<()> {
        let go_on = &mut |_| std::ops::ControlFlow::Continue(());
        let Some(rollouts) = self.roll_out(session, go_on).await? else {
            return Ok(());
        };
        let rewards: Vec<f32> = (0..rollouts.len()).map(|i| (i % 2) as f32).collect();
        let mut drawn = self.drawn(session, &rollouts, &rewards).await?;
        self.accumulate_answers(session, &mut drawn).await?;
        Ok(())
    }

    /// The gradients of a step on answers, which is not taken, in the place of A, B and magnitudes.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn gradients_of(
        &mut self,
        session: &mut Session,
        rollouts: &[Rollout],
        rewards: &[f32],
    ) -> Result<siskin_engine::Adapter> {
        let mut drawn = self.drawn(session, rollouts, rewards).await?;
        self.accumulate_answers(session, &mut drawn).await?;
        let gradients = session.gradients().await?;
        session.forget_gradients();
        Ok(gradients)
    }

    fn check_rewards(&self, rollouts: &[Rollout], rewards: &[f32]) -> Result<()> {
        if rewards.len() != rollouts.len() || rollouts.is_empty() {
            return Err(Error::Rewards {
                found: rewards.len(),
                wanted: rollouts.len(),
            });
        }
        let mut both = rollouts.iter().zip(rewards);
        if let Some((rollout, reward)) = both.find(|r| !r.1.is_finite()) {
            return Err(Error::Reward {
                line: rollout.line,
                reward: *reward,
            });
        }
        if self.step == 0 && rewards.iter().all(|r| *r == rewards[0]) {
            return Err(Error::ConstantReward {
                answers: rewards.len(),
                reward: rewards[0],
            });
        }
        Ok(())
    }

    /// What is known of the answers before an update.
    async fn drawn(
        &self,
        session: &mut Session,
        rollouts: &[Rollout],
        rewards: &[f32],
    ) -> Result<Drawn> {
        let options = &self.plan.options;
        let texts: Vec<Tokens> = rollouts.iter().map(|r| self.text(r)).collect();
        let mut reference = None;
        let mut rewards: Vec<f64> = rewards.iter().map(|r| f64::from(*r)).collect();
        let mut drawn = vec![];
        if options.has_reference() {
            reference = Some(self.logps(session, &texts, true).await?);
        }
        let (group, is_rloo) = (
            options.num_generations(),
            options.objective == Objective::Rloo,
        );
        if let Some(reference) = reference.as_ref().filter(|_| is_rloo) {
            drawn = self.logps(session, &texts, false).await?;
            let both = drawn.iter().zip(reference);
            for (reward, (now, by_reference)) in rewards.iter_mut().zip(both) {
                let kl: f64 = now.iter().zip(by_reference).map(|(a, b)| a - b).sum();
                *reward -= f64::from(options.beta()) * kl;
            }
        }
        let n = texts.len() as f64;
        let all: usize = texts.iter().map(Tokens::learned_len).sum();
        let share = |text: &Tokens| match options.policy_loss_type() {
            _ if is_rloo => 1.0 / n,
            LossType::Grpo => 1.0 / (text.learned_len().max(1) as f64 * n),
            LossType::DrGrpo => 1.0 / (n * options.max_completion_length() as f64),
            _ => 1.0 / all.max(1) as f64,
        };
        Ok(Drawn {
            advantages: match is_rloo {
                true => leave_one_out(&rewards, group),
                false => advantages(&rewards, group, options.scale_rewards.unwrap_or_default()),
            },
            shares: texts.iter().map(share).collect(),
            texts,
            drawn,
            reference,
        })
    }

    /// The prompt with its answer, which is learned unless it was truncated and that is asked for.
    fn text(&self, rollout: &Rollout) -> Tokens {
        let prompt = &self.item(rollout.place).texts[0].ids;
        let is_learned = !(rollout.truncated && self.plan.options.mask_truncated_completions);
        let ids: Vec<u32> = prompt.iter().chain(&rollout.ids).copied().collect();
        Tokens {
            learned: (0..ids.len())
                .map(|t| is_learned && t >= prompt.len())
                .collect(),
            ids,
            cut: 0,
            spans: vec![],
            text: String::new(),
        }
    }

    /// The answers in groups whose rows fit a run.
    fn runs_of(&self, texts: &[Tokens]) -> Vec<Vec<usize>> {
        let all: Vec<usize> = (0..texts.len()).collect();
        self.runs(&all, |i| texts[i].rows())
    }

    async fn logps(
        &self,
        session: &mut Session,
        texts: &[Tokens],
        by_reference: bool,
    ) -> Result<Logps> {
        let mut all = vec![vec![]; texts.len()];
        for run in self.runs_of(texts) {
            let of_run: Vec<&Tokens> = run.iter().map(|i| &texts[*i]).collect();
            let of_run = Texts::of_learned(&of_run, 0);
            let losses = match by_reference {
                true => session.reference_losses(&of_run.batch).await?,
                false => session.losses_of(&of_run.batch).await?,
            };
            for (i, found) in run.into_iter().zip(logps(&of_run, &losses)) {
                all[i] = found;
            }
        }
        Ok(all)
    }

    /// Accumulates the gradients of a step's answers.
    async fn accumulate_answers(
        &self,
        session: &mut Session,
        answers: &mut Drawn,
    ) -> Result<Tally> {
        let loss = self.plan.options.policy_loss();
        let mut tally = Tally::default();
        let mut now = vec![vec![]; answers.texts.len()];
        for (at, run) in self.runs_of(&answers.texts).into_iter().enumerate() {
            let texts: Vec<&Tokens> = run.iter().map(|i| &answers.texts[*i]).collect();
            let texts = Texts::of_learned(&texts, self.run_seed(at));
            tally.tokens += texts.batch.rows();
            let mut weigh = |losses: &[f32]| {
                let found = logps(&texts, losses);
                let mut weights = vec![0.0; losses.len()];
                for ((i, (tokens, rows)), found) in run.iter().zip(&texts.texts).zip(found) {
                    let slopes = answers.slopes(*i, &loss, &found, &mut tally);
                    let learned = rows.clone().zip(&tokens.learned[1..]).filter(|r| *r.1);
                    for ((row, _), slope) in learned.zip(slopes) {
                        weights[row] = -slope as f32;
                    }
                    now[*i] = found;
                }
                weights
            };
            session
                .train_batch_by(texts.batch.clone(), &mut weigh)
                .await?;
        }
        if answers.drawn.is_empty() {
            answers.drawn = now;
        }
        Ok(tally)
    }

    fn rewarded(
        &self,
        rollouts: &[Rollout],
        rewards: &[f32],
        drawn: &Drawn,
        tally: &Tally,
    ) -> Rewarded {
        let n = rewards.len() as f32;
        let learned: usize = drawn.texts.iter().map(Tokens::learned_len).sum();
        let per_token = |sum: f64| (sum / learned.max(1) as f64) as f32;
        let groups = rewards.chunks(self.plan.options.num_generations());
        let (groups, same) = (
            groups.len(),
            groups.filter(|g| g.iter().all(|r| *r == g[0])),
        );
        let lengths: usize = rollouts.iter().map(|r| r.ids.len()).sum();
        let kl = drawn.reference.as_ref().map(|reference| {
            let is_rloo = self.plan.options.objective == Objective::Rloo;
            let both = drawn.drawn.iter().zip(reference).filter(|_| is_rloo);
            let of_rloo = both.flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| a - b);
            per_token(tally.kl + of_rloo.sum::<f64>())
        });
        let wide: Vec<f64> = rewards.iter().map(|r| f64::from(*r)).collect();
        Rewarded {
            reward: rewards.iter().sum::<f32>() / n,
            reward_std: std_dev(&wide) as f32,
            frac_reward_zero_std: same.count() as f32 / groups.max(1) as f32,
            mean_length: lengths as f32 / n,
            clipped_ratio: rollouts.iter().filter(|r| r.truncated).count() as f32 / n,
            kl,
            clip_ratio: match self.plan.options.policy_loss().ratio {
                Ratio::Token => per_token(tally.clipped as f64),
                Ratio::Sequence | Ratio::Answer => tally.clipped_answers as f32 / n,
            },
            drawing_seconds: self.drawing_seconds,
        }
    }
}

impl Drawn {
    /// Adds an answer to the tally; returns by how much the step's loss changes with each of its tokens.
    fn slopes(&self, i: usize, loss: &PolicyLoss, now: &[f64], tally: &mut Tally) -> Vec<f64> {
        let drawn = self.drawn.get(i).map_or(now, Vec::as_slice);
        let reference = self.reference.as_ref().map(|r| r[i].as_slice());
        let value = loss.of(now, drawn, reference, self.advantages[i]);
        tally.loss += value.loss * self.shares[i];
        tally.kl += value.kl;
        tally.clipped += value.clipped;
        tally.clipped_answers += usize::from(value.clipped > 0);
        value.slopes.iter().map(|s| s * self.shares[i]).collect()
    }
}
