//! The events of streamed chat and text completions.

use axum::response::sse::Event as Sse;
use serde_json::{Value, json};
use siskin_engine::{Answer, RequestEvent};

use crate::answering::failed;
use crate::error::ApiError;
use crate::parsing::{Deltas, Parsing};
use crate::shapes::{Head, Kind};
use crate::streams::{Format, Ready};

pub struct Chunks {
    head: Head,
    /// How many answers there will be.
    n: usize,
    per_prompt: usize,
    include_usage: bool,
    /// What each answer has come to.
    deltas: Vec<Deltas>,
    answers: Vec<Answer>,
}

impl Chunks {
    pub fn new(
        head: Head,
        [n, per_prompt]: [usize; 2],
        include_usage: bool,
        parsing: Option<&Parsing>,
    ) -> Self {
        Self {
            deltas: (0..n).map(|_| Deltas::new(parsing)).collect(),
            head,
            n,
            per_prompt,
            include_usage,
            answers: vec![],
        }
    }
}

fn push(ready: &mut Ready, value: &Value) {
    ready.push_back(Sse::default().data(value.to_string()));
}

fn end(ready: &mut Ready) -> bool {
    ready.push_back(Sse::default().data("[DONE]"));
    true
}

impl Format for Chunks {
    fn begin(&mut self, ready: &mut Ready) {
        if self.head.kind == Kind::Chat {
            (0..self.n).for_each(|i| push(ready, &self.head.beginning(i)));
        }
    }

    fn take(&mut self, index: usize, event: RequestEvent, ready: &mut Ready) -> bool {
        match event {
            RequestEvent::Token { text, logprob, .. } => {
                let mut deltas = self.deltas[index].push(&text);
                if deltas.is_empty() && logprob.is_some() {
                    deltas.push(json!({"content": ""}));
                }
                let mut logprob = logprob.as_ref();
                for delta in deltas {
                    push(ready, &self.head.part(index, delta, logprob.take()));
                }
            }
            RequestEvent::Rest { text } => {
                for delta in self.deltas[index].push(&text) {
                    push(ready, &self.head.part(index, delta, None));
                }
            }
            RequestEvent::Done(answer) => {
                let (deltas, reason) = self.deltas[index].finish(answer.finish_reason);
                for delta in deltas {
                    push(ready, &self.head.part(index, delta, None));
                }
                push(ready, &self.head.end(index, &answer, reason));
                self.answers.push(*answer);
                if self.answers.len() == self.n {
                    if self.include_usage {
                        push(ready, &self.head.usage(&self.answers, self.per_prompt));
                    }
                    return end(ready);
                }
            }
            RequestEvent::Failed(e) => {
                self.fail(&failed(&e), ready);
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
