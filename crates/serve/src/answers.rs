//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::answering::{Answering, new_id};
use crate::app::{App, now};
use crate::best_of;
use crate::chunks::Chunks;
use crate::error::{ApiError, Result};
use crate::parsing::Parsing;
use crate::requests::{Common, Conversation, Fields, MAX_N, prompts, top};
use crate::served::Lease;
use crate::shapes::{Head, Kind, usage};
use crate::streams;
use crate::tools::Tools;
use crate::worker::Prompt;

pub async fn chat(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response> {
    let is_wanted = fields.take("logprobs")?.unwrap_or(false);
    let top = top(&mut fields, "top_logprobs")?;
    if top.is_some() && !is_wanted {
        let message = "`top_logprobs` needs `logprobs: true`";
        return Err(ApiError::field("top_logprobs", message));
    }
    let mut common = Common::of(&mut fields, is_wanted.then(|| top.unwrap_or(0)))?;
    let tools = Tools::of(&mut fields)?;
    let conversation = Conversation::of(&mut fields, &tools)?;
    fields.finish()?;
    let model = app.models.get(common.model.as_deref()).await?;
    let (rendered, prompt) = conversation.prompt(&model.text)?;
    // An answer of a shape is all of it, without marks.
    let is_whole = common.shape.is_some() && tools.all.is_empty();
    let parsing = Parsing::of(&model.text, &rendered, &tools).filter(|_| !is_whole);
    if let Some(parsing) = &parsing {
        common.options.shown = parsing.shown();
        common.options.grammar = match parsing.calls(&tools) {
            Some(_) if common.shape.is_some() => {
                let message = "`tools` cannot be combined with what an answer must look like, unless `tool_choice` is none";
                return Err(ApiError::field("tools", message));
            }
            Some(calls) => model.calls(&calls)?,
            None => None,
        };
    }
    answer(model, Kind::Chat, common, vec![prompt], parsing).await
}

pub async fn text(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response> {
    let logprobs = top(&mut fields, "logprobs")?;
    let mut common = Common::of(&mut fields, logprobs)?;
    let model = app.models.get(common.model.as_deref()).await?;
    let prompts = prompts(&mut fields, &model.text)?;
    let n = common.n;
    let best_of = best_of(&mut fields, &common)?;
    fields.finish()?;
    if best_of == n {
        return answer(model, Kind::Text, common, prompts, None).await;
    }
    common.n = best_of;
    // They are compared by it.
    common.options.logprobs = logprobs.or(Some(0));
    let head = head(&model, Kind::Text);
    let answers = start(model, &common, prompts, Kind::Text).await?;
    let answers = answers.whole().await?;
    let mut best = best_of::best(&answers, best_of, n);
    if logprobs.is_none() {
        best.iter_mut().for_each(|a| a.logprobs.clear());
    }
    let mut json = head.answers(&best, n, None);
    json["usage"] = usage(&answers, best_of);
    Ok(Json(json).into_response())
}

/// How many answers to a prompt are generated, of which `n` are returned.
fn best_of(fields: &mut Fields, common: &Common) -> Result<usize> {
    let Some(best_of) = fields.take::<usize>("best_of")? else {
        return Ok(common.n);
    };
    let refused = |why: &str| {
        let message = format!("`best_of` is {best_of}; {why}");
        Err(ApiError::field("best_of", message))
    };
    if best_of < common.n || best_of > MAX_N {
        return refused(&format!("it must be from `n` to {MAX_N}"));
    }
    if best_of > common.n && common.stream {
        return refused("a stream cannot be compared with others; leave it out or do not stream");
    }
    Ok(best_of)
}

fn head(model: &Lease, kind: Kind) -> Head {
    let prefix = match kind {
        Kind::Chat => "chatcmpl-",
        Kind::Text => "cmpl-",
    };
    Head {
        kind,
        id: new_id(prefix),
        created: now(),
        model: model.name().into(),
    }
}

async fn start(
    model: Lease,
    common: &Common,
    prompts: Vec<Vec<u32>>,
    kind: Kind,
) -> Result<Answering> {
    let grammar = common
        .shape
        .as_ref()
        .map(|s| model.grammar(s))
        .transpose()?;
    let mut requests = vec![];
    for tokens in prompts {
        let tokens: Arc<[u32]> = tokens.into();
        for i in 0..common.n {
            let mut options = common.options.clone();
            if grammar.is_some() {
                options.grammar.clone_from(&grammar);
            }
            // Answers to one prompt differ, and can be repeated together.
            options.sampling.seed = options.sampling.seed.wrapping_add(i as u64);
            let tokens = tokens.clone();
            requests.push(Prompt { tokens, options });
        }
    }
    let field = match kind {
        Kind::Chat => "messages",
        Kind::Text => "prompt",
    };
    Answering::start(model, requests, field).await
}

async fn answer(
    model: Lease,
    kind: Kind,
    common: Common,
    prompts: Vec<Vec<u32>>,
    parsing: Option<Parsing>,
) -> Result<Response> {
    let parsing = parsing.as_ref();
    let head = head(&model, kind);
    let answering = start(model, &common, prompts, kind).await?;
    if common.stream {
        let counts = [answering.n, common.n];
        let chunks = Chunks::new(head, counts, common.include_usage, parsing);
        return Ok(streams::stream(answering, chunks));
    }
    let answers = answering.whole().await?;
    Ok(Json(head.answers(&answers, common.n, parsing)).into_response())
}
