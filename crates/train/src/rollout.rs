//! Answers that the model draws, for rewards to judge.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use siskin_engine::{Answer, FinishReason, GenerateOptions, RequestEvent, Session};
use siskin_graph::{Noise, Sampling};
use siskin_text::Message;
use web_time::Instant;

use crate::{Example, Record, Result, Trainer};

/// An answer that the model drew. As JSON, it is what a reward reads: `prompt`, `completion`, `answer` if the record has
/// one, and the record's other columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rollout {
    /// The position of the prompt's record, from 1.
    pub line: usize,
    pub prompt: Vec<Message>,
    pub completion: String,
    /// That of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(flatten)]
    pub columns: Map<String, Json>,
    /// Whether it reached `max_completion_length` before its end.
    pub truncated: bool,
    /// The tokens that were drawn, with the one that ended the answer.
    #[serde(skip)]
    pub ids: Vec<u32>,
    /// The place of the prompt among the examples, which held-out ones follow.
    #[serde(skip)]
    pub place: usize,
}

/// How far drawing answers has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutProgress {
    pub answers: usize,
    pub of: usize,
    pub tokens: usize,
}

/// What rewards need of a record.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub line: usize,
    pub prompt: Vec<Message>,
    pub answer: Option<String>,
    pub columns: Map<String, Json>,
}

impl Asked {
    pub fn of(record: &Record) -> Self {
        Self {
            line: record.line,
            prompt: record
                .example
                .question()
                .map_or(vec![], |question| question.messages),
            answer: record.example.reference_answer(),
            columns: match &record.example {
                Example::Prompt(p) => p.columns.clone(),
                _ => Map::new(),
            },
        }
    }
}

impl Trainer {
    /// Draws the answers of the next step: `num_generations` for each prompt, one prompt's after the other's. Stops with
    /// `None` if `on_progress` says so.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn roll_out(
        &mut self,
        session: &mut Session,
        on_progress: &mut dyn FnMut(RolloutProgress) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Rollout>>> {
        let start = Instant::now();
        let n = self.plan.options.num_generations();
        let mut asked = vec![];
        for place in self.examples_of(self.step) {
            asked.extend((0..n).map(|i| {
                let sampling = Sampling {
                    temperature: 1.0,
                    seed: self.answer_seed(place * n + i),
                    ..Sampling::default()
                };
                (place, sampling)
            }));
        }
        let rollouts = self.answers(session, &asked, on_progress).await;
        self.drawing_seconds = start.elapsed().as_secs_f64();
        rollouts
    }

    /// Of an answer of the next step. Hashed step by step, so that no two seeds have answers in common.
    fn answer_seed(&self, answer: usize) -> u64 {
        let parts = [self.plan.options.seed, self.step as u64, answer as u64];
        parts.into_iter().fold(0, |key, part| {
            let mut noise = Noise::new(key ^ part);
            u64::from(noise.bits()) << 32 | u64::from(noise.bits())
        })
    }

    /// The likeliest answer to each held-out prompt.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn answer_held_out(
        &self,
        session: &mut Session,
        on_progress: &mut dyn FnMut(RolloutProgress) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Rollout>>> {
        let first = self.plan.examples.len();
        let places = first..first + self.plan.held_out.len();
        let asked: Vec<_> = places.map(|p| (p, Sampling::default())).collect();
        self.answers(session, &asked, on_progress).await
    }

    async fn answers(
        &self,
        session: &mut Session,
        asked: &[(usize, Sampling)],
        on_progress: &mut dyn FnMut(RolloutProgress) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Rollout>>> {
        let mut requests = BTreeMap::new();
        for (at, (place, sampling)) in asked.iter().enumerate() {
            let options = GenerateOptions {
                sampling: *sampling,
                max_tokens: self.plan.options.max_completion_length(),
                ..GenerateOptions::default()
            };
            let prompt = &self.item(*place).texts[0].ids;
            requests.insert(session.submit(prompt, options)?, at);
        }
        let mut answers: Vec<Option<Answer>> = vec![None; asked.len()];
        let mut progress = RolloutProgress {
            answers: 0,
            of: asked.len(),
            tokens: 0,
        };
        while !session.is_idle() {
            for update in session.step().await? {
                let Some(at) = requests.get(&update.request) else {
                    continue;
                };
                match update.event {
                    RequestEvent::Token { .. } => progress.tokens += 1,
                    RequestEvent::Done(answer) => {
                        progress.answers += 1;
                        answers[*at] = Some(*answer);
                    }
                    RequestEvent::Failed(error) => {
                        requests.keys().for_each(|id| _ = session.cancel(*id));
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
            if on_progress(progress).is_break() {
                requests.keys().for_each(|id| _ = session.cancel(*id));
                return Ok(None);
            }
        }
        let answered = asked.iter().zip(answers);
        let rollouts =
            answered.filter_map(|((place, _), answer)| Some(self.rollout(*place, answer?)));
        Ok(Some(rollouts.collect()))
    }

    fn rollout(&self, place: usize, answer: Answer) -> Rollout {
        let asked = self.plan.asked[place].clone();
        Rollout {
            line: asked.line,
            prompt: asked.prompt,
            completion: answer.text,
            answer: asked.answer,
            columns: asked.columns,
            truncated: answer.finish_reason == FinishReason::Length,
            ids: answer.ids,
            place,
        }
    }
}
