//! Steps of objectives over preferences. A run has whole examples: its first half gives the answers' log-probabilities, the
//! objective turns them into weights, and its second half is the backward pass of a cross-entropy with these weights.

use serde::Serialize;
use siskin_engine::Session;

use crate::items::Item;
use crate::objective::DataKind;
use crate::texts::Texts;
use crate::{Objective, Result, Tokens, Trainer};

/// What the loss of preferences is made of: means over the examples of a step, under TRL's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Preferences {
    /// Rewards of the chosen, or desirable, answers; absent where there are none.
    #[serde(rename = "rewards/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen: Option<f32>,
    /// Rewards of the rejected, or undesirable, answers.
    #[serde(rename = "rewards/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected: Option<f32>,
    /// By how much the former are greater.
    #[serde(rename = "rewards/margins", skip_serializing_if = "Option::is_none")]
    pub margins: Option<f32>,
    /// The fraction of pairs whose chosen answer has the greater reward.
    #[serde(rename = "rewards/accuracies", skip_serializing_if = "Option::is_none")]
    pub accuracies: Option<f32>,
    /// Log-probabilities of the chosen answers.
    #[serde(rename = "logps/chosen", skip_serializing_if = "Option::is_none")]
    pub chosen_logps: Option<f32>,
    #[serde(rename = "logps/rejected", skip_serializing_if = "Option::is_none")]
    pub rejected_logps: Option<f32>,
    /// Cross-entropy of the chosen answers, where it is part of the objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll_loss: Option<f32>,
    /// ORPO's log of the sigmoid of the odds ratio's log, and the latter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds_ratio: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds_chosen: Option<f32>,
    /// KTO's estimate of the divergence from the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f32>,
}

/// The loss of a step's preferences.
pub(crate) struct Found {
    pub loss: f32,
    pub tokens: usize,
    pub preferences: Preferences,
}

/// Log-probabilities by the model without the adapter, once they are known, of each example and then each held-out one: of
/// its two answers, or of its answer and the mismatched one. Each example is run by itself, so that they do not depend on
/// when they are computed.
#[derive(Debug)]
pub(crate) struct References(Vec<Option<[f64; 2]>>);

impl References {
    pub fn of(items: usize) -> Self {
        Self(vec![None; items])
    }
}

/// Sums over the examples of a step.
#[derive(Debug, Default)]
struct Tally {
    loss: f64,
    nll: f64,
    /// Of chosen and rejected answers: how many, rewards and log-probabilities.
    sides: [[f64; 3]; 2],
    is_right: f64,
    odds: Option<[f64; 2]>,
}

/// What a step's examples have in common.
struct Step {
    examples: usize,
    /// Tokens of the chosen answers' cross-entropy.
    nll_tokens: usize,
    /// KTO's.
    kl: f64,
}

impl Tally {
    fn side(&mut self, side: usize, reward: f64, logp: f64) {
        let sums = self.sides[side].iter_mut().zip([1.0, reward, logp]);
        sums.for_each(|(sum, value)| *sum += value);
    }

    fn preferences(&self, step: &Step, data: DataKind, has_nll: bool) -> Preferences {
        let n = step.examples as f64;
        let mean = |side: usize, i: usize| {
            let [count, ..] = self.sides[side];
            (count > 0.0).then(|| (self.sides[side][i] / count) as f32)
        };
        let (chosen, rejected) = (mean(0, 1), mean(1, 1));
        let is_pairs = data == DataKind::Pairs;
        let odds = |i: usize| self.odds.map(|o| (o[i] / n) as f32);
        Preferences {
            chosen,
            rejected,
            margins: chosen.zip(rejected).map(|(c, r)| c - r),
            accuracies: is_pairs.then_some((self.is_right / n) as f32),
            chosen_logps: mean(0, 2),
            rejected_logps: mean(1, 2),
            nll_loss: has_nll.then_some((self.nll / step.nll_tokens.max(1) as f64) as f32),
            log_odds_chosen: odds(0),
            log_odds_ratio: odds(1),
            kl: (!is_pairs).then_some(step.kl as f32),
        }
    }
}

impl Trainer {
    /// An example, or a held-out one, whose places follow.
    pub(crate) fn item(&self, place: usize) -> &Item {
        let examples = &self.plan.examples;
        match place.checked_sub(examples.len()) {
            Some(held_out) => &self.plan.held_out[held_out],
            None => &examples[place],
        }
    }

    /// Computes those log-probabilities by the reference that are not known yet.
    async fn refer(&mut self, session: &mut Session, places: &[usize]) -> Result<()> {
        if !self.plan.options.has_reference() {
            return Ok(());
        }
        for place in places {
            if self.references.0[*place].is_some() {
                continue;
            }
            let item = self.item(*place);
            let together: Vec<&Tokens> = item.texts.iter().collect();
            let runs = [together, item.mismatched.iter().collect()];
            let mut sums = vec![];
            for texts in runs.iter().filter(|texts| !texts.is_empty()) {
                let run = Texts::of_learned(texts, 0);
                let losses = session.reference_losses(&run.batch).await?;
                sums.extend(run.scores(&losses).iter().map(|s| s.sum));
            }
            let second = sums.get(1).copied().unwrap_or(0.0);
            self.references.0[*place] = Some([sums[0], second]);
        }
        Ok(())
    }

    fn reference(&self, place: usize) -> [f64; 2] {
        self.references.0[place].unwrap_or_default()
    }

    /// Places in groups whose rows fit a run.
    pub(crate) fn runs(&self, places: &[usize], rows: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
        let mut runs: Vec<(usize, Vec<usize>)> = vec![];
        for place in places {
            let n = rows(*place);
            let fits = |r: &(usize, Vec<usize>)| r.0 + n <= self.plan.setup.rows;
            let room = runs.iter().position(fits);
            match room.filter(|_| self.plan.options.packing) {
                Some(at) => {
                    runs[at].0 += n;
                    runs[at].1.push(*place);
                }
                None => runs.push((n, vec![*place])),
            }
        }
        runs.into_iter().map(|r| r.1).collect()
    }

    /// What the examples at these places have in common.
    async fn in_common(&self, session: &mut Session, places: &[usize]) -> Result<(Step, usize)> {
        let chosen = places.iter().map(|p| &self.item(*p).texts[0]);
        let nll_tokens = match self.plan.options.objective {
            Objective::Orpo => chosen.map(Tokens::rows).sum(),
            _ => chosen.map(Tokens::learned_len).sum(),
        };
        let (mut kl, mut tokens) = (0.0, 0);
        let mismatched = |place: usize| self.item(place).mismatched.as_ref();
        let with_one: Vec<usize> = (places.iter().copied())
            .filter(|p| mismatched(*p).is_some())
            .collect();
        for run in self.runs(&with_one, |p| mismatched(p).map_or(0, Tokens::rows)) {
            let texts: Vec<&Tokens> = run.iter().filter_map(|p| mismatched(*p)).collect();
            let texts = Texts::of_learned(&texts, 0);
            let losses = session.losses_of(&texts.batch).await?;
            tokens += texts.batch.rows();
            for (place, score) in run.iter().zip(texts.scores(&losses)) {
                kl += score.sum - self.reference(*place)[1];
            }
        }
        let step = Step {
            examples: places.len(),
            nll_tokens,
            kl: (kl / with_one.len().max(1) as f64).max(0.0),
        };
        Ok((step, tokens))
    }

    /// The texts of a run over examples, with a loss for each row that the objective looks at.
    fn texts(&self, run: &[usize], seed: u32) -> Texts<'_> {
        let items: Vec<&Item> = run.iter().map(|p| self.item(*p)).collect();
        let texts: Vec<&Tokens> = items.iter().flat_map(|i| &i.texts).collect();
        // ORPO's cross-entropy is of the prompts, too.
        let has_prompts = self.plan.options.objective == Objective::Orpo;
        let is_scored =
            |i: usize, t: usize| texts[i].learned[t] || has_prompts && i.is_multiple_of(2);
        Texts::new(&texts, is_scored, seed)
    }

    /// Adds a run's examples to the tally. Returns the weights of its rows.
    fn tally(
        &self,
        run: &[usize],
        texts: &Texts<'_>,
        losses: &[f32],
        step: &Step,
        tally: &mut Tally,
    ) -> Vec<f32> {
        let options = &self.plan.options;
        let share = 1.0 / step.examples as f64;
        let nll = options.nll_weight();
        let nll_share = nll / step.nll_tokens.max(1) as f64;
        let is_pairs = self.data() == DataKind::Pairs;
        let mut weights = vec![0.0; losses.len()];
        let scores = texts.scores(losses);
        for (i, place) in run.iter().enumerate() {
            let reference = self.reference(*place);
            let slopes = if is_pairs {
                let value = options
                    .pair_loss()
                    .of([scores[2 * i], scores[2 * i + 1]], reference);
                tally.loss += value.loss * share;
                for side in 0..2 {
                    tally.side(side, value.rewards[side], value.logps[side]);
                }
                tally.is_right += f64::from(u8::from(value.rewards[0] > value.rewards[1]));
                if let Some(odds) = value.odds {
                    let sums = tally.odds.get_or_insert_default().iter_mut().zip(odds);
                    sums.for_each(|(sum, value)| *sum += value);
                }
                value.slopes.to_vec()
            } else {
                let is_desirable = self.item(*place).label == Some(true);
                let sum = scores[i].sum;
                let [loss, slope, reward] =
                    options
                        .rated_loss()
                        .of(is_desirable, sum - reference[0], step.kl);
                tally.loss += loss * share;
                tally.side(usize::from(!is_desirable), reward, sum);
                vec![slope]
            };
            for (side, slope) in slopes.iter().enumerate() {
                let (tokens, rows) = &texts.texts[i * slopes.len() + side];
                for (t, row) in rows.clone().enumerate() {
                    let is_learned = tokens.learned[t + 1];
                    if is_learned {
                        weights[row] -= slope * share;
                    }
                    // The rows of the cross-entropy: those of the chosen answer that have a loss.
                    if side == 0 && nll > 0.0 && texts.batch.weights[row] != 0.0 {
                        tally.nll += f64::from(losses[row]);
                        weights[row] += nll_share;
                    }
                }
            }
        }
        weights.into_iter().map(|w| w as f32).collect()
    }

    fn found(&self, tally: &Tally, step: &Step, tokens: usize) -> Found {
        let nll = self.plan.options.nll_weight();
        let loss = tally.loss + nll * tally.nll / step.nll_tokens.max(1) as f64;
        Found {
            loss: loss as f32,
            tokens,
            preferences: tally.preferences(step, self.data(), nll > 0.0),
        }
    }

    /// Accumulates the gradients of the examples at these places.
    pub(crate) async fn accumulate_preferences(
        &mut self,
        session: &mut Session,
        places: &[usize],
    ) -> Result<Found> {
        self.refer(session, places).await?;
        let (step, mut tokens) = self.in_common(session, places).await?;
        let mut tally = Tally::default();
        for (at, run) in self
            .runs(places, |p| self.item(p).rows())
            .iter()
            .enumerate()
        {
            let texts = self.texts(run, self.run_seed(at));
            tokens += texts.batch.rows();
            let mut weigh = |losses: &[f32]| self.tally(run, &texts, losses, &step, &mut tally);
            session
                .train_batch_by(texts.batch.clone(), &mut weigh)
                .await?;
        }
        Ok(self.found(&tally, &step, tokens))
    }

    /// Loss and rewards of the held-out examples.
    pub(crate) async fn score_preferences(
        &mut self,
        session: &mut Session,
    ) -> Result<crate::HeldOut> {
        let first = self.plan.examples.len();
        let places: Vec<usize> = (first..first + self.plan.held_out.len()).collect();
        self.refer(session, &places).await?;
        let (step, _) = self.in_common(session, &places).await?;
        let mut tally = Tally::default();
        for run in self.runs(&places, |p| self.item(p).rows()) {
            let texts = self.texts(&run, 0);
            let losses = session.losses_of(&texts.batch).await?;
            self.tally(&run, &texts, &losses, &step, &mut tally);
        }
        let found = self.found(&tally, &step, 0);
        Ok(crate::HeldOut {
            loss: found.loss,
            preferences: Some(found.preferences),
        })
    }
}
