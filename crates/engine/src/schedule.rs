//! Many requests over one model: which of them run. (What each step feeds of them: stepping.rs.)
//!
//! A step has a row for each request whose next token is wanted, and part of a prompt in what room is left, so that
//! running answers do not wait for a long prompt (continuous batching: G.-I. Yu et al., "Orca", 2022; chunked prefills:
//! A. Agrawal et al., "Sarathi-Serve", 2024). A request that finds no block free waits again, and its tokens run once more.

use std::collections::VecDeque;

use siskin_graph::{Capacity, NO_BLOCK};

use crate::adapters::Adapters;
use crate::answer::{FinishReason, GenerateOptions, check_sampling};
use crate::bias::check_bias;
use crate::request::{Request, RequestEvent, RequestId, Update};
use crate::store::{Blocks, Store};
use crate::{Error, Result, Session};

/// The requests of a session.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub store: Store,
    /// First come, first served.
    pub waiting: VecDeque<Request>,
    /// In the order in which they were admitted.
    pub running: Vec<Request>,
    /// Of each step whose tokens are pending: the requests that it chooses tokens for, and how many for each.
    pub started: VecDeque<Vec<(RequestId, usize)>>,
    /// The most requests that run at once.
    pub sequences: usize,
    /// The most tokens that a request guesses in a step.
    guesses: usize,
    next_id: u64,
    /// Whether the device was lost and no token has been taken since.
    pub was_lost: bool,
    /// Those that the last token was chosen from, if log-probabilities were requested.
    pub logits: Vec<f32>,
}

impl Schedule {
    pub fn new(capacity: Capacity, guesses: usize) -> Self {
        Self {
            store: Store::new(capacity),
            waiting: VecDeque::new(),
            running: vec![],
            started: VecDeque::new(),
            sequences: capacity.sequences,
            guesses,
            next_id: 0,
            was_lost: false,
            logits: vec![],
        }
    }

    /// The requests whose next token is wanted, and not the first.
    pub fn decoding(&mut self) -> impl Iterator<Item = &mut Request> {
        let running = self.running.iter_mut();
        running.filter(|r| r.waiting() == 1 && !r.answer.ids.is_empty())
    }

    pub fn by_id(&mut self, id: RequestId) -> Option<&mut Request> {
        self.running.iter_mut().find(|r| r.id == id)
    }

    /// The request begins again when it is its turn, before those that came later.
    pub fn preempt(&mut self, i: usize) {
        let mut request = self.running.remove(i);
        let cached = request.leave();
        self.store.keep(cached);
        self.waiting.push_front(request);
    }

    /// Whether all requests can have the adapters that they name.
    pub fn check_adapters(&self, adapters: &Adapters) -> Result<()> {
        let mut requests = self.running.iter().chain(&self.waiting);
        requests.try_for_each(|r| adapters.find(r.options.adapter.as_deref()).map(drop))
    }

    /// Looks up the adapters of all requests, none of which runs.
    pub fn find_adapters(&mut self, adapters: &Adapters) -> Result<()> {
        for request in &mut self.waiting {
            request.adapter = adapters.find(request.options.adapter.as_deref())?;
        }
        Ok(())
    }

    /// Empties the caches; running requests begin again.
    pub fn forget(&mut self) {
        while !self.running.is_empty() {
            self.preempt(self.running.len() - 1);
        }
        self.started.clear();
        self.store.reset();
    }

    /// Blocks for a sequence that comes with its keys and values, and the first of its blocks of windows: those before
    /// hold nothing.
    pub fn place(&mut self, tokens: usize) -> Option<(Blocks, usize)> {
        let mut own = Blocks::default();
        let seen = self.store.first_block(tokens);
        own.lists[1] = vec![NO_BLOCK; seen];
        let i = self.running.len();
        let running = self.running.iter_mut().map(|r| &mut r.blocks);
        let mut all: Vec<&mut Blocks> = running.chain([&mut own]).collect();
        match self.store.extend(&mut all, i, tokens) {
            true => Some((own, seen)),
            false => {
                self.store.give_back(own);
                None
            }
        }
    }

    /// Notes where all that run go on, before a step is put together: what rows of it see must stay.
    pub fn begin_step(&mut self) {
        self.running.iter_mut().for_each(|r| r.blocks.next = r.fed);
    }

    /// Blocks for a request's next `rows` rows. The one admitted last makes room for the others; `false` if that is this
    /// one.
    pub fn make_room(&mut self, id: RequestId, rows: usize) -> bool {
        loop {
            let Some(i) = self.running.iter().position(|r| r.id == id) else {
                return false;
            };
            let tokens = self.running[i].fed + rows;
            let mut blocks: Vec<_> = self.running.iter_mut().map(|r| &mut r.blocks).collect();
            if self.store.extend(&mut blocks, i, tokens) {
                return true;
            }
            self.preempt(self.running.len() - 1);
        }
    }
}

impl Session {
    /// Adds a prompt to be answered by [`Self::step`], beside others: as many as [`crate::OpenOptions::sequences`] run at
    /// once, the others wait. The same seed gives the same tokens, whatever else runs.
    ///
    /// # Errors
    /// If a sampling parameter is out of range, a bias is of no token, or the prompt is empty or longer than the context.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use siskin_engine::{GenerateOptions, OpenOptions, RequestEvent, Session};
    ///
    /// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
    /// # pollster::block_on(async {
    /// let options = OpenOptions {
    ///     sequences: 2,
    ///     ..OpenOptions::default()
    /// };
    /// let mut session = Session::open(path, &options, &mut |_| ()).await?;
    /// let options = GenerateOptions {
    ///     max_tokens: 8,
    ///     ..GenerateOptions::default()
    /// };
    /// let one = session.submit(&[1, 2, 3], options.clone())?;
    /// let two = session.submit(&[4, 5], options)?;
    /// assert_ne!(one, two);
    /// let mut answers = vec![];
    /// while !session.is_idle() {
    ///     for update in session.step().await? {
    ///         if let RequestEvent::Done(answer) = update.event {
    ///             answers.push((update.request, answer));
    ///         }
    ///     }
    /// }
    /// assert_eq!(answers.len(), 2);
    /// # Ok::<(), siskin_engine::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn submit(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<RequestId> {
        self.model.check_text()?;
        check_sampling(&options.sampling)?;
        check_bias(&options, self.model.dims().vocab_size)?;
        self.check_tokens(prompt)?;
        match options.keep {
            Some(keep) => self.check_keep(keep)?,
            None => self.check_length(prompt.len())?,
        }
        let adapter = self.adapters.find(options.adapter.as_deref())?;
        let schedule = &mut self.schedule;
        let id = RequestId(schedule.next_id);
        schedule.next_id += 1;
        let mut request = Request::new(id, prompt, options, schedule.guesses);
        request.adapter = adapter;
        if let Some(grammar) = &request.options.grammar {
            let begun = grammar.begin();
            request.constraint = Some(begun.map_err(|what| Error::Grammar { what })?);
        }
        request.shorten(self.capacity.context);
        schedule.waiting.push_back(request);
        Ok(id)
    }

    /// Whether no request is running or waiting.
    pub fn is_idle(&self) -> bool {
        self.schedule.running.is_empty() && self.schedule.waiting.is_empty()
    }

    /// Requests that run.
    pub fn n_running(&self) -> usize {
        self.schedule.running.len()
    }

    /// Requests that wait.
    pub fn n_waiting(&self) -> usize {
        self.schedule.waiting.len()
    }

    /// The part of the caches that no running or answered sequence occupies, from 0 to 1.
    pub fn cache_free(&self) -> f64 {
        self.schedule.store.free_part()
    }

    /// Ends a request; its answer so far has [`FinishReason::Cancelled`]. Nothing is returned if it has ended already.
    pub fn cancel(&mut self, id: RequestId) -> Vec<Update> {
        let schedule = &mut self.schedule;
        if let Some(i) = schedule.waiting.iter().position(|r| r.id == id) {
            let request = schedule.waiting.remove(i);
            let events = request.map(|r| r.finish(&self.text, FinishReason::Cancelled));
            return updates(id, events.unwrap_or_default());
        }
        match schedule.running.iter().position(|r| r.id == id) {
            Some(i) => self.end(i, FinishReason::Cancelled),
            None => vec![],
        }
    }

    /// Ends a running request; what it had in the caches stays there.
    pub(crate) fn end(&mut self, i: usize, reason: FinishReason) -> Vec<Update> {
        let mut request = self.schedule.running.remove(i);
        let cached = request.leave();
        self.schedule.store.keep(cached);
        updates(request.id, request.finish(&self.text, reason))
    }

    /// Runs one step of the requests, and returns what happened to them. If the GPU is lost, it is opened again, and the
    /// answers continue where they were.
    ///
    /// # Errors
    /// If the device fails; all requests have then ended.
    pub async fn step(&mut self) -> Result<Vec<Update>> {
        let mut out = vec![];
        let result = self.try_step(&mut out).await;
        if result.is_err() {
            self.schedule.forget();
            self.schedule.waiting.clear();
            // What is pending may fail for the same reason.
            let _ = self.device.discard().await;
        }
        result.map(|()| out)
    }
}

pub(crate) fn updates(request: RequestId, events: Vec<RequestEvent>) -> Vec<Update> {
    let update = |event| Update { request, event };
    events.into_iter().map(update).collect()
}
