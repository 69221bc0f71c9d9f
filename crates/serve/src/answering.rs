//! Answers that are being generated, to whichever route.

use siskin_engine::{Answer, RequestEvent};
use siskin_openai::{ApiError, Prompt};
use tokio::sync::mpsc::Receiver;

use crate::error::{Result, ServeError};
use crate::served::{Lease, Ticket};
use crate::worker::{Answered, Event};

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
        let accepted = accepted.map_err(|_| ServeError::ended())?;
        Ok(Self {
            events: accepted.map_err(|e| ApiError::refused(e, field))?,
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
            let (index, event) = self.events.recv().await.ok_or_else(ServeError::ended)?;
            match event {
                Event::Request(RequestEvent::Done(answer)) => {
                    answers[index] = Some(*answer);
                    left -= 1;
                }
                Event::Request(RequestEvent::Failed(e)) => return Err(ApiError::failed(&e).into()),
                Event::Failed(message) => return Err(ApiError::server(message).into()),
                Event::Request(_) => {}
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}
