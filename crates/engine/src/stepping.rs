//! What each step feeds of the requests that run (schedule.rs), and what becomes of the tokens that it chooses.

use siskin_graph::{BLOCK_TOKENS, SequenceRows, StepInput};

use crate::answer::FinishReason;
use crate::backend::Chosen;
use crate::request::{End, Request, RequestEvent, RequestId, Update};
use crate::schedule::updates;
use crate::store::common;
use crate::{Error, Result, Session};

/// While other requests decode, a step takes at most this part of a step's rows of prompts.
const PREFILL_SHARE: usize = 4;

impl Session {
    pub(crate) async fn try_step(&mut self, out: &mut Vec<Update>) -> Result<()> {
        if self.schedule.started.is_empty() {
            self.admit(out);
            self.draft().await?;
            self.constrain(out);
            self.start(out)?;
        }
        while self.may_start_ahead() {
            self.start_ahead()?;
        }
        // What is told of prompts may cancel their requests, before their first tokens are taken.
        if self.schedule.started.is_empty() || !out.is_empty() {
            return Ok(());
        }
        let wants_logits = |r: &Request| r.options.logprobs.is_some();
        let logits = self.schedule.running.iter().any(wants_logits);
        match self.device.take(logits).await {
            Err(e) if e.is_device_lost() && !self.schedule.was_lost => {
                self.schedule.was_lost = true;
                out.extend(self.schedule.running.iter().map(|r| Update {
                    request: r.id,
                    event: RequestEvent::DeviceLost,
                }));
                self.reopen().await
            }
            taken => {
                let chosen = taken?;
                self.schedule.was_lost = false;
                self.land(chosen, out).await
            }
        }
    }

    /// Lets waiting requests run while there is room for their prompts.
    fn admit(&mut self, out: &mut Vec<Update>) {
        let schedule = &mut self.schedule;
        while let Some(next) = schedule.waiting.front() {
            let occupied: usize = schedule.running.iter().map(Request::n_blocks).sum();
            let needed = next.tokens.len() / BLOCK_TOKENS + 1;
            // What another prompt is about to put into the cache need not run twice.
            let wanted = &next.tokens[..next.tokens.len() - 1];
            let is_coming = |r: &Request| {
                r.adapter == next.adapter && common(&r.tokens, wanted) >= r.fed + BLOCK_TOKENS
            };
            if schedule.running.iter().any(is_coming) {
                return;
            }
            let has_room = schedule.running.is_empty()
                || schedule.running.len() < schedule.sequences
                    && occupied + needed <= schedule.store.blocks();
            if !has_room {
                return;
            }
            let Some(mut request) = schedule.waiting.pop_front() else {
                return;
            };
            if request.options.max_tokens == 0 {
                let (id, reason) = (request.id, FinishReason::Length);
                out.extend(updates(id, request.finish(&self.text, reason)));
                continue;
            }
            let running = schedule.running.iter_mut().map(|r| &mut r.blocks);
            // Room for a copy of a block.
            schedule.store.trim(&mut running.collect::<Vec<_>>(), true);
            let (store, tokens, adapter) = (&mut schedule.store, &request.tokens, request.adapter);
            let found = match &mut self.states {
                Some(states) => states.find(store, tokens, adapter, &mut *self.device),
                None => {
                    let running = schedule.running.iter().filter(|r| r.adapter == adapter);
                    let cached =
                        running.map(|r| (&r.tokens[..r.fed.min(r.tokens.len())], &r.blocks));
                    store.find(tokens, adapter, cached)
                }
            };
            self.device.copy_blocks(found.copies);
            let taken = |slot: &usize| schedule.running.iter().any(|r| r.slot == *slot);
            request.slot = (0..).find(|slot| !taken(slot)).unwrap_or_default();
            (request.fed, request.blocks) = (found.tokens, found.blocks);
            request.blocks.mark = request.answer.prompt_tokens.min(request.tokens.len());
            if request.answer.ids.is_empty() {
                request.answer.cached_tokens = found.tokens;
            }
            self.device
                .set_seen(request.slot, &request.tokens[..request.fed]);
            schedule.running.push(request);
        }
    }

    /// Asks the grammars which tokens may be chosen next; requests whose grammar allows none fail.
    fn constrain(&mut self, out: &mut Vec<Update>) {
        let mut failed = vec![];
        for (i, request) in self.schedule.running.iter_mut().enumerate() {
            let Some(constraint) = &mut request.constraint else {
                continue;
            };
            match constraint.allowed() {
                Ok(allowed) if request.bias.as_ref().is_some_and(|b| b.bans_all(&allowed)) => {
                    failed.push((i, "logit_bias bans all tokens that may follow".into()));
                }
                Ok(allowed) => request.allowed = Some(allowed),
                Err(what) => failed.push((i, what)),
            }
        }
        for (i, what) in failed.into_iter().rev() {
            out.push(self.fail(i, Error::Grammar { what }));
        }
    }

    /// Ends a running request that cannot be answered.
    fn fail(&mut self, i: usize, error: Error) -> Update {
        let mut request = self.schedule.running.remove(i);
        let cached = request.leave();
        self.schedule.store.keep(cached);
        Update {
            request: request.id,
            event: RequestEvent::Failed(error),
        }
    }

    /// Starts a step of all running requests, if there are any.
    fn start(&mut self, out: &mut Vec<Update>) -> Result<()> {
        let most = self.device.prefill_rows().min(self.max_rows());
        let schedule = &mut self.schedule;
        schedule.begin_step();
        let decodes = schedule.running.iter().filter(|r| r.waiting() == 1).count();
        let mut room = match decodes {
            0 => most,
            _ => most.saturating_sub(decodes).min(most / PREFILL_SHARE),
        };
        let ids: Vec<RequestId> = schedule.running.iter().map(|r| r.id).collect();
        let (mut sequences, mut sampled, mut tokens) = (vec![], vec![], vec![]);
        for id in ids {
            let Some(part) = self.next_part(id, &mut room, &mut tokens) else {
                continue;
            };
            if part.choices > 0 {
                sampled.push((id, part.choices));
            }
            if let Some(request) = self.schedule.by_id(id)
                && request.answer.ids.is_empty()
            {
                out.push(Update {
                    request: id,
                    event: RequestEvent::Prefill {
                        done: request.fed,
                        total: request.tokens.len(),
                    },
                });
            }
            sequences.push(part);
        }
        // A request that made room for another has left the step.
        if sequences.is_empty() {
            return Ok(());
        }
        let tokens = Some(tokens);
        self.device.step(&StepInput { tokens, sequences })?;
        if !sampled.is_empty() {
            self.schedule.started.push_back(sampled);
        }
        Ok(())
    }

    /// The next rows of a request, with at most `room` rows of a prompt, and their tokens; `None` if there is no room.
    fn next_part(
        &mut self,
        id: RequestId,
        room: &mut usize,
        tokens: &mut Vec<u32>,
    ) -> Option<SequenceRows> {
        let context = self.capacity.context;
        let schedule = &mut self.schedule;
        let waiting = schedule.by_id(id)?.waiting();
        let mut rows = if waiting == 1 { 1 } else { waiting.min(*room) };
        // The same prompt may come again, or another with the same beginning: states are kept before its last token.
        if self.states.is_some() && waiting > 1 {
            rows = rows.min(waiting - 1);
        }
        if rows == 0 || !schedule.make_room(id, rows) {
            return None;
        }
        let free = schedule.store.free() * BLOCK_TOKENS;
        let request = schedule.by_id(id)?;
        if waiting > 1 {
            *room -= rows;
        } else if !request.answer.ids.is_empty() {
            // Nobody makes room for guesses.
            let most = (request.n_blocks() * BLOCK_TOKENS + free).min(context);
            request.guess(most - request.fed - 1);
        }
        let rows_and_guesses = rows + request.guesses.len();
        if !schedule.make_room(id, rows_and_guesses) {
            return None;
        }
        let request = schedule.by_id(id)?;
        if let Some(states) = self.states.as_mut() {
            if waiting == 1 && request.answer.ids.is_empty() {
                self.device.keep_states();
                states.kept = Some(request.fed);
            }
            states.fed += rows;
        }
        tokens.extend(&request.tokens[request.fed..request.fed + rows]);
        tokens.extend(&request.guesses);
        Some(request.feed(rows))
    }

    /// Whether another step may start before the tokens of the last one are taken: all that runs goes on.
    fn may_start_ahead(&self) -> bool {
        let schedule = &self.schedule;
        let Some(last) = schedule.started.back() else {
            return false;
        };
        let is_full = schedule.running.len() == schedule.sequences;
        schedule.started.len() <= self.device.lookahead()
            && (schedule.waiting.is_empty() || is_full)
            && schedule
                .running
                .iter()
                .map(|r| (r.id, 1))
                .eq(last.iter().copied())
            && schedule.running.iter().all(|r| {
                let has_block = (r.fed + 1).div_ceil(BLOCK_TOKENS) <= r.n_blocks();
                r.options.logprobs.is_none()
                    && !r.guesser.is_active()
                    && !r.needs_tokens()
                    && r.goes_on(self.capacity.context)
                    && (has_block || schedule.store.free() >= schedule.running.len())
            })
    }

    /// Starts the step that feeds the tokens which the last one chooses.
    fn start_ahead(&mut self) -> Result<()> {
        let schedule = &mut self.schedule;
        schedule.begin_step();
        let ids: Vec<RequestId> = schedule.running.iter().map(|r| r.id).collect();
        let mut sequences = vec![];
        for id in &ids {
            schedule.make_room(*id, 1);
            sequences.extend(schedule.by_id(*id).map(|r| r.feed(1)));
        }
        self.device.step(&StepInput {
            tokens: None,
            sequences,
        })?;
        self.note_fed(1);
        let started = ids.into_iter().map(|id| (id, 1)).collect();
        self.schedule.started.push_back(started);
        Ok(())
    }

    /// Gives the tokens of the oldest step to their requests.
    async fn land(&mut self, chosen: Vec<Chosen>, out: &mut Vec<Update>) -> Result<()> {
        let sampled = self.schedule.started.pop_front().unwrap_or_default();
        let mut chosen = chosen.into_iter();
        let mut failed = vec![];
        for (id, choices) in sampled {
            let chosen: Vec<Chosen> = chosen.by_ref().take(choices).collect();
            let running = &mut self.schedule.running;
            let Some(i) = running.iter().position(|r| r.id == id) else {
                continue;
            };
            let mut events = vec![];
            let taken = running[i].take(&self.text, chosen, self.capacity.context, &mut events);
            if let Some(logits) = taken.logits {
                self.schedule.logits = logits;
            }
            out.extend(updates(id, events));
            match taken.end {
                None if running[i].tokens.len() > self.capacity.context => {
                    self.schedule.preempt(i);
                    if let Some(request) = self.schedule.waiting.front_mut() {
                        request.shorten(self.capacity.context);
                    }
                }
                None => {}
                Some(End::NotFinite) => failed.push(self.schedule.running.remove(i)),
                Some(End::Answered(reason)) => out.extend(self.end(i, reason)),
                Some(End::Ungrammatical(what)) => {
                    out.push(self.fail(i, Error::Grammar { what }));
                }
            }
        }
        for mut request in failed {
            self.schedule.store.give_back(request.leave().blocks);
            let event = RequestEvent::Failed(self.not_finite(&request.tokens).await);
            out.push(Update {
                request: request.id,
                event,
            });
        }
        if self.schedule.running.is_empty() {
            self.discard().await?;
        }
        Ok(())
    }

    /// Drops the pending tokens, which nobody needs any more: not those of a lost device either.
    pub(crate) async fn discard(&mut self) -> Result<()> {
        self.schedule.started.clear();
        match self.device.discard().await {
            Err(e) if e.is_device_lost() => self.reopen().await,
            other => other,
        }
    }

    /// Empties the caches; running requests begin again.
    pub(crate) async fn forget(&mut self) -> Result<()> {
        self.schedule.forget();
        self.discard().await
    }
}
