//! Generation: the prompt's prefill, then token after token. On a GPU, steps are started before the tokens of earlier
//! ones were read.

use std::ops::ControlFlow;

use siskin_graph::Sampling;
use siskin_text::TextStream;
use web_time::Instant;

use crate::answer::{Answer, Event, FinishReason, GenerateOptions, TokenLogprob, check_sampling};
use crate::backend::NOT_FINITE;
use crate::{Result, Session};

impl Session {
    /// The logits `[vocab]` of the token after the prompt. Tokens that are in the KV cache are not run again.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub async fn next_logits(&mut self, prompt: &[u32]) -> Result<Vec<f32>> {
        self.model.check_text()?;
        let options = GenerateOptions {
            max_tokens: 1,
            logprobs: Some(0),
            ..GenerateOptions::default()
        };
        let mut generation = Generation::new(self, prompt, &options)?;
        let on_event = &mut async |_: Event<'_>| ControlFlow::Continue(());
        generation.run(prompt, on_event).await?;
        Ok(generation.logits)
    }

    /// Answers a prompt. Tokens that are in the KV cache are not run again.
    ///
    /// `on_event` can stop it: the answer then ends with [`FinishReason::Cancelled`], and the session remains usable.
    /// If the GPU is lost, it is opened again, and the answer continues where it was.
    ///
    /// # Errors
    /// If a sampling parameter is out of range, the prompt is empty or longer than the context, the logits are not
    /// finite, or the device fails.
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        mut on_event: impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        self.model.check_text()?;
        let mut generation = Generation::new(self, prompt, options)?;
        generation.run(prompt, &mut on_event).await?;
        Ok(generation.answer)
    }

    /// Feeds tokens into the cache; the one after the last is chosen, and pending.
    async fn feed(
        &mut self,
        tokens: &[u32],
        sampling: &Sampling,
        on_event: &mut impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let total = self.tokens.len() + tokens.len();
        // The same prompt may come again, or another with the same beginning: states are kept before its last token.
        let before = tokens.len() - usize::from(self.states.is_some());
        let (before, rest) = tokens.split_at(before);
        let rows = self.device.prefill_rows();
        for chunk in before.chunks(rows).chain(rest.chunks(rows)) {
            let last = self.tokens.len() + chunk.len() == total;
            if last && let Some(states) = &mut self.states {
                self.device.keep_states();
                states.kept = Some(self.tokens.len());
            }
            self.device
                .prefill(chunk, self.tokens.len(), sampling, last)?;
            self.tokens.extend(chunk);
            self.note_fed(chunk.len());
            let done = self.tokens.len();
            if on_event(Event::Prefill { done, total }).await.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Drops the pending tokens, which nobody needs any more: not those of a lost device either.
    async fn discard(&mut self) -> Result<()> {
        match self.device.discard().await {
            Err(e) if e.is_device_lost() => self.reopen().await,
            other => other,
        }
    }

    /// Cuts the cache down to what it shares with the prompt, whose last token always runs again, since its logits are
    /// needed.
    fn keep_prefix(&mut self, prompt: &[u32]) -> usize {
        let same = self
            .tokens
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        let same = self.states_within(same.min(prompt.len() - 1));
        self.tokens.truncate(same);
        self.device.set_seen(&self.tokens);
        same
    }

    /// The most tokens, up to `wanted`, that recurrent states can be cut back to; and cuts them back.
    fn states_within(&mut self, wanted: usize) -> usize {
        let Some(states) = &mut self.states else {
            return wanted;
        };
        // The cache may have been cleared since.
        states.kept = states.kept.filter(|kept| *kept <= wanted);
        if states.fed != wanted || self.tokens.len() < wanted {
            if states.kept.is_some() {
                self.device.restore_states();
            }
            states.fed = states.kept.unwrap_or(0);
        }
        states.fed
    }
}

/// An answer while it is generated.
struct Generation<'a> {
    session: &'a mut Session,
    options: &'a GenerateOptions,
    answer: Answer,
    stream: TextStream,
    /// Steps that were started and whose tokens were not taken yet.
    ahead: usize,
    start: Instant,
    first_token: Option<Instant>,
    /// Those that the last token was chosen from, if log-probabilities are requested.
    logits: Vec<f32>,
}

impl<'a> Generation<'a> {
    fn new(session: &'a mut Session, prompt: &[u32], options: &'a GenerateOptions) -> Result<Self> {
        check_sampling(&options.sampling)?;
        session.check_tokens(prompt)?;
        session.check_length(prompt.len())?;
        let start = Instant::now();
        let answer = Answer {
            text: String::new(),
            ids: vec![],
            finish_reason: FinishReason::Length,
            prompt_tokens: prompt.len(),
            seed: options.sampling.seed,
            cached_tokens: session.keep_prefix(prompt),
            prefill_time: Default::default(),
            decode_time: Default::default(),
            logprobs: vec![],
        };
        Ok(Self {
            session,
            options,
            answer,
            stream: TextStream::new(&options.stop),
            ahead: 0,
            start,
            first_token: None,
            logits: vec![],
        })
    }

    async fn run(
        &mut self,
        prompt: &[u32],
        on_event: &mut impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if self.options.max_tokens == 0 {
            return Ok(());
        }
        let new = &prompt[self.answer.cached_tokens..];
        let flow = self.session.feed(new, &self.options.sampling, on_event);
        if flow.await?.is_break() {
            self.answer.finish_reason = FinishReason::Cancelled;
            return self.session.discard().await;
        }
        self.ahead = 1;
        self.answer.finish_reason = self.decode(on_event).await?;
        self.session.discard().await?;
        let text = std::mem::take(&mut self.stream).finish(&self.session.text);
        if !text.is_empty() {
            self.answer.text.push_str(&text);
            let _ = on_event(Event::Rest { text: &text }).await;
        }
        Ok(())
    }

    /// Takes tokens until one ends the answer.
    async fn decode(
        &mut self,
        on_event: &mut impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<FinishReason> {
        loop {
            let id = self.take(on_event).await?;
            if let ControlFlow::Break(reason) = self.push(id, on_event).await {
                return Ok(reason);
            }
            if self.answer.ids.len() == self.options.max_tokens || self.room() == 0 {
                return Ok(FinishReason::Length);
            }
            if self.ahead == 0 {
                self.start_step(self.session.tokens.len())?;
            }
            self.session.tokens.push(id);
        }
    }

    /// Tokens that the context still has room for.
    fn room(&self) -> usize {
        self.session.context - self.session.tokens.len()
    }

    /// Starts the step that feeds the token chosen last, at `position`.
    fn start_step(&mut self, position: usize) -> Result<()> {
        let sampling = &self.options.sampling;
        self.session.device.decode(position, sampling)?;
        self.session.note_fed(1);
        self.ahead += 1;
        Ok(())
    }

    /// Starts as many steps as the device may be ahead.
    fn start_ahead(&mut self) -> Result<()> {
        let lookahead = match self.options.logprobs {
            Some(_) => 0,
            None => self.session.device.lookahead(),
        };
        let wanted = self.options.max_tokens - self.answer.ids.len();
        while self.ahead <= lookahead && self.ahead < wanted && self.ahead <= self.room() {
            self.start_step(self.session.tokens.len() + self.ahead - 1)?;
        }
        Ok(())
    }

    /// The oldest pending token. A device that is lost is opened again, and the token chosen again.
    async fn take(
        &mut self,
        on_event: &mut impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<u32> {
        let mut was_lost = false;
        let (id, logits) = loop {
            self.start_ahead()?;
            let taken = self.session.device.take(self.options.logprobs.is_some());
            match taken.await {
                Err(e) if e.is_device_lost() && !was_lost => {
                    was_lost = true;
                    let _ = on_event(Event::DeviceLost).await;
                    self.replay().await?;
                }
                taken => break taken?,
            }
        };
        self.ahead -= 1;
        self.logits = logits;
        if id == NOT_FINITE {
            self.session.device.discard().await?;
            let tokens = std::mem::take(&mut self.session.tokens);
            return Err(self.session.not_finite(&tokens).await);
        }
        Ok(id)
    }

    /// Opens the device again and feeds it what it had in its cache.
    async fn replay(&mut self) -> Result<()> {
        let tokens = std::mem::take(&mut self.session.tokens);
        self.session.reopen().await?;
        let silent = &mut async |_: Event<'_>| ControlFlow::Continue(());
        let feed = self.session.feed(&tokens, &self.options.sampling, silent);
        let _ = feed.await?;
        self.ahead = 1;
        Ok(())
    }

    /// Adds a token to the answer; breaks with the reason if it, or the caller, ends the answer.
    async fn push(
        &mut self,
        id: u32,
        on_event: &mut impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<FinishReason> {
        let text = &self.session.text;
        let now = Instant::now();
        let first = *self.first_token.get_or_insert(now);
        self.answer.prefill_time = first - self.start;
        self.answer.decode_time = now - first;
        self.answer.ids.push(id);
        let n = self.options.logprobs;
        let logprob = n.map(|n| TokenLogprob::of(text, &self.logits, id, n));
        if text.is_end(id) && !self.options.ignore_end {
            self.answer.logprobs.extend(logprob);
            return ControlFlow::Break(FinishReason::Stop);
        }
        let emitted = self.stream.push(text, id);
        self.answer.text.push_str(&emitted.text);
        let event = Event::Token {
            id,
            text: &emitted.text,
            logprob: logprob.as_ref(),
        };
        let flow = on_event(event).await;
        self.answer.logprobs.extend(logprob);
        if emitted.stop.is_some() {
            self.stream = TextStream::default();
            return ControlFlow::Break(FinishReason::Stop);
        }
        match flow {
            ControlFlow::Break(()) => ControlFlow::Break(FinishReason::Cancelled),
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
        }
    }
}
