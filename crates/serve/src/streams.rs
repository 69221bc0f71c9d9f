//! Streamed answers, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::sse::{Event as Sse, KeepAlive, Sse as Response};
use axum::response::{IntoResponse, Response as HttpResponse};
use siskin_engine::RequestEvent;
use tokio_stream::Stream;

use crate::answering::{Answering, ended};
use crate::error::ApiError;
use crate::worker::Event;

/// How long a connection may be silent: proxies close those that are longer.
const SILENCE: Duration = Duration::from_secs(15);

/// Events that have not been sent.
pub type Ready = VecDeque<Sse>;

/// What a route sends of its answers' events.
pub trait Format: Send + Unpin + 'static {
    /// What comes before the first event.
    fn begin(&mut self, ready: &mut Ready);
    /// An event of the answer of this index. Returns whether the stream has ended.
    fn take(&mut self, index: usize, event: RequestEvent, ready: &mut Ready) -> bool;
    /// Ends the stream.
    fn fail(&mut self, error: &ApiError, ready: &mut Ready);
}

pub fn stream(answering: Answering, mut format: impl Format) -> HttpResponse {
    let mut ready = VecDeque::new();
    format.begin(&mut ready);
    let stream = Streaming {
        answering,
        format,
        ready,
        has_ended: false,
    };
    let keep_alive = KeepAlive::new().interval(SILENCE);
    Response::new(stream).keep_alive(keep_alive).into_response()
}

struct Streaming<F> {
    answering: Answering,
    format: F,
    ready: Ready,
    has_ended: bool,
}

impl<F: Format> Streaming<F> {
    fn take(&mut self, index: usize, event: Event) {
        match event {
            Event::Request(event) => {
                self.has_ended = self.format.take(index, event, &mut self.ready);
            }
            Event::Failed(message) => self.fail(&ApiError::server(message)),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.format.fail(error, &mut self.ready);
        self.has_ended = true;
    }
}

impl<F: Format> Stream for Streaming<F> {
    type Item = Result<Sse, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Sse, Infallible>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            match self.answering.events.poll_recv(context) {
                Poll::Ready(Some((index, event))) => self.take(index, event),
                Poll::Ready(None) => self.fail(&ended()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
