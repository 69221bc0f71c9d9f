//! `/v1/embeddings`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use siskin_engine::EmbedOptions;
use siskin_openai::ApiError;

use crate::app::App;
use crate::body::Body;
use crate::error::{Result, ServeError};

pub async fn create(State(app): State<Arc<App>>, Body(mut fields): Body) -> Result<Json<Value>> {
    let model: Option<String> = fields.take("model")?;
    let texts = match fields.need("input")? {
        Value::String(text) => vec![text],
        several => {
            let message = "`input` must be a text or a list of texts";
            serde_json::from_value::<Vec<String>>(several)
                .map_err(|_| ApiError::field("input", message))?
        }
    };
    let format: Option<String> = fields.take("encoding_format")?;
    let is_base64 = match format.as_deref() {
        None | Some("float") => false,
        // What OpenAI's own clients ask for unless told otherwise.
        Some("base64") => true,
        Some(other) => {
            let message = format!("`encoding_format` is `{other}`; use float or base64");
            return Err(ApiError::field("encoding_format", message).into());
        }
    };
    let options = EmbedOptions {
        pooling: None,
        dimensions: fields.take("dimensions")?,
        prompt: fields.take("prompt_name")?,
        truncate: fields.take("truncate")?.unwrap_or(false),
    };
    fields.finish()?;
    if texts.is_empty() {
        return Err(ApiError::field("input", "`input` is empty").into());
    }
    let model = app.models.get(model.as_deref()).await?;
    if let Some(adapter) = model.adapter() {
        let message = format!("`{adapter}` is an adapter, and embeddings are the model's own");
        return Err(ApiError::field("model", message).into());
    }
    let _ticket = model.ticket(1)?;
    let found = model.worker.embed(texts, options).await;
    let found = found.map_err(|_| ServeError::ended())?;
    let found = found.map_err(|e| ApiError::refused(e, "input"))?;
    let data = found.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = match is_base64 {
            true => base64(vector).into(),
            false => json!(vector),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    Ok(Json(json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": model.name(),
        "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
    })))
}

/// The values' little-endian bytes in base64 (RFC 4648).
fn base64(values: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            match i <= three.len() {
                true => out.push(DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char),
                false => out.push('='),
            }
        }
    }
    out
}
