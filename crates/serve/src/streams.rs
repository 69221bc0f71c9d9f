//! Streamed answers, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Sse, KeepAlive, Sse as Response};
use axum::response::{IntoResponse, Response as HttpResponse};
use serde_json::Value;
use siskin_engine::{Answer, RequestEvent};
use tokio_stream::Stream;

use crate::answers::{Answering, failed};
use crate::error::ApiError;
use crate::shapes::Kind;
use crate::worker::Event;

/// How long a connection may be silent: proxies close those that are longer.
const SILENCE: Duration = Duration::from_secs(15);

pub fn stream(answering: Answering) -> HttpResponse {
    let mut ready = VecDeque::new();
    if answering.head.kind == Kind::Chat {
        ready.extend((0..answering.n).map(|i| answering.head.beginning(i).to_string()));
    }
    let stream = Streaming {
        answering,
        ready,
        answers: vec![],
        has_ended: false,
    };
    let keep_alive = KeepAlive::new().interval(SILENCE);
    Response::new(stream).keep_alive(keep_alive).into_response()
}

struct Streaming {
    answering: Answering,
    /// The data of events that have not been sent.
    ready: VecDeque<String>,
    answers: Vec<Answer>,
    has_ended: bool,
}

impl Streaming {
    fn push(&mut self, value: &Value) {
        self.ready.push_back(value.to_string());
    }

    fn take(&mut self, index: usize, event: Event) {
        let head = self.answering.head.clone();
        match event {
            Event::Request(RequestEvent::Token { text, logprob, .. }) => {
                if !text.is_empty() || logprob.is_some() {
                    self.push(&head.part(index, &text, logprob.as_ref()));
                }
            }
            Event::Request(RequestEvent::Rest { text }) => {
                self.push(&head.part(index, &text, None))
            }
            Event::Request(RequestEvent::Done(answer)) => {
                self.push(&head.end(index, &answer));
                self.answers.push(*answer);
                if self.answers.len() == self.answering.n {
                    if self.answering.include_usage {
                        self.push(&head.usage(&self.answers, self.answering.per_prompt));
                    }
                    self.end();
                }
            }
            Event::Request(RequestEvent::Failed(e)) => self.fail(&failed(&e)),
            Event::Failed(message) => self.fail(&ApiError::server(message)),
            Event::Request(RequestEvent::Prefill { .. } | RequestEvent::DeviceLost) => {}
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.push(&error.json());
        self.end();
    }

    fn end(&mut self) {
        self.ready.push_back("[DONE]".into());
        self.has_ended = true;
    }
}

impl Stream for Streaming {
    type Item = Result<Sse, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::Poll;
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Sse::default().data(data))));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match self.answering.events.poll_recv(context) {
                Poll::Ready(Some((index, event))) => self.take(index, event),
                Poll::Ready(None) => self.fail(&ApiError::server("the model's thread has ended")),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
