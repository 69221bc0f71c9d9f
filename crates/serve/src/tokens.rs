//! `/tokenize`, `/detokenize` and `/apply-template`, in llama-server's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use siskin_openai::{ApiError, Conversation, Tools};

use crate::app::App;
use crate::body::Body;
use crate::error::Result;

/// `{"content": text}` becomes `{"tokens": [id]}`; with `with_pieces`, `[{"id", "piece"}]`.
pub async fn tokenize(State(app): State<Arc<App>>, Body(mut fields): Body) -> Result<Json<Value>> {
    let model: Option<String> = fields.take("model")?;
    let content: String = fields.need("content")?;
    let with_pieces = fields.take("with_pieces")?.unwrap_or(false);
    fields.finish()?;
    let text = &app.models.get(model.as_deref()).await?.text;
    let tokens = text.encode(&content);
    let tokens = tokens.map_err(|e| ApiError::field("content", e.to_string()))?;
    let token = |t: &siskin_text::Token| match with_pieces {
        true => json!({"id": t.id, "piece": t.piece}),
        false => t.id.into(),
    };
    let tokens: Vec<Value> = tokens.iter().map(token).collect();
    Ok(Json(json!({"tokens": tokens})))
}

/// `{"tokens": [id]}` becomes `{"content": text}`.
pub async fn detokenize(
    State(app): State<Arc<App>>,
    Body(mut fields): Body,
) -> Result<Json<Value>> {
    let model: Option<String> = fields.take("model")?;
    let tokens: Vec<u32> = fields.need("tokens")?;
    fields.finish()?;
    let text = &app.models.get(model.as_deref()).await?.text;
    Ok(Json(json!({"content": text.decode(&tokens)})))
}

/// `{"messages": […]}` becomes `{"prompt": text}`.
pub async fn apply_template(
    State(app): State<Arc<App>>,
    Body(mut fields): Body,
) -> Result<Json<Value>> {
    let model: Option<String> = fields.take("model")?;
    let tools = Tools::of(&mut fields)?;
    let conversation = Conversation::of(&mut fields, &tools)?;
    fields.finish()?;
    let (prompt, _) = conversation.prompt(&app.models.get(model.as_deref()).await?.text)?;
    Ok(Json(json!({"prompt": prompt})))
}
