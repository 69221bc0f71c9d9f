use std::time::Duration;

use serde::Serialize;
use siskin_graph::Sampling;

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
    Token { id: u32, text: &'a str },
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
    pub logprob: f32,
}

/// Natural logarithms of probabilities, from the logits before any penalty or temperature.
#[derive(Debug, Clone, Serialize)]
pub struct TokenLogprob {
    pub id: u32,
    pub piece: String,
    pub logprob: f32,
    pub top: Vec<TopLogprob>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    /// The chosen tokens, with the one that ended the answer.
    pub ids: Vec<u32>,
    pub finish_reason: FinishReason,
    pub prompt_tokens: usize,
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
