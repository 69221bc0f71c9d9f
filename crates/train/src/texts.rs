//! Texts that run together, of whose tokens some have a loss.

use std::ops::Range;

use siskin_engine::Batch;

use crate::Tokens;
use crate::objective::Score;

/// Texts of one run.
pub(crate) struct Texts<'a> {
    pub batch: Batch,
    /// Each with its rows.
    pub texts: Vec<(&'a Tokens, Range<usize>)>,
}

impl<'a> Texts<'a> {
    /// Every row that `is_scored` has a loss.
    pub fn new(texts: &[&'a Tokens], is_scored: impl Fn(usize, usize) -> bool, seed: u32) -> Self {
        let mut this = Self {
            batch: Batch {
                seed,
                ..Batch::default()
            },
            texts: vec![],
        };
        for (i, tokens) in texts.iter().enumerate() {
            let (start, rows) = (this.batch.rows(), tokens.rows());
            this.batch.push(&tokens.ids[..rows], &[]);
            this.batch.targets.extend(&tokens.ids[1..]);
            let weights = (1..=rows).map(|t| f32::from(is_scored(i, t)));
            this.batch.weights.extend(weights);
            this.texts.push((tokens, start..start + rows));
        }
        this
    }

    /// Only learned tokens have a loss.
    pub fn of_learned(texts: &[&'a Tokens], seed: u32) -> Self {
        Self::new(texts, |i, t| texts[i].learned[t], seed)
    }

    /// The log-probability of each text's learned tokens.
    pub fn scores(&self, losses: &[f32]) -> Vec<Score> {
        let texts = self.texts.iter();
        texts
            .map(|(tokens, rows)| score(tokens, &losses[rows.clone()]))
            .collect()
    }
}

fn score(tokens: &Tokens, losses: &[f32]) -> Score {
    let learned = losses.iter().zip(&tokens.learned[1..]).filter(|l| *l.1);
    let sum = learned.map(|(loss, _)| -f64::from(*loss)).sum();
    let len = tokens.learned_len();
    Score { sum, len }
}
