//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use siskin_engine::{Answer, Error, RequestEvent, new_seed};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::app::{App, Ticket, now};
use crate::error::{ApiError, Result};
use crate::requests::{Common, Conversation, Fields, prompts, top};
use crate::shapes::{Head, Kind};
use crate::streams;
use crate::worker::{Answered, Event, Prompt};

type Body = std::result::Result<Bytes, BytesRejection>;

pub async fn chat(State(app): State<Arc<App>>, body: Body) -> Result<Response> {
    let mut fields = Fields::of(app.parse(body)?)?;
    let is_wanted = fields.take("logprobs")?.unwrap_or(false);
    let top = top(&mut fields, "top_logprobs")?;
    if top.is_some() && !is_wanted {
        let message = "`top_logprobs` needs `logprobs: true`";
        return Err(ApiError::field("top_logprobs", message));
    }
    let common = Common::of(&mut fields, is_wanted.then(|| top.unwrap_or(0)))?;
    let conversation = Conversation::of(&mut fields)?;
    fields.finish()?;
    let text = app.model(common.model.as_deref())?.text.clone();
    let (_, prompt) = conversation.prompt(&text)?;
    answer(&app, Kind::Chat, common, vec![prompt]).await
}

pub async fn text(State(app): State<Arc<App>>, body: Body) -> Result<Response> {
    let mut fields = Fields::of(app.parse(body)?)?;
    let logprobs = top(&mut fields, "logprobs")?;
    let common = Common::of(&mut fields, logprobs)?;
    let text = app.model(common.model.as_deref())?.text.clone();
    let prompts = prompts(&mut fields, &text)?;
    if let Some(best_of) = fields.take::<usize>("best_of")?.filter(|n| *n != common.n) {
        let message = format!("`best_of` is {best_of}; only the value of `n` is supported");
        return Err(ApiError::field("best_of", message));
    }
    fields.finish()?;
    answer(&app, Kind::Text, common, prompts).await
}

/// An answer that is being generated, and what is said of it.
pub struct Answering {
    pub head: Head,
    pub events: UnboundedReceiver<Answered>,
    /// How many answers there will be.
    pub n: usize,
    pub per_prompt: usize,
    pub include_usage: bool,
    /// Held until the last event.
    pub _ticket: Ticket,
}

async fn answer(app: &App, kind: Kind, common: Common, prompts: Vec<Vec<u32>>) -> Result<Response> {
    let model = app.model(common.model.as_deref())?;
    let n = prompts.len() * common.n;
    let ticket = model.ticket(n)?;
    let mut requests = vec![];
    for tokens in prompts {
        let tokens: Arc<[u32]> = tokens.into();
        for i in 0..common.n {
            let mut options = common.options.clone();
            // Answers to one prompt differ, and can be repeated together.
            options.sampling.seed = options.sampling.seed.wrapping_add(i as u64);
            let tokens = tokens.clone();
            requests.push(Prompt { tokens, options });
        }
    }
    let ended = || ApiError::server("the model's thread has ended; restart the server");
    let accepted = model.worker.answer(requests).await.map_err(|_| ended())?;
    let prefix = match kind {
        Kind::Chat => "chatcmpl",
        Kind::Text => "cmpl",
    };
    let answering = Answering {
        head: Head {
            kind,
            id: format!(
                "{prefix}-{:08x}{:08x}{:08x}",
                new_seed(),
                new_seed(),
                new_seed()
            ),
            created: now(),
            model: model.name.clone(),
        },
        events: accepted.map_err(refused)?,
        n,
        per_prompt: common.n,
        include_usage: common.include_usage,
        _ticket: ticket,
    };
    match common.stream {
        true => Ok(streams::stream(answering)),
        false => whole(answering).await,
    }
}

/// Waits for all answers.
async fn whole(mut answering: Answering) -> Result<Response> {
    let mut answers: Vec<Option<Answer>> = vec![None; answering.n];
    let mut left = answering.n;
    while left > 0 {
        let Some((index, event)) = answering.events.recv().await else {
            return Err(ApiError::server("the model's thread has ended"));
        };
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
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let json = answering.head.answers(&answers, answering.per_prompt);
    Ok(Json(json).into_response())
}

/// Why a prompt was not accepted.
pub fn refused(e: Error) -> ApiError {
    match e {
        Error::PromptTooLong { .. } | Error::TextTooLong { .. } => {
            ApiError::too_long(e.to_string())
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
