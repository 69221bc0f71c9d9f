//! The events of a streamed response: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use serde_json::{Value, json};
use siskin_engine::RequestEvent;

use crate::error::ApiError;
use crate::response_items::{ItemEvent, Items};
use crate::response_shapes::{ResponseHead, status};
use crate::stream::{Ready, Stream, StreamEvent};

#[derive(Debug)]
pub struct ResponseEvents {
    head: ResponseHead,
    items: Items,
    /// Of the next event.
    number: u64,
}

impl ResponseEvents {
    pub fn new(head: ResponseHead) -> Self {
        Self {
            items: Items::new(head.parsing.as_ref()),
            head,
            number: 0,
        }
    }

    fn push(&mut self, ready: &mut Ready, kind: &str, fields: Value) {
        let mut event = json!({"type": kind, "sequence_number": self.number});
        self.number += 1;
        if let (Value::Object(to), Value::Object(from)) = (&mut event, fields) {
            to.extend(from);
        }
        ready.push_back(StreamEvent {
            name: Some(kind.into()),
            data: event.to_string(),
        });
    }

    fn push_all(&mut self, ready: &mut Ready, events: Vec<ItemEvent>) {
        for (kind, fields) in events {
            self.push(ready, kind, fields);
        }
    }
}

impl Stream for ResponseEvents {
    fn begin(&mut self, ready: &mut Ready) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.head.begun();
            self.push(ready, kind, json!({"response": response}));
        }
    }

    fn take(&mut self, _: usize, event: &RequestEvent, ready: &mut Ready) -> bool {
        match event {
            RequestEvent::Token { text, logprob, .. } => {
                let events = self.items.push(text, logprob.as_ref());
                self.push_all(ready, events);
                false
            }
            RequestEvent::Rest { text } => {
                let events = self.items.push(text, None);
                self.push_all(ready, events);
                false
            }
            RequestEvent::Done(answer) => {
                let status = status(answer);
                let events = self.items.finish(status);
                self.push_all(ready, events);
                let response = self.head.ended(self.items.output(), answer);
                let kind = format!("response.{status}");
                self.push(ready, &kind, json!({"response": response}));
                true
            }
            RequestEvent::Failed(e) => {
                self.fail(&ApiError::failed(e), ready);
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
