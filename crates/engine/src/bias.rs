//! What a request adds to logits: the biases of tokens, and penalties of those that its answer has.

use std::collections::BTreeMap;

use siskin_graph::BANNED;

use crate::answer::GenerateOptions;
use crate::{Error, Result};

/// Biases of at most this ban a token.
const BAN: f32 = -100.0;

/// What is added to the logits of a request's next tokens.
#[derive(Debug, Clone)]
pub(crate) struct Bias {
    of_tokens: BTreeMap<u32, f32>,
    frequency_penalty: f32,
    presence_penalty: f32,
    /// How often the answer has each token, if there are penalties.
    counts: BTreeMap<u32, u32>,
}

impl Bias {
    /// `None` if nothing is added.
    pub fn of(options: &GenerateOptions) -> Option<Self> {
        let bias = Self {
            of_tokens: options.logit_bias.clone(),
            frequency_penalty: options.frequency_penalty,
            presence_penalty: options.presence_penalty,
            counts: BTreeMap::new(),
        };
        (bias.counts_tokens() || !bias.of_tokens.is_empty()).then_some(bias)
    }

    /// Whether it depends on the answer.
    pub fn counts_tokens(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// Adds a token of the answer.
    pub fn count(&mut self, token: u32) {
        if self.counts_tokens() {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Tokens and what is added to their logits, for the next token and for one more behind each of these guesses.
    pub fn added(&self, guesses: &[u32]) -> Vec<Vec<(u32, f32)>> {
        let mut behind = self.clone();
        let mut added = vec![behind.list()];
        for guess in guesses {
            behind.count(*guess);
            added.push(behind.list());
        }
        added
    }

    fn list(&self) -> Vec<(u32, f32)> {
        let mut added = self.of_tokens.clone();
        for (token, count) in &self.counts {
            let penalty = self.presence_penalty + self.frequency_penalty * *count as f32;
            *added.entry(*token).or_default() -= penalty;
        }
        let banned = self.of_tokens.iter().filter(|(_, bias)| **bias <= BAN);
        added.extend(banned.map(|(token, _)| (*token, BANNED)));
        added.into_iter().collect()
    }

    /// Whether none of some tokens, a bit each, can be chosen.
    pub fn bans_all(&self, tokens: &[u32]) -> bool {
        let is_banned = |id: &u32| self.of_tokens.get(id).is_some_and(|bias| *bias <= BAN);
        let ids = |(word, bits): (u32, u32)| {
            (0..32).filter_map(move |bit| (bits >> bit & 1 == 1).then_some(word * 32 + bit))
        };
        let mut ids = (0..).zip(tokens.iter().copied()).flat_map(ids);
        ids.all(|id| is_banned(&id))
    }
}

/// Refuses what is out of range or not in the vocabulary, of `vocab` tokens.
pub(crate) fn check_bias(options: &GenerateOptions, vocab: usize) -> Result<()> {
    let check = |field, value: f32, limit: f32, range| match (-limit..=limit).contains(&value) {
        true => Ok(()),
        false => Err(Error::Sampling {
            field,
            value,
            range,
        }),
    };
    let range = "it must be from -2 to 2";
    check("frequency_penalty", options.frequency_penalty, 2.0, range)?;
    check("presence_penalty", options.presence_penalty, 2.0, range)?;
    for (id, bias) in &options.logit_bias {
        if *id as usize >= vocab {
            let what = format!("token {id} is not in the vocabulary of {vocab}");
            return Err(Error::Bias { what });
        }
        if !(-100.0..=100.0).contains(bias) {
            let what = format!("the bias of token {id} is {bias}; it must be from -100 to 100");
            return Err(Error::Bias { what });
        }
    }
    if options.logit_bias.values().filter(|b| **b <= BAN).count() == vocab {
        let what = "all tokens are banned".into();
        return Err(Error::Bias { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> GenerateOptions {
        GenerateOptions {
            frequency_penalty: 0.5,
            presence_penalty: 1.0,
            logit_bias: [(3, 2.0), (5, -100.0)].into(),
            ..GenerateOptions::default()
        }
    }

    #[test]
    fn penalties_count_the_answer_and_guesses() {
        let mut bias = Bias::of(&options()).unwrap();
        assert_eq!(bias.added(&[]), [[(3, 2.0), (5, BANNED)]]);
        for token in [3, 3, 5, 8] {
            bias.count(token);
        }
        let now = vec![(3, 0.0), (5, BANNED), (8, -1.5)];
        let next = vec![(3, 0.0), (5, BANNED), (8, -2.0)];
        assert_eq!(bias.added(&[8]), [now, next]);
        assert!(Bias::of(&GenerateOptions::default()).is_none());
    }

    #[test]
    fn what_bans_all_is_found() {
        let options = GenerateOptions {
            logit_bias: [(3, -100.0), (40, -100.0), (5, -99.0)].into(),
            ..options()
        };
        let bias = Bias::of(&options).unwrap();
        assert!(bias.bans_all(&[1 << 3, 1 << 8]));
        assert!(!bias.bans_all(&[1 << 3 | 1 << 5, 1 << 8]));
        assert!(!bias.bans_all(&[1 << 3, 1 << 9]));
        let all = GenerateOptions {
            logit_bias: (0..4).map(|id| (id, -100.0)).collect(),
            ..options
        };
        let refused = check_bias(&all, 4).unwrap_err().to_string();
        assert_eq!(refused, "logit_bias: all tokens are banned");
        check_bias(&all, 5).unwrap();
    }
}
