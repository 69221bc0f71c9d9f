//! Answers that are being generated, to whichever route.

use siskin_engine::{Answer, Error, RequestEvent, new_seed};
use tokio::sync::mpsc::Receiver;

use crate::error::{ApiError, Result};
use crate::served::{Lease, Ticket};
use crate::worker::{Answered, Event, Prompt};

/// Answers to a client's request. Dropping it cancels them.
pub struct Answering {
    pub events: Receiver<Answered>,
    /// How many answers there will be.
    pub n: usize,
    /// Held until the last event.
    _ticket: Ticket,
    _model: Lease,
}

impl Answering {
    /// `field` is the one that the prompts come from.
    pub async fn start(model: Lease, mut prompts: Vec<Prompt>, field: &str) -> Result<Self> {
        let n = prompts.len();
        for prompt in &mut prompts {
            prompt.options.adapter = model.adapter().map(String::from);
        }
        let ticket = model.ticket(n)?;
        let accepted = model.worker.answer(prompts).await;
        let accepted = accepted.map_err(|_| ended())?;
        Ok(Self {
            events: accepted.map_err(|e| refused(e, field))?,
            n,
            _ticket: ticket,
            _model: model,
        })
    }

    /// Waits for all answers.
    pub async fn whole(mut self) -> Result<Vec<Answer>> {
        let mut answers: Vec<Option<Answer>> = vec![None; self.n];
        let mut left = self.n;
        while left > 0 {
            let (index, event) = self.events.recv().await.ok_or_else(ended)?;
            match event {
                Event::Request(RequestEvent::Done(answer)) => {
                    answers[index] = Some(*answer);
                    left -= 1;
                }
                Event::Request(RequestEvent::Failed(e)) => return Err(failed(&e)),
                Event::Failed(message) => return Err(ApiError::server(message)),
                Event::Request(_) => {}
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// A new id, such as `chatcmpl-…`.
pub fn new_id(prefix: &str) -> String {
    let [a, b, c] = [new_seed(), new_seed(), new_seed()];
    format!("{prefix}{a:08x}{b:08x}{c:08x}")
}

pub fn ended() -> ApiError {
    ApiError::server("the model's thread has ended; restart the server")
}

/// Why a prompt was not accepted.
pub fn refused(e: Error, field: &str) -> ApiError {
    match e {
        Error::PromptTooLong { .. } | Error::TextTooLong { .. } => {
            ApiError::too_long(field, e.to_string())
        }
        Error::Sampling { field, .. } => ApiError::field(field, e.to_string()),
        Error::Gpu(_) | Error::Cpu(_) => ApiError::server(e.to_string()),
        e => ApiError::invalid(e.to_string()),
    }
}

/// Why an answer ended.
pub fn failed(e: &Error) -> ApiError {
    ApiError::server(e.to_string())
}
