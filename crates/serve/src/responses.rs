//! `/v1/responses`, without what needs storage: a response is answered and forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use siskin_engine::GenerateOptions;

use crate::answering::Answering;
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::input;
use crate::requests::{Fields, sampling, stream_options, top};
use crate::response_events::ResponseEvents;
use crate::response_shapes::{ResponseHead, text_of};
use crate::shape;
use crate::streams;
use crate::worker::Prompt;

/// Whether a field's value asks for nothing.
type AsksForNothing = fn(&Value) -> bool;

/// What cannot be had here, the values that do not ask for it, and why.
const REFUSED: &[(&str, AsksForNothing, &str)] = &[
    (
        "previous_response_id",
        |_| false,
        "responses are not stored; send the whole conversation as `input`",
    ),
    (
        "conversation",
        |_| false,
        "conversations are not stored; send the whole conversation as `input`",
    ),
    (
        "store",
        |v| *v == Value::Bool(false),
        "responses are not stored; leave it out",
    ),
    (
        "background",
        |v| *v == Value::Bool(false),
        "responses are not stored, so they cannot be fetched later; use `stream`",
    ),
    (
        "tools",
        |v| v.as_array().is_some_and(Vec::is_empty),
        "models call no tools here",
    ),
    (
        "tool_choice",
        |v| v == "none" || v == "auto",
        "models call no tools here",
    ),
    ("max_tool_calls", |_| false, "models call no tools here"),
    (
        "prompt",
        |_| false,
        "there are no stored prompts; use `instructions` and `input`",
    ),
    (
        "reasoning",
        |v| {
            v.as_object()
                .is_some_and(|fields| fields.values().all(Value::is_null))
        },
        "how much a model thinks cannot be set",
    ),
    (
        "truncation",
        |v| v == "disabled",
        "a conversation is never cut; shorten `input`",
    ),
    (
        "context_management",
        |v| v.as_array().is_some_and(Vec::is_empty),
        "a conversation is never cut; shorten `input`",
    ),
];

/// The one thing more that an answer may include.
const LOGPROBS: &str = "message.output_text.logprobs";

pub async fn create(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Response> {
    for (name, asks_for_nothing, why) in REFUSED {
        let given = fields.take::<Value>(name)?;
        if given.is_some_and(|value| !asks_for_nothing(&value)) {
            let message = format!("`{name}` is not supported: {why}");
            return Err(ApiError::field(name, message));
        }
    }
    let include: Vec<String> = fields.take("include")?.unwrap_or_default();
    if let Some(other) = include.iter().find(|name| *name != LOGPROBS) {
        let message = format!("`include`: `{other}` is not supported; only `{LOGPROBS}` is");
        return Err(ApiError::field("include", message));
    }
    let top = top(&mut fields, "top_logprobs")?;
    if top.is_some_and(|n| n > 0) && include.is_empty() {
        let message = format!("`top_logprobs` needs `include: [\"{LOGPROBS}\"]`");
        return Err(ApiError::field("top_logprobs", message));
    }
    // As they were written: an f32 would be told as 0.800000011920929.
    let echo = |name: &str, usual: f64| fields.get(name).cloned().unwrap_or_else(|| usual.into());
    let (temperature, top_p) = (echo("temperature", 0.0), echo("top_p", 1.0));
    let sampling = sampling(&mut fields)?;
    let max_tokens: Option<usize> = fields.take("max_output_tokens")?;
    stream_options(&mut fields)?;
    let is_stream = fields.take("stream")?.unwrap_or(false);
    let name: Option<String> = fields.take("model")?;
    let instructions: Option<String> = fields.take("instructions")?;
    let metadata = fields.take::<serde_json::Map<String, Value>>("metadata")?;
    let (shape, format) = shape::of_text(&mut fields)?;
    let conversation = input::conversation(&mut fields, instructions.as_deref())?;
    fields.finish()?;
    let model = app.models.get(name.as_deref()).await?;
    let (_, tokens) = conversation.prompt(&model.text)?;
    let head = ResponseHead::new(json!({
        "model": model.name(),
        "instructions": instructions,
        "max_output_tokens": max_tokens,
        "metadata": metadata.unwrap_or_default(),
        "temperature": temperature,
        "top_p": top_p,
        "top_logprobs": top.unwrap_or(0),
        "text": {"format": format},
    }));
    let options = GenerateOptions {
        sampling,
        max_tokens: max_tokens.unwrap_or(usize::MAX),
        grammar: shape.as_ref().map(|s| model.grammar(s)).transpose()?,
        logprobs: (!include.is_empty()).then(|| top.unwrap_or(0)),
        ..GenerateOptions::default()
    };
    let prompt = Prompt {
        tokens: tokens.into(),
        options,
    };
    let answering = Answering::start(model, vec![prompt], "input").await?;
    if is_stream {
        return Ok(streams::stream(answering, ResponseEvents::new(head)));
    }
    let answers = answering.whole().await?;
    let answer = answers.first().ok_or_else(crate::answering::ended)?;
    let text = text_of(&answer.text, &answer.logprobs);
    Ok(Json(head.ended(text, answer)).into_response())
}
