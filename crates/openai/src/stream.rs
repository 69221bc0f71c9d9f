//! Streamed answers.

use std::collections::VecDeque;
use std::fmt;

use siskin_engine::RequestEvent;

use crate::error::ApiError;

/// An event of a stream, as server-sent events have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// JSON, or `[DONE]`.
    pub data: String,
}

/// Events that have not been sent.
pub type Ready = VecDeque<StreamEvent>;

/// What is sent of the events of an exchange's answers.
pub trait Stream: fmt::Debug + Send + Sync {
    /// What comes before the first event.
    fn begin(&mut self, ready: &mut Ready);
    /// An event of the answer of this index. Returns whether the stream has ended.
    fn take(&mut self, index: usize, event: &RequestEvent, ready: &mut Ready) -> bool;
    /// Ends the stream.
    fn fail(&mut self, error: &ApiError, ready: &mut Ready);
}
