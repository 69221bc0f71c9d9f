use std::time::Duration;

use serde::Serialize;
use siskin_graph::Sampling;
use siskin_text::TextModel;

use crate::{Error, Result};

/// A seed that was not drawn before: of 32 bits, so that JSON's numbers hold it.
pub fn new_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    u64::from(RandomState::new().build_hasher().finish() as u32)
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    pub sampling: Sampling,
    pub max_tokens: usize,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    /// Log probabilities of this many likeliest tokens, beside the chosen one's; `None` for none.
    pub logprobs: Option<usize>,
    /// Goes on past the tokens that end an answer.
    pub ignore_end: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            max_tokens: 512,
            stop: vec![],
            logprobs: None,
            ignore_end: false,
        }
    }
}

/// What happens while an answer is made.
#[derive(Debug)]
pub enum Event<'a> {
    /// Tokens of the prompt that are in the cache, of how many.
    Prefill { done: usize, total: usize },
    /// A new token and the text that is now certain, which may be empty.
    Token {
        id: u32,
        text: &'a str,
        /// Where logprobs were asked for.
        logprob: Option<&'a TokenLogprob>,
    },
    /// Text that was held back, when no more tokens come.
    Rest { text: &'a str },
    /// The device is being opened again; the answer goes on after that.
    DeviceLost,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string was met.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
    /// The caller broke off.
    Cancelled,
}

#[derive(Debug, Clone, Serialize)]
pub struct TopLogprob {
    pub id: u32,
    pub piece: String,
    /// Of the text that it stands for: perhaps a part of a character.
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// Natural logarithms of probabilities, from the logits before any penalty or temperature.
#[derive(Debug, Clone, Serialize)]
pub struct TokenLogprob {
    pub id: u32,
    pub piece: String,
    /// Of the text that it stands for: perhaps a part of a character.
    pub bytes: Vec<u8>,
    pub logprob: f32,
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
    order.sort_by(by_logit);
    let top = |id: u32| TopLogprob {
        id,
        piece: text.piece(id),
        bytes: text.token_bytes(id),
        logprob: logits[id as usize] - total,
    };
    order.into_iter().map(top).collect()
}

/// `ln Σ exp(x)`.
fn log_sum_exp(x: &[f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|x| f64::from(x - max).exp()).sum();
    max + sum.ln() as f32
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    /// The chosen tokens, with the one that ended the answer.
    pub ids: Vec<u32>,
    pub finish_reason: FinishReason,
    pub prompt_tokens: usize,
    /// With which the same tokens are drawn again.
    pub seed: u64,
    /// Tokens of the prompt that were in the cache already.
    pub cached_tokens: usize,
    pub prefill_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
    pub logprobs: Vec<TokenLogprob>,
}

impl Answer {
    /// Tokens a second of the prompt that were not cached.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prompt_tokens - self.cached_tokens, self.prefill_time)
    }

    /// Tokens a second after the first, which comes out of the prefill.
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

/// Refuses values that sampling is not defined for.
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
        "give 0 (greedy) to 100",
    )?;
    check(
        s.top_p > 0.0 && s.top_p <= 1.0,
        "top_p",
        s.top_p,
        "give more than 0, at most 1",
    )?;
    check(
        (0.0..1.0).contains(&s.min_p),
        "min_p",
        s.min_p,
        "give 0 to less than 1",
    )?;
    let penalty = s.repeat_penalty > 0.0 && s.repeat_penalty <= 100.0;
    check(
        penalty,
        "repeat_penalty",
        s.repeat_penalty,
        "give more than 0; 1 is no penalty",
    )
}
