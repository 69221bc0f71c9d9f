//! Completions, as a whole and as the events of a stream.

use serde_json::{Value, json};
use siskin_engine::{Answer, RequestEvent};

use crate::best_of;
use crate::ends::Ends;
use crate::error::ApiError;
use crate::parsing::{Deltas, Parsing};
use crate::shapes::{Head, Kind, usage};
use crate::stream::{Ready, Stream, StreamEvent};

/// A completion that is to be sent back.
#[derive(Debug, Clone)]
pub struct Completion {
    pub head: Head,
    /// Answers to all prompts.
    pub n: usize,
    /// How many answers to a prompt are generated, and returned.
    pub best_of: usize,
    pub per_prompt: usize,
    pub include_usage: bool,
    /// Whether log-probabilities are sent, if there are any.
    pub include_logprobs: bool,
    pub parsing: Option<Parsing>,
    pub ends: Ends,
}

impl Completion {
    pub fn whole(&self, answers: &[Answer]) -> Value {
        let mut best = match self.best_of > self.per_prompt {
            true => best_of::best(answers, self.best_of, self.per_prompt),
            false => answers.to_vec(),
        };
        for answer in &mut best {
            match self.include_logprobs {
                true => self.ends.leave_out(answer),
                false => answer.logprobs.clear(),
            }
        }
        let mut json = self.head.answers(&best, self.parsing.as_ref());
        json["usage"] = usage(answers, self.best_of);
        json
    }
}

#[derive(Debug)]
pub struct Chunks {
    completion: Completion,
    /// What each answer has come to.
    deltas: Vec<Deltas>,
    answers: Vec<Answer>,
}

impl Chunks {
    pub fn new(completion: Completion) -> Self {
        let parsing = completion.parsing.as_ref();
        Self {
            deltas: (0..completion.n).map(|_| Deltas::new(parsing)).collect(),
            completion,
            answers: vec![],
        }
    }
}

fn unnamed(data: String) -> StreamEvent {
    StreamEvent { name: None, data }
}

fn push(ready: &mut Ready, value: &Value) {
    ready.push_back(unnamed(value.to_string()));
}

fn end(ready: &mut Ready) -> bool {
    ready.push_back(unnamed("[DONE]".into()));
    true
}

impl Stream for Chunks {
    fn begin(&mut self, ready: &mut Ready) {
        let Completion { head, n, .. } = &self.completion;
        if head.kind == Kind::Chat {
            (0..*n).for_each(|i| push(ready, &head.beginning(i)));
        }
    }

    fn take(&mut self, index: usize, event: &RequestEvent, ready: &mut Ready) -> bool {
        let Completion { head, .. } = &self.completion;
        match event {
            RequestEvent::Token { text, logprob, .. } => {
                let mut deltas = self.deltas[index].push(text);
                if deltas.is_empty() && logprob.is_some() {
                    deltas.push(json!({"content": ""}));
                }
                let mut logprob = logprob.as_ref();
                for delta in deltas {
                    push(ready, &head.part(index, delta, logprob.take()));
                }
            }
            RequestEvent::Rest { text } => {
                for delta in self.deltas[index].push(text) {
                    push(ready, &head.part(index, delta, None));
                }
            }
            RequestEvent::Done(answer) => {
                let (deltas, reason) = self.deltas[index].finish(answer.finish_reason);
                for delta in deltas {
                    push(ready, &head.part(index, delta, None));
                }
                push(ready, &head.end(index, answer, reason));
                self.answers.push((**answer).clone());
                if self.answers.len() == self.completion.n {
                    if self.completion.include_usage {
                        let per_prompt = self.completion.per_prompt;
                        push(ready, &head.usage(&self.answers, per_prompt));
                    }
                    return end(ready);
                }
            }
            RequestEvent::Failed(e) => {
                self.fail(&ApiError::failed(e), ready);
                return true;
            }
            RequestEvent::Prefill { .. } | RequestEvent::DeviceLost => {}
        }
        false
    }

    fn fail(&mut self, error: &ApiError, ready: &mut Ready) {
        push(ready, &error.json());
        end(ready);
    }
}
