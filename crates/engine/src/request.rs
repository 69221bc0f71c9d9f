//! A prompt that is being answered: its tokens, its place in the caches, and its answer so far.

use std::ops::ControlFlow;
use std::time::Duration;

use siskin_graph::SequenceRows;
use siskin_text::{TextModel, TextStream};
use web_time::Instant;

use crate::answer::{Answer, FinishReason, GenerateOptions, TokenLogprob};
use crate::backend::{Chosen, NOT_FINITE};
use crate::bias::Bias;
use crate::constraint::Constraint;
use crate::guess::{Guesser, repeated};
use crate::store::{Blocks, Cached};
use crate::{Error, Event};

/// The number of a request, from [`crate::Session::submit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What happened to a request in a step.
#[derive(Debug)]
pub struct Update {
    /// The request.
    pub request: RequestId,
    /// What happened to it.
    pub event: RequestEvent,
}

/// As [`Event`], for a request among others; and how it ended.
#[derive(Debug)]
pub enum RequestEvent {
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
        text: String,
        /// Its log-probability, if requested.
        logprob: Option<TokenLogprob>,
    },
    /// Text that was held back, after the last token.
    Rest {
        /// That text.
        text: String,
    },
    /// The GPU was lost and has been opened again; the answer then continues.
    DeviceLost,
    /// It was answered, or cancelled. No event follows.
    Done(Box<Answer>),
    /// It cannot be answered. No event follows.
    Failed(Error),
}

impl RequestEvent {
    /// The same as an event of a single answer; `None` for the last one.
    pub(crate) fn as_event(&self) -> Option<Event<'_>> {
        Some(match self {
            Self::Prefill { done, total } => Event::Prefill {
                done: *done,
                total: *total,
            },
            Self::Token { id, text, logprob } => Event::Token {
                id: *id,
                text,
                logprob: logprob.as_ref(),
            },
            Self::Rest { text } => Event::Rest { text },
            Self::DeviceLost => Event::DeviceLost,
            Self::Done(_) | Self::Failed(_) => return None,
        })
    }
}

/// Why a request ended.
#[derive(Debug)]
pub(crate) enum End {
    Answered(FinishReason),
    NotFinite,
    /// With the reason.
    Ungrammatical(String),
}

/// What became of chosen tokens.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub end: Option<End>,
    /// Those that the last token was chosen from.
    pub logits: Option<Vec<f32>>,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub id: RequestId,
    pub options: GenerateOptions,
    pub answer: Answer,
    stream: TextStream,
    /// The prompt, then the answer.
    pub tokens: Vec<u32>,
    /// Tokens that are in the cache, or will be after the steps that were started: at most one of them per such step is
    /// not in `tokens` yet.
    pub fed: usize,
    pub blocks: Blocks,
    /// Its set of tokens on the device.
    pub slot: usize,
    /// The number of its adapter.
    pub adapter: Option<u32>,
    pub guesser: Guesser,
    /// Those of the step whose tokens are pending.
    pub guesses: Vec<u32>,
    /// Of its grammar.
    pub constraint: Option<Box<dyn Constraint>>,
    /// What is added to logits.
    pub bias: Option<Bias>,
    /// The tokens that may be chosen next, if the grammar says so.
    pub allowed: Option<Vec<u32>>,
    /// The guesses of a smaller model for the next step, if there is one.
    pub drafted: Option<Vec<u32>>,
    start: Instant,
    first_token: Option<Instant>,
}

impl Request {
    pub fn new(id: RequestId, prompt: &[u32], options: GenerateOptions, guesses: usize) -> Self {
        // Guesses among the rows would count as present; and what is allowed depends on the tokens before.
        let may_guess = options.sampling.repeat_penalty == 1.0 && options.grammar.is_none();
        Self {
            id,
            answer: Answer {
                text: String::new(),
                ids: vec![],
                finish_reason: FinishReason::Length,
                prompt_tokens: prompt.len(),
                seed: options.sampling.seed,
                cached_tokens: 0,
                guessed_tokens: 0,
                right_guesses: 0,
                prefill_time: Duration::ZERO,
                decode_time: Duration::ZERO,
                logprobs: vec![],
            },
            bias: Bias::of(&options),
            stream: TextStream::new(&options.stop).showing(&options.shown),
            options,
            tokens: prompt.into(),
            fed: 0,
            blocks: Blocks::default(),
            slot: 0,
            adapter: None,
            guesser: Guesser::new(if may_guess { guesses } else { 0 }),
            guesses: vec![],
            constraint: None,
            allowed: None,
            drafted: None,
            start: Instant::now(),
            first_token: None,
        }
    }

    /// Tokens that are known and not fed.
    pub fn waiting(&self) -> usize {
        self.tokens.len().saturating_sub(self.fed)
    }

    /// Steps that were started and whose tokens were not taken.
    pub fn ahead(&self) -> usize {
        (self.fed + 1).saturating_sub(self.tokens.len())
    }

    /// Blocks that it has.
    pub fn n_blocks(&self) -> usize {
        self.blocks.lists[0].len()
    }

    /// Its next `rows` rows, and its guesses behind them, which are then fed. Tokens are chosen if these rows are all that
    /// are known.
    pub fn feed(&mut self, rows: usize) -> SequenceRows {
        let position = self.fed;
        let is_last = position + rows >= self.tokens.len();
        let rows = rows + self.guesses.len();
        self.fed += rows;
        let added = match &self.bias {
            Some(bias) if is_last => bias.added(&self.guesses),
            _ => vec![],
        };
        let [blocks, windowed] = self.blocks.of(self.fed);
        SequenceRows {
            rows,
            position,
            slot: self.slot,
            blocks,
            windowed,
            choices: if is_last { 1 + self.guesses.len() } else { 0 },
            sampling: self.options.sampling,
            allowed: if is_last { self.allowed.take() } else { None },
            added,
            adapter: self.adapter,
        }
    }

    /// Whether a step's choice depends on what the one before chose, beyond the token itself.
    pub fn needs_tokens(&self) -> bool {
        let counts_tokens = self.bias.as_ref().is_some_and(Bias::counts_tokens);
        self.constraint.is_some() || counts_tokens
    }

    /// Guesses what follows all that is known, at most `most` tokens.
    pub fn guess(&mut self, most: usize) {
        let left = self.options.max_tokens - self.answer.ids.len() - 1;
        let most = self.guesser.wanted().min(most).min(left);
        self.guesser.begin();
        self.guesses = match self.drafted.take() {
            Some(mut drafted) => {
                drafted.truncate(most);
                drafted
            }
            None => repeated(&self.tokens, most),
        };
    }

    /// Takes the tokens that a step chose, behind guesses as far as these were right.
    pub fn take(
        &mut self,
        text: &TextModel,
        chosen: Vec<Chosen>,
        context: usize,
        events: &mut Vec<RequestEvent>,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut right = 0;
        for (at, (token, logits)) in chosen.into_iter().enumerate() {
            if token == NOT_FINITE {
                taken.end = Some(End::NotFinite);
                break;
            }
            let mut pushed = self.push(text, (token, &logits), context, events);
            taken.logits = Some(logits);
            if pushed.is_continue() {
                match self.constrain(text, token, context, events) {
                    Ok(constrained) => pushed = constrained,
                    Err(what) => {
                        taken.end = Some(End::Ungrammatical(what));
                        break;
                    }
                }
            }
            if let ControlFlow::Break(reason) = pushed {
                taken.end = Some(End::Answered(reason));
                break;
            }
            // What follows a wrong guess was chosen in vain.
            if self.guesses.get(at) != Some(&token) {
                break;
            }
            right += 1;
        }
        self.settle(right);
        taken
    }

    /// Tells the grammar of a token, and adds those that must follow it.
    fn constrain(
        &mut self,
        text: &TextModel,
        token: u32,
        context: usize,
        events: &mut Vec<RequestEvent>,
    ) -> Result<ControlFlow<FinishReason>, String> {
        let Some(mut constraint) = self.constraint.take() else {
            return Ok(ControlFlow::Continue(()));
        };
        // Tokens may be banned.
        let may_force = self.options.logprobs.is_none() && self.bias.is_none();
        let forced = constraint.add(token, may_force)?;
        let is_complete = constraint.is_complete();
        self.constraint = Some(constraint);
        for id in forced {
            let pushed = self.push(text, (id, &[]), context, events);
            if pushed.is_break() {
                return Ok(pushed);
            }
        }
        Ok(match is_complete {
            true => ControlFlow::Break(FinishReason::Stop),
            false => ControlFlow::Continue(()),
        })
    }

    /// After tokens were chosen behind guesses, of which `right` were right: the others are not in the cache.
    fn settle(&mut self, right: usize) {
        let guessed = std::mem::take(&mut self.guesses).len();
        self.guesser.learn(guessed, right);
        self.answer.guessed_tokens += guessed;
        self.answer.right_guesses += right;
        self.fed -= guessed - right;
    }

    /// Whether the token after all that are known, or are being chosen, is wanted and has room.
    pub fn goes_on(&self, context: usize) -> bool {
        self.answer.ids.len() + self.ahead() < self.options.max_tokens && self.fed < context
    }

    /// What of it is in the cache; it has nothing there any more.
    pub fn leave(&mut self) -> Cached {
        let mut tokens = self.tokens.clone();
        // The last token was chosen, and perhaps fed, but nobody continues from it.
        let known = self.tokens.len() - usize::from(!self.answer.ids.is_empty());
        tokens.truncate(self.fed.min(known));
        self.fed = 0;
        self.guesses.clear();
        Cached {
            adapter: self.adapter,
            tokens,
            blocks: std::mem::take(&mut self.blocks),
        }
    }

    /// Drops tokens until a context holds the others ([`GenerateOptions::keep`]). Nothing of it may be in the cache.
    pub fn shorten(&mut self, context: usize) {
        let Some(keep) = self.options.keep else {
            return;
        };
        while self.tokens.len() > context {
            let dropped = (self.tokens.len() - keep).div_ceil(2);
            self.tokens.drain(keep..keep + dropped);
            // The same positions come again, and with the same noise the same text might.
            let seed = &mut self.options.sampling.seed;
            *seed = seed.wrapping_add(1);
        }
    }

    /// Adds a token that was chosen from `logits`; breaks with the reason if it ends the answer.
    fn push(
        &mut self,
        text: &TextModel,
        (id, logits): (u32, &[f32]),
        context: usize,
        events: &mut Vec<RequestEvent>,
    ) -> ControlFlow<FinishReason> {
        let now = Instant::now();
        let first = *self.first_token.get_or_insert(now);
        self.answer.prefill_time = first - self.start;
        self.answer.decode_time = now - first;
        self.answer.ids.push(id);
        self.tokens.push(id);
        if let Some(bias) = &mut self.bias {
            bias.count(id);
        }
        let n = self.options.logprobs;
        let logprob = n.map(|n| TokenLogprob::of(text, logits, id, n));
        self.answer.logprobs.extend(logprob.clone());
        if text.is_end(id) && !self.options.ignore_end {
            return ControlFlow::Break(FinishReason::Stop);
        }
        let emitted = self.stream.push(text, id);
        self.answer.text.push_str(&emitted.text);
        events.push(RequestEvent::Token {
            id,
            text: emitted.text,
            logprob,
        });
        if emitted.stop.is_some() {
            self.stream = TextStream::default();
            return ControlFlow::Break(FinishReason::Stop);
        }
        let is_full = self.tokens.len() > context && self.options.keep.is_none();
        match self.answer.ids.len() == self.options.max_tokens || is_full {
            true => ControlFlow::Break(FinishReason::Length),
            false => ControlFlow::Continue(()),
        }
    }

    /// The events that end it.
    pub fn finish(mut self, text: &TextModel, reason: FinishReason) -> Vec<RequestEvent> {
        self.answer.finish_reason = reason;
        let mut events = vec![];
        let rest = self.stream.finish(text);
        if !rest.is_empty() {
            self.answer.text.push_str(&rest);
            events.push(RequestEvent::Rest { text: rest });
        }
        events.push(RequestEvent::Done(Box::new(self.answer)));
        events
    }
}
