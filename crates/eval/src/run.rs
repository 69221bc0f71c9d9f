//! Runs the items of a task on a session.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::ControlFlow;

use serde_json::Value as Json;
use siskin_engine::{RequestEvent, RequestId, ScoredText, Session, TokenScore};

use crate::encoding::{pair, tokens};
use crate::error::bad;
use crate::metric::{Choices, Of, labels};
use crate::prompt::{Item, Request};
use crate::record::{ItemResult, Score};
use crate::task::{Kind, Task};
use crate::windows::rolling;
use crate::{Error, Result};

/// What [`Task::run`] reports.
#[derive(Debug)]
pub enum Event {
    /// A step has been run.
    Step,
    /// A record is done.
    Done(ItemResult),
}

/// The log-likelihood of the scored tokens, and whether each of them is the likeliest.
fn sum(scores: &[TokenScore]) -> (f64, bool) {
    let sum = scores.iter().map(|s| f64::from(s.logprob)).sum();
    (sum, scores.iter().all(|s| s.is_likeliest))
}

/// The texts of an item's contexts and continuations.
fn texts_of(session: &Session, item: &Item, prefix: u32) -> Result<Vec<ScoredText>> {
    let Request::Pairs(pairs) = &item.request else {
        return Ok(vec![]);
    };
    let mut texts = vec![];
    for p in pairs {
        let text = pair(&session.text, p, prefix, session.context())?;
        texts.push(text.map_err(|what| Error::record(item.index, what))?);
    }
    Ok(texts)
}

impl Task {
    /// Runs items, which may be done in another order. `on_event` can stop it. Drawn answers depend on the seed and the
    /// record alone.
    ///
    /// # Errors
    /// If a record cannot be scored, or the device fails.
    pub async fn run(
        &self,
        session: &mut Session,
        items: &[&Item],
        seed: u64,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        if self.kind == Kind::Generate {
            return self.generate(session, items, seed, on_event).await;
        }
        let mut rest = items;
        while let Some(item) = rest.first() {
            let (results, done) = match &item.request {
                Request::Pairs(_) => self.pairs(session, rest).await?,
                Request::Rolling(text) => (vec![self.rolling(session, item.index, text).await?], 1),
                Request::Window(window) => {
                    (vec![self.window(session, item.index, window).await?], 1)
                }
                Request::Generate(_) => (vec![], 1),
            };
            rest = &rest[done..];
            for result in results {
                if on_event(Event::Done(result)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Scores the first of the items. If its texts are one but for their last tokens, further such items run beside it.
    async fn pairs(
        &self,
        session: &mut Session,
        items: &[&Item],
    ) -> Result<(Vec<ItemResult>, usize)> {
        let prefix = self.check_prefix(session)?;
        let (mut texts, mut counts) = (vec![], vec![]);
        for item in items.iter().take(session.sequences()) {
            let own = match texts_of(session, item, prefix) {
                Ok(own) => own,
                // What is before it is scored first.
                Err(_) if !counts.is_empty() => break,
                Err(e) => return Err(e),
            };
            let run = |t: &ScoredText| t.tokens[..t.tokens.len() - 1].to_vec();
            let is_one = own.iter().all(|t| run(t) == run(&own[0]));
            if !is_one && !counts.is_empty() {
                break;
            }
            counts.push(own.len());
            texts.extend(own);
            if !is_one {
                break;
            }
        }
        let scores = session.score(&texts).await?;
        let mut scores = scores.iter().map(|s| sum(s));
        let mut results = vec![];
        for (item, n) in items.iter().zip(&counts) {
            let of = scores.by_ref().take(*n).unzip();
            results.push(self.pairs_result(item, of)?);
        }
        Ok((results, counts.len()))
    }

    fn pairs_result(
        &self,
        item: &Item,
        (all, greedy): (Vec<f64>, Vec<bool>),
    ) -> Result<ItemResult> {
        let scores = match self.kind {
            Kind::MultipleChoice => self.choice_scores(item, &all, &greedy),
            _ => Ok(self.likelihood_scores(all[0], greedy[0])),
        };
        Ok(ItemResult {
            index: item.index,
            scores: scores.map_err(|what| Error::record(item.index, what))?,
            log_likelihoods: all,
            is_greedy: greedy,
            answers: vec![],
            results: BTreeMap::new(),
        })
    }

    fn likelihood_scores(&self, log_likelihood: f64, is_greedy: bool) -> BTreeMap<String, Score> {
        let score = |name: &str| match name {
            "acc" => Score::of(is_greedy),
            _ => Score::Mean(log_likelihood),
        };
        self.metrics
            .iter()
            .map(|m| (m.name.into(), score(m.name)))
            .collect()
    }

    fn choice_scores(
        &self,
        item: &Item,
        all: &[f64],
        greedy: &[bool],
    ) -> std::result::Result<BTreeMap<String, Score>, String> {
        let n = item.choices.len();
        let mut choices = Choices {
            texts: &item.choices,
            log_likelihoods: &all[..n],
            is_greedy: &greedy[..n],
            unconditional: &all[n..],
            right: &right(&item.target, &item.choices)?,
            labels: None,
        };
        let mut scores = BTreeMap::new();
        for metric in &self.metrics {
            if let Of::Labels(field) = &metric.of {
                choices.labels = Some(labels(&field.list(&item.document)?, n)?);
            }
            scores.insert(metric.name.into(), choices.score(metric.name));
        }
        Ok(scores)
    }

    async fn rolling(&self, session: &mut Session, index: usize, text: &str) -> Result<ItemResult> {
        let prefix = self.check_prefix(session)?;
        let tokens = tokens(&session.text, text)?;
        if tokens.is_empty() {
            return Err(Error::record(index, "its text is empty"));
        }
        let windows = rolling(&tokens, prefix, session.context());
        let mut total = 0.0;
        for scores in session.score(&windows).await? {
            total += sum(&scores).0;
        }
        // Python's `len(re.split(r"\s+", text))`.
        let mut words = 1;
        let mut in_space = false;
        for c in text.chars() {
            words += usize::from(c.is_whitespace() && !in_space);
            in_space = c.is_whitespace();
        }
        let score = |name: &str| match name {
            "word_perplexity" => Score::Ratio([total, words as f64]),
            _ => Score::Ratio([total, text.len() as f64]),
        };
        Ok(ItemResult {
            index,
            scores: self
                .metrics
                .iter()
                .map(|m| (m.name.into(), score(m.name)))
                .collect(),
            log_likelihoods: vec![total],
            is_greedy: vec![],
            answers: vec![],
            results: BTreeMap::new(),
        })
    }

    async fn window(
        &self,
        session: &mut Session,
        index: usize,
        window: &ScoredText,
    ) -> Result<ItemResult> {
        let scores = session
            .score(std::slice::from_ref(window))
            .await?
            .swap_remove(0);
        let total = sum(&scores).0;
        let squares = scores.iter().map(|s| f64::from(s.logprob).powi(2)).sum();
        let score = Score::Tokens([total, scores.len() as f64, squares]);
        Ok(ItemResult {
            index,
            scores: BTreeMap::from([("perplexity".into(), score)]),
            log_likelihoods: vec![total],
            is_greedy: vec![],
            answers: vec![],
            results: BTreeMap::new(),
        })
    }

    /// Answers all items, as many at once as the session does.
    async fn generate(
        &self,
        session: &mut Session,
        items: &[&Item],
        seed: u64,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let Some(room) = session
            .context()
            .checked_sub(self.generation.max_tokens)
            .filter(|n| *n > 0)
        else {
            return bad(
                "generation_kwargs.max_gen_toks",
                format!(
                    "is {}, and the context holds {} tokens",
                    self.generation.max_tokens,
                    session.context()
                ),
            );
        };
        if self.repeats > 1 && self.generation.is_greedy() {
            return bad(
                "repeats",
                "needs `do_sample: true`: all answers would be the same",
            );
        }
        let mut waiting: VecDeque<usize> = (0..items.len()).collect();
        let mut running: HashMap<RequestId, (usize, usize)> = HashMap::new();
        let mut answers: Vec<Vec<Option<String>>> = vec![vec![None; self.repeats]; items.len()];
        loop {
            // Those that wait behind others find their beginnings in the cache.
            while running.len() < 2 * session.sequences()
                && let Some(i) = waiting.pop_front()
            {
                let item = items[i];
                let Request::Generate(prompt) = &item.request else {
                    continue;
                };
                let prompt = tokens(&session.text, prompt)?;
                let prompt = &prompt[prompt.len().saturating_sub(room)..];
                for repeat in 0..self.repeats {
                    let number = (item.index * self.repeats + repeat) as u64;
                    let seed = seed.wrapping_add(number);
                    let options = self.generation.options(&session.text, seed);
                    let submitted = session.submit(prompt, options);
                    let id = submitted.map_err(|e| Error::record(item.index, e.to_string()))?;
                    running.insert(id, (i, repeat));
                }
            }
            if session.is_idle() {
                return Ok(ControlFlow::Continue(()));
            }
            for update in session.step().await? {
                match update.event {
                    RequestEvent::Failed(e) => return Err(e.into()),
                    RequestEvent::Done(answer) => {
                        let Some((i, repeat)) = running.remove(&update.request) else {
                            continue;
                        };
                        answers[i][repeat] = Some(answer.text);
                        let all: Option<Vec<String>> = answers[i].iter().cloned().collect();
                        let Some(all) = all else { continue };
                        let result = self.answered(items[i], all)?;
                        if on_event(Event::Done(result)).is_break() {
                            return Ok(stopped(session, running));
                        }
                    }
                    _ => {}
                }
            }
            if on_event(Event::Step).is_break() {
                return Ok(stopped(session, running));
            }
        }
    }

    fn answered(&self, item: &Item, answers: Vec<String>) -> Result<ItemResult> {
        let targets = self
            .targets(item)
            .map_err(|what| Error::record(item.index, what))?;
        let (mut scores, mut results) = (BTreeMap::new(), BTreeMap::new());
        for filter in &self.filters {
            let result = filter.apply(&answers);
            for metric in &self.metrics {
                let name = match filter.name.as_str() {
                    "none" => metric.name.to_string(),
                    filter => format!("{},{filter}", metric.name),
                };
                scores.insert(name, metric.of_result(&result, &targets));
            }
            results.insert(filter.name.clone(), result);
        }
        Ok(ItemResult {
            index: item.index,
            scores,
            log_likelihoods: vec![],
            is_greedy: vec![],
            answers,
            results,
        })
    }

    /// The texts that answers are compared with.
    fn targets(&self, item: &Item) -> std::result::Result<Vec<String>, String> {
        if self.choice.is_some() {
            let right = right(&item.target, &item.choices)?;
            return Ok(right.iter().map(|i| item.choices[*i].clone()).collect());
        }
        let text = |v: &Json| match v {
            Json::String(text) => Ok(text.clone()),
            Json::Number(n) => Ok(n.to_string()),
            Json::Bool(true) => Ok("True".into()),
            Json::Bool(false) => Ok("False".into()),
            other => Err(format!("`doc_to_target` is {other}, which is not a text")),
        };
        match &item.target {
            Json::Null => Ok(vec![]),
            Json::Array(all) => all.iter().map(text).collect(),
            one => Ok(vec![text(one)?]),
        }
    }
}

fn stopped(session: &mut Session, running: HashMap<RequestId, (usize, usize)>) -> ControlFlow<()> {
    for id in running.into_keys() {
        session.cancel(id);
    }
    ControlFlow::Break(())
}

/// The numbers of the choices that a target says are right.
fn right(target: &Json, choices: &[String]) -> std::result::Result<Vec<usize>, String> {
    let one = |target: &Json| {
        let place = match target {
            Json::String(text) => choices.iter().position(|c| c == text),
            other => other
                .as_u64()
                .map(|i| i as usize)
                .filter(|i| *i < choices.len()),
        };
        place.ok_or_else(|| {
            format!(
                "its target {target} is none of its {} choices",
                choices.len()
            )
        })
    };
    match target {
        Json::Array(all) => all.iter().map(one).collect(),
        target => Ok(vec![one(target)?]),
    }
}
