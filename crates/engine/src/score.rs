//! How likely given texts are, token by token. The texts of one call run side by side, and what they begin with alike runs
//! once, as does what sequences in the caches begin with already.

use std::collections::HashMap;

use siskin_graph::{BLOCK_TOKENS, Sampling, SequenceRows, StepInput};

use crate::answer::log_sum_exp;
use crate::backend::NOT_FINITE;
use crate::recurrent::StateMarks;
use crate::store::{Blocks, Cached, common};
use crate::{Error, Result, Session};

/// A text whose end is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoredText {
    /// All of its tokens.
    pub tokens: Vec<u32>,
    /// The first token that is scored, at least 1, given all before it; those after it are scored too.
    pub from: usize,
}

/// How likely a token is after those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// Whether no other token is likelier.
    pub is_likeliest: bool,
}

/// Texts that differ in their last token alone run once: the last token is not run.
#[derive(Debug)]
struct Run<'a> {
    /// What is run.
    tokens: &'a [u32],
    /// The first row after which a token is scored.
    scored: usize,
    /// Which of the texts they are.
    texts: Vec<usize>,
}

/// A run with its place in the caches.
#[derive(Debug)]
struct Running<'a> {
    run: &'a Run<'a>,
    fed: usize,
    blocks: Blocks,
}

fn runs(texts: &[ScoredText]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run> = vec![];
    let mut places: HashMap<&[u32], usize> = HashMap::new();
    for (i, text) in texts.iter().enumerate() {
        let tokens = &text.tokens[..text.tokens.len() - 1];
        let place = *places.entry(tokens).or_insert(runs.len());
        let scored = text.from - 1;
        match runs.get_mut(place) {
            Some(run) => {
                run.scored = run.scored.min(scored);
                run.texts.push(i);
            }
            None => runs.push(Run {
                tokens,
                scored,
                texts: vec![i],
            }),
        }
    }
    runs
}

/// How many tokens all runs begin with before any of their tokens is scored.
fn shared(runs: &[Run<'_>]) -> usize {
    let Some(first) = runs.first() else { return 0 };
    let lengths = runs
        .iter()
        .map(|r| common(r.tokens, first.tokens).min(r.scored));
    lengths.min().unwrap_or(0)
}

impl Running<'_> {
    fn rest(&self) -> usize {
        self.run.tokens.len() - self.fed
    }

    /// Its next rows, at most so many, with at most so many scores; and how many scores these are.
    fn part(&self, rows: usize, scores: usize) -> (usize, usize) {
        let unscored = self.run.scored.saturating_sub(self.fed);
        let rows = self.rest().min(rows).min(unscored + scores);
        (rows, rows.saturating_sub(unscored))
    }

    fn cached(self) -> Cached {
        Cached {
            adapter: None,
            tokens: self.run.tokens[..self.fed].to_vec(),
            blocks: self.blocks,
        }
    }
}

impl Session {
    /// The log-probability of each token of the texts from [`ScoredText::from`] on. Requests that run begin again.
    ///
    /// As many texts as [`crate::OpenOptions::sequences`] run at once, and as many tokens as
    /// [`crate::OpenOptions::scores`] are scored in a step: by default a text and a token.
    ///
    /// # Errors
    /// If a text has no token before the first that is scored, or none that is, or more tokens than the context and one;
    /// a token is not in the vocabulary; the logits are not finite; or the device fails.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use siskin_engine::{OpenOptions, ScoredText, Session};
    ///
    /// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
    /// # pollster::block_on(async {
    /// let options = OpenOptions {
    ///     sequences: 2,
    ///     scores: 16,
    ///     ..OpenOptions::default()
    /// };
    /// let mut session = Session::open(path, &options, &mut |_| ()).await?;
    /// let text = |end: u32| ScoredText {
    ///     tokens: vec![1, 2, 3, end],
    ///     from: 3,
    /// };
    /// let scores = session.score(&[text(4), text(5)]).await?;
    /// assert!(scores[0][0].logprob < 0.0);
    /// # Ok::<(), siskin_engine::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn score(&mut self, texts: &[ScoredText]) -> Result<Vec<Vec<TokenScore>>> {
        self.model.check_text()?;
        for text in texts {
            self.check_tokens(&text.tokens)?;
            if !(1..text.tokens.len()).contains(&text.from) {
                return Err(Error::NothingScored {
                    from: text.from,
                    tokens: text.tokens.len(),
                });
            }
            self.check_length(text.tokens.len() - 1)?;
        }
        if !self.schedule.running.is_empty() || !self.schedule.started.is_empty() {
            self.forget().await?;
        }
        let runs = runs(texts);
        let mut out = vec![vec![]; texts.len()];
        let (mut at, mut was_lost) = (0, false);
        while at < runs.len() {
            let end = runs.len().min(at + self.capacity.sequences);
            let scored = match self.states.is_some() {
                true => self.score_in_turn(texts, &runs[at..], &mut out).await,
                false => self.score_together(texts, &runs[at..end], &mut out).await,
            };
            match scored {
                Ok(done) => {
                    at += done;
                    was_lost = false;
                }
                Err(e) => {
                    // Blocks of what ran are with the error.
                    self.schedule.forget();
                    if !e.is_device_lost() || was_lost {
                        let _ = self.device.discard().await;
                        return Err(e);
                    }
                    was_lost = true;
                    let texts = runs[at..].iter().flat_map(|r| &r.texts);
                    texts.for_each(|i| out[*i].clear());
                    self.reopen().await?;
                }
            }
        }
        Ok(out)
    }

    /// Scores some of the runs, as many as there are blocks for, and returns how many.
    async fn score_together(
        &mut self,
        texts: &[ScoredText],
        runs: &[Run<'_>],
        out: &mut [Vec<TokenScore>],
    ) -> Result<usize> {
        let shared = shared(runs);
        if runs.len() > 1 && shared > 0 {
            let beginning = Run {
                tokens: &runs[0].tokens[..shared],
                scored: shared,
                texts: vec![],
            };
            let running = self.place(&beginning, &mut [], shared)?;
            let mut all = [running.ok_or(self.no_room(shared))?];
            self.run_scored(texts, &mut all, out).await?;
            let cached = all.map(Running::cached);
            cached.into_iter().for_each(|c| self.schedule.store.keep(c));
        }
        let mut all: Vec<Running> = vec![];
        for run in runs {
            let Some(running) = self.place(run, &mut all, shared)? else {
                break;
            };
            all.push(running);
        }
        if all.is_empty() {
            return Err(self.no_room(runs[0].tokens.len()));
        }
        self.run_scored(texts, &mut all, out).await?;
        let done = all.len();
        let cached = all.into_iter().map(Running::cached);
        cached.for_each(|c| self.schedule.store.keep(c));
        Ok(done)
    }

    /// Scores all runs of a model with recurrent states, which are one sequence's: those after the shared beginning are
    /// kept.
    async fn score_in_turn(
        &mut self,
        texts: &[ScoredText],
        runs: &[Run<'_>],
        out: &mut [Vec<TokenScore>],
    ) -> Result<usize> {
        let shared = if runs.len() > 1 { shared(runs) } else { 0 };
        let longest = runs.iter().map(|r| r.tokens.len()).max().unwrap_or(0);
        self.schedule.store.clear();
        let mut blocks = Blocks::default();
        if !(self.schedule.store).extend(&mut [&mut blocks], 0, longest) {
            return Err(self.no_room(longest));
        }
        if shared > 0 {
            let beginning = Run {
                tokens: &runs[0].tokens[..shared],
                scored: shared,
                texts: vec![],
            };
            let running = Running {
                run: &beginning,
                fed: 0,
                blocks: blocks.clone(),
            };
            self.run_scored(texts, &mut [running], out).await?;
            self.device.keep_states();
        }
        for (i, run) in runs.iter().enumerate() {
            if shared > 0 && i > 0 {
                self.device.restore_states();
            }
            let running = Running {
                run,
                fed: shared,
                blocks: blocks.clone(),
            };
            self.run_scored(texts, &mut [running], out).await?;
        }
        self.schedule.store.give_back(blocks);
        self.states = Some(StateMarks::default());
        Ok(runs.len())
    }

    /// A run with blocks for all of its tokens, beside others; `None` if there are not enough. Further runs may begin with
    /// the same `shared` tokens.
    fn place<'a>(
        &mut self,
        run: &'a Run<'a>,
        others: &mut [Running<'_>],
        shared: usize,
    ) -> Result<Option<Running<'a>>> {
        let store = &mut self.schedule.store;
        // One token more than what may be found, since the last one never is.
        let wanted = &run.tokens[..run.tokens.len().min(run.scored + 1)];
        let blocks = others.iter_mut().map(|o| &mut o.blocks);
        // Room for a copy of a block.
        store.trim(&mut blocks.collect::<Vec<_>>(), true);
        let running = others.iter().map(|o| (&o.run.tokens[..o.fed], &o.blocks));
        let found = store.find(wanted, None, running);
        self.device.copy_blocks(found.copies);
        let mut running = Running {
            run,
            fed: found.tokens,
            blocks: found.blocks,
        };
        running.blocks.mark = shared;
        let store = &mut self.schedule.store;
        while running.blocks.lists[0].len() < run.tokens.len().div_ceil(BLOCK_TOKENS) {
            match store.take() {
                Some(block) => running.blocks.lists[0].push(block),
                None => {
                    store.give_back(running.blocks);
                    return Ok(None);
                }
            }
        }
        Ok(Some(running))
    }

    fn no_room(&self, prompt: usize) -> Error {
        Error::PromptTooLong {
            prompt,
            context: self.context(),
            trained: self.model.dims().context_length,
        }
    }

    /// Runs all that is left of some runs.
    async fn run_scored(
        &mut self,
        texts: &[ScoredText],
        all: &mut [Running<'_>],
        out: &mut [Vec<TokenScore>],
    ) -> Result<()> {
        let most = self.device.prefill_rows().min(self.max_rows());
        while all.iter().any(|r| r.rest() > 0) {
            let (mut rows_left, mut scores_left) = (most, self.capacity.choices);
            let (mut tokens, mut sequences, mut parts) = (vec![], vec![], vec![]);
            all.iter_mut().for_each(|r| r.blocks.next = r.fed);
            for i in 0..all.len() {
                let (rows, choices) = all[i].part(rows_left, scores_left);
                if rows == 0 {
                    continue;
                }
                let (position, length) = (all[i].fed, all[i].run.tokens.len());
                let mut blocks: Vec<_> = all.iter_mut().map(|r| &mut r.blocks).collect();
                if !(self.schedule.store).extend(&mut blocks, i, position + rows) {
                    return Err(self.no_room(length));
                }
                let running = &mut all[i];
                running.fed += rows;
                rows_left -= rows;
                scores_left -= choices;
                tokens.extend(&running.run.tokens[position..running.fed]);
                parts.push((i, running.fed - choices..running.fed));
                let [blocks, windowed] = running.blocks.of(running.fed);
                sequences.push(SequenceRows {
                    rows,
                    position,
                    slot: i,
                    blocks,
                    windowed,
                    choices,
                    sampling: Sampling::default(),
                    allowed: None,
                    added: vec![],
                    adapter: None,
                });
            }
            let tokens = Some(tokens);
            self.device.step(&StepInput { tokens, sequences })?;
            if scores_left == self.capacity.choices {
                continue;
            }
            let mut chosen = self.device.take(true).await?.into_iter();
            for (i, rows) in parts {
                let run = all[i].run;
                for (row, (likeliest, logits)) in rows.zip(chosen.by_ref()) {
                    if likeliest == NOT_FINITE {
                        return Err(self.not_finite(run.tokens).await);
                    }
                    let total = log_sum_exp(&logits);
                    for i in run.texts.iter().filter(|i| texts[**i].from <= row + 1) {
                        let token = texts[*i].tokens[row + 1];
                        out[*i].push(TokenScore {
                            logprob: logits[token as usize] - total,
                            is_likeliest: token == likeliest,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}
