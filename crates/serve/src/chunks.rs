//! The events of streamed chat and text completions.

use axum::response::sse::Event as Sse;
use serde_json::Value;
use siskin_engine::{Answer, RequestEvent};

use crate::answering::failed;
use crate::error::ApiError;
use crate::shapes::{Head, Kind};
use crate::streams::{Format, Ready};

pub struct Chunks {
    head: Head,
    /// How many answers there will be.
    n: usize,
    per_prompt: usize,
    include_usage: bool,
    answers: Vec<Answer>,
}

impl Chunks {
    pub fn new(head: Head, n: usize, per_prompt: usize, include_usage: bool) -> Self {
        Self {
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
                if !text.is_empty() || logprob.is_some() {
                    push(ready, &self.head.part(index, &text, logprob.as_ref()));
                }
            }
            RequestEvent::Rest { text } => push(ready, &self.head.part(index, &text, None)),
            RequestEvent::Done(answer) => {
                push(ready, &self.head.end(index, &answer));
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
