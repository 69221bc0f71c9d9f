//! The events of a streamed response: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use axum::response::sse::Event as Sse;
use serde_json::{Value, json};
use siskin_engine::{Answer, RequestEvent, TokenLogprob};

use crate::answering::failed;
use crate::error::ApiError;
use crate::response_shapes::{ResponseHead, logprobs_of, status, text_of};
use crate::streams::{Format, Ready};

pub struct ResponseEvents {
    head: ResponseHead,
    /// Of the next event.
    number: u64,
}

impl ResponseEvents {
    pub fn new(head: ResponseHead) -> Self {
        Self { head, number: 0 }
    }

    fn push(&mut self, ready: &mut Ready, kind: &str, fields: Value) {
        let mut event = json!({"type": kind, "sequence_number": self.number});
        self.number += 1;
        if let (Value::Object(to), Value::Object(from)) = (&mut event, fields) {
            to.extend(from);
        }
        ready.push_back(Sse::default().event(kind).data(event.to_string()));
    }

    /// An event of the message's text.
    fn push_text(&mut self, ready: &mut Ready, kind: &str, fields: Value) {
        let mut all = json!({"item_id": self.head.item_id, "output_index": 0, "content_index": 0});
        if let (Value::Object(to), Value::Object(from)) = (&mut all, fields) {
            to.extend(from);
        }
        self.push(ready, kind, all);
    }

    fn delta(&mut self, text: &str, logprobs: &[TokenLogprob], ready: &mut Ready) {
        let fields = json!({"delta": text, "logprobs": logprobs_of(logprobs)});
        self.push_text(ready, "response.output_text.delta", fields);
    }

    fn end(&mut self, answer: &Answer, ready: &mut Ready) {
        let text = text_of(&answer.text, &answer.logprobs);
        let fields = json!({"text": text["text"], "logprobs": text["logprobs"]});
        self.push_text(ready, "response.output_text.done", fields);
        self.push_text(ready, "response.content_part.done", json!({"part": text}));
        let status = status(answer);
        let item = self.head.item(status, Some(text.clone()));
        let fields = json!({"output_index": 0, "item": item});
        self.push(ready, "response.output_item.done", fields);
        let response = self.head.ended(text, answer);
        let kind = format!("response.{status}");
        self.push(ready, &kind, json!({"response": response}));
    }
}

impl Format for ResponseEvents {
    fn begin(&mut self, ready: &mut Ready) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.head.begun();
            self.push(ready, kind, json!({"response": response}));
        }
        let item = self.head.item("in_progress", None);
        let fields = json!({"output_index": 0, "item": item});
        self.push(ready, "response.output_item.added", fields);
        let fields = json!({"part": text_of("", &[])});
        self.push_text(ready, "response.content_part.added", fields);
    }

    fn take(&mut self, _: usize, event: RequestEvent, ready: &mut Ready) -> bool {
        match event {
            RequestEvent::Token { text, logprob, .. } => {
                if !text.is_empty() || logprob.is_some() {
                    self.delta(&text, logprob.as_slice(), ready);
                }
                false
            }
            RequestEvent::Rest { text } => {
                self.delta(&text, &[], ready);
                false
            }
            RequestEvent::Done(answer) => {
                self.end(&answer, ready);
                true
            }
            RequestEvent::Failed(e) => {
                self.fail(&failed(&e), ready);
                true
            }
            RequestEvent::Prefill { .. } | RequestEvent::DeviceLost => false,
        }
    }

    fn fail(&mut self, error: &ApiError, ready: &mut Ready) {
        let response = self.head.failed(error.message());
        self.push(ready, "response.failed", json!({"response": response}));
    }
}
