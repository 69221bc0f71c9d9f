//! Routes, and what all of them share.

use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::error::ServeError;
use crate::models::Models;
use crate::page::{self, Page};
use crate::{ServeOptions, answers, embeddings, origin, tokens};

pub struct App {
    pub models: Arc<Models>,
    pub page: Option<Page>,
    pub options: ServeOptions,
    /// What the server listens on.
    pub address: IpAddr,
    /// When it started, in Unix seconds.
    pub created: u64,
}

/// Unix seconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

pub fn router(app: Arc<App>) -> Router {
    // Whether it works may be asked without a key, and the page is public: what it asks for is not.
    let open = Router::new()
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .route("/", get(page::index))
        .fallback(page::file);
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(answers::chat))
        .route("/v1/completions", post(answers::text))
        .route("/v1/responses", post(answers::responses))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/metrics", get(metrics_text))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(tokens::apply_template))
        .layer(from_fn_with_state(app.clone(), authorise))
        .merge(open)
        .method_not_allowed_fallback(no_route)
        .layer(from_fn_with_state(app.clone(), origin::check))
        .layer(DefaultBodyLimit::max(app.options.max_body))
        .with_state(app)
}

pub async fn no_route(request: Request) -> ServeError {
    ServeError::no_route(request.method().as_str(), request.uri().path())
}

/// As llama-server's router, tells whether each is loaded.
async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let models = app.models.list().into_iter().map(|listed| {
        let mut model = json!({
            "id": listed.name,
            "object": "model",
            "created": app.created,
            "owned_by": "siskin",
            "status": {"value": listed.state},
        });
        // As vLLM has it.
        if let Some(parent) = listed.parent {
            model["parent"] = parent.into();
        }
        model
    });
    Json(json!({"object": "list", "data": models.collect::<Vec<_>>()}))
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    let kind = "text/plain; version=0.0.4";
    ([(header::CONTENT_TYPE, kind)], app.models.metrics()).into_response()
}

async fn authorise(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    match &app.options.api_key {
        Some(key) if !given.is_some_and(|given| is_same(given, key)) => {
            ServeError::not_authorised().into_response()
        }
        _ => next.run(request).await,
    }
}

/// Takes as long wherever they differ.
fn is_same(given: &str, key: &str) -> bool {
    let bytes = given.bytes().chain(iter::repeat(0)).zip(key.bytes());
    given.len() == key.len() && bytes.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
