//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::answering::{Answering, new_id};
use crate::app::{App, now};
use crate::chunks::Chunks;
use crate::error::{ApiError, Result};
use crate::requests::{Common, Conversation, Fields, prompts, top};
use crate::served::Lease;
use crate::shapes::{Head, Kind};
use crate::streams;
use crate::worker::Prompt;

pub async fn chat(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response> {
    let is_wanted = fields.take("logprobs")?.unwrap_or(false);
    let top = top(&mut fields, "top_logprobs")?;
    if top.is_some() && !is_wanted {
        let message = "`top_logprobs` needs `logprobs: true`";
        return Err(ApiError::field("top_logprobs", message));
    }
    let common = Common::of(&mut fields, is_wanted.then(|| top.unwrap_or(0)))?;
    let conversation = Conversation::of(&mut fields)?;
    fields.finish()?;
    let model = app.models.get(common.model.as_deref()).await?;
    let (_, prompt) = conversation.prompt(&model.text)?;
    answer(model, Kind::Chat, common, vec![prompt]).await
}

pub async fn text(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response> {
    let logprobs = top(&mut fields, "logprobs")?;
    let common = Common::of(&mut fields, logprobs)?;
    let model = app.models.get(common.model.as_deref()).await?;
    let prompts = prompts(&mut fields, &model.text)?;
    if let Some(best_of) = fields.take::<usize>("best_of")?.filter(|n| *n != common.n) {
        let message = format!("`best_of` is {best_of}; only the value of `n` is supported");
        return Err(ApiError::field("best_of", message));
    }
    fields.finish()?;
    answer(model, Kind::Text, common, prompts).await
}

async fn answer(
    model: Lease,
    kind: Kind,
    common: Common,
    prompts: Vec<Vec<u32>>,
) -> Result<Response> {
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
    let (prefix, field) = match kind {
        Kind::Chat => ("chatcmpl-", "messages"),
        Kind::Text => ("cmpl-", "prompt"),
    };
    let head = Head {
        kind,
        id: new_id(prefix),
        created: now(),
        model: model.name.clone(),
    };
    let answering = Answering::start(model, requests, field).await?;
    if common.stream {
        let chunks = Chunks::new(head, answering.n, common.n, common.include_usage);
        return Ok(streams::stream(answering, chunks));
    }
    let answers = answering.whole().await?;
    Ok(Json(head.answers(&answers, common.n)).into_response())
}
