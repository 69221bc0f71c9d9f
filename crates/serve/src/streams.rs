//! Streamed answers, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::sse::{Event as Sse, KeepAlive, Sse as Response};
use axum::response::{IntoResponse, Response as HttpResponse};
use siskin_openai::{ApiError, Stream as Sent, StreamEvent};
use tokio_stream::Stream;

use crate::answering::Answering;
use crate::error::ServeError;
use crate::worker::Event;

/// How long a connection may be silent: proxies close those that are longer.
const SILENCE: Duration = Duration::from_secs(15);

pub fn stream(answering: Answering, mut sent: Box<dyn Sent>) -> HttpResponse {
    let mut ready = VecDeque::new();
    sent.begin(&mut ready);
    let stream = Streaming {
        answering,
        sent,
        ready,
        has_ended: false,
    };
    let keep_alive = KeepAlive::new().interval(SILENCE);
    Response::new(stream).keep_alive(keep_alive).into_response()
}

struct Streaming {
    answering: Answering,
    sent: Box<dyn Sent>,
    /// Events that have not been sent.
    ready: VecDeque<StreamEvent>,
    has_ended: bool,
}

impl Streaming {
    fn take(&mut self, index: usize, event: Event) {
        match event {
            Event::Request(event) => {
                self.has_ended = self.sent.take(index, &event, &mut self.ready);
            }
            Event::Failed(message) => self.fail(&ApiError::server(message)),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.sent.fail(error, &mut self.ready);
        self.has_ended = true;
    }
}

impl Stream for Streaming {
    type Item = Result<Sse, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Sse, Infallible>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                let sse = Sse::default().data(event.data);
                return Poll::Ready(Some(Ok(match event.name {
                    Some(name) => sse.event(name),
                    None => sse,
                })));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match self.answering.events.poll_recv(context) {
                Poll::Ready(Some((index, event))) => self.take(index, event),
                Poll::Ready(None) => self.fail(&ServeError::ended().0),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
