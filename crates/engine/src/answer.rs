use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use siskin_formats::sort_by;
use siskin_graph::Sampling;
use siskin_text::TextModel;

use crate::constraint::Grammar;
use crate::{Error, Result};

/// A random seed of 32 bits, which a JSON number can hold exactly.
pub fn new_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    u64::from(RandomState::new().build_hasher().finish() as u32)
}

/// How an answer is generated.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How tokens are chosen; by default, always the likeliest.
    pub sampling: Sampling,
    /// Subtracted from a token's logit for each time that the answer has it already, from −2 to 2. As in OpenAI's API; what
    /// the prompt has does not count.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit if the answer has it already, from −2 to 2.
    pub presence_penalty: f32,
    /// Added to the logits of tokens, by id, from −100 to 100; −100 bans a token. This and the penalties come before those
    /// of [`Sampling`].
    pub logit_bias: BTreeMap<u32, f32>,
    /// The most tokens to generate; 512 by default.
    pub max_tokens: usize,
    /// The answer ends before the first of any of these strings.
    pub stop: Vec<String>,
    /// Special tokens that are shown in the text; others are not.
    pub shown: Vec<String>,
    /// Log-probabilities of each chosen token and of this many likeliest ones; `None` for none.
    pub logprobs: Option<usize>,
    /// Continues past the tokens that end an answer, up to `max_tokens`.
    pub ignore_end: bool,
    /// What happens when the context is full: by default the answer ends; with a number, so many tokens at the beginning
    /// stay, half of the others are dropped, what is left is run again, and the answer continues. A prompt that is too
    /// long is cut in the same way.
    pub keep: Option<usize>,
    /// What the answer must look like. It then does not guess, and tokens that can be no others take no steps of their
    /// own, unless log-probabilities, penalties or biases are requested.
    pub grammar: Option<Arc<dyn Grammar>>,
    /// Which of the session's adapters ([`crate::Session::set_adapters`]) it is answered with, apart from the one that is
    /// for all.
    pub adapter: Option<String>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            max_tokens: 512,
            stop: vec![],
            shown: vec![],
            logprobs: None,
            ignore_end: false,
            keep: None,
            grammar: None,
            adapter: None,
        }
    }
}

/// What [`crate::Session::generate`] reports while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// Part of the prompt was processed.
    Prefill {
        /// Tokens of the prompt that are in the cache now.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// A token was chosen.
    Token {
        /// The token's id in the vocabulary.
        id: u32,
        /// The text that is now final, which may be empty: partial characters are held back.
        text: &'a str,
        /// Its log-probability, if requested.
        logprob: Option<&'a TokenLogprob>,
    },
    /// Text that was held back, after the last token.
    Rest {
        /// That text.
        text: &'a str,
    },
    /// The GPU was lost and is being opened again; the answer then continues.
    DeviceLost,
}

impl Event<'_> {
    /// The text that became final with this event; empty for events without any.
    pub fn text(&self) -> &str {
        match self {
            Self::Token { text, .. } | Self::Rest { text } => text,
            Self::Prefill { .. } | Self::DeviceLost => "",
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string was reached.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The caller stopped it.
    Cancelled,
}

/// A likely token at some position.
#[derive(Debug, Clone, Serialize)]
pub struct TopLogprob {
    /// The token's id in the vocabulary.
    pub id: u32,
    /// As written in the vocabulary.
    pub piece: String,
    /// The bytes of its text, which may be part of a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

impl TopLogprob {
    /// The token's text; partial characters are replaced by U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// The log-probability of a chosen token: the natural logarithm of its probability by the logits, before any penalty,
/// bias or temperature.
#[derive(Debug, Clone, Serialize)]
pub struct TokenLogprob {
    /// The token's id in the vocabulary.
    pub id: u32,
    /// As written in the vocabulary.
    pub piece: String,
    /// The bytes of its text, which may be part of a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at its position, likeliest first.
    pub top: Vec<TopLogprob>,
}

impl TokenLogprob {
    /// Of token `id`, and of the `n` likeliest.
    pub(crate) fn of(text: &TextModel, logits: &[f32], id: u32, n: usize) -> Self {
        Self {
            id,
            piece: text.piece(id),
            bytes: text.token_bytes(id),
            logprob: logits[id as usize] - log_sum_exp(logits),
            top: logprobs_of(text, logits, n),
        }
    }
}

/// The `n` likeliest tokens, likeliest first; equal ones by id.
pub(crate) fn logprobs_of(text: &TextModel, logits: &[f32], n: usize) -> Vec<TopLogprob> {
    let total = log_sum_exp(logits);
    let by_logit = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let n = n.min(order.len());
    if n > 0 && n < order.len() {
        order.select_nth_unstable_by(n - 1, by_logit);
    }
    order.truncate(n);
    sort_by(&mut order, &mut |a, b| by_logit(a, b));
    let top = |id: u32| TopLogprob {
        id,
        piece: text.piece(id),
        bytes: text.token_bytes(id),
        logprob: logits[id as usize] - total,
    };
    order.into_iter().map(top).collect()
}

/// `ln Σ exp(x)`.
pub(crate) fn log_sum_exp(x: &[f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|x| f64::from(x - max).exp()).sum();
    max + sum.ln() as f32
}

/// A generated answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its text, without special tokens and before any stop string.
    pub text: String,
    /// The chosen tokens, including the one that ended the answer.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// The seed with which the same tokens are drawn again.
    pub seed: u64,
    /// Tokens of the prompt that were in the KV cache already.
    pub cached_tokens: usize,
    /// Tokens that were guessed ([`crate::OpenOptions::guesses`]).
    pub guessed_tokens: usize,
    /// How many of them were right, each of which saved a step.
    pub right_guesses: usize,
    /// From the call to the first token.
    pub prefill_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
    /// One for each of `ids`, if requested.
    pub logprobs: Vec<TokenLogprob>,
}

impl Answer {
    /// Tokens of the prompt per second, without those that were cached.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prompt_tokens - self.cached_tokens, self.prefill_time)
    }

    /// Tokens per second after the first, which comes from the prefill.
    pub fn decode_rate(&self) -> f64 {
        rate(self.ids.len().saturating_sub(1), self.decode_time)
    }
}

fn rate(n: usize, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        n as f64 / time.as_secs_f64()
    }
}

/// Refuses values for which sampling is not defined.
pub(crate) fn check_sampling(s: &Sampling) -> Result<()> {
    let check = |ok: bool, field, value, range| {
        if ok {
            Ok(())
        } else {
            Err(Error::Sampling {
                field,
                value,
                range,
            })
        }
    };
    let temperature = (0.0..=100.0).contains(&s.temperature);
    check(
        temperature,
        "temperature",
        s.temperature,
        "it must be from 0 (greedy) to 100",
    )?;
    check(
        s.top_p > 0.0 && s.top_p <= 1.0,
        "top_p",
        s.top_p,
        "it must be more than 0, and at most 1",
    )?;
    check(
        (0.0..1.0).contains(&s.min_p),
        "min_p",
        s.min_p,
        "it must be at least 0 and less than 1",
    )?;
    let penalty = s.repeat_penalty > 0.0 && s.repeat_penalty <= 100.0;
    check(
        penalty,
        "repeat_penalty",
        s.repeat_penalty,
        "it must be more than 0, and at most 100; 1 is no penalty",
    )
}
