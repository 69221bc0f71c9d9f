//! Routes, and what all of them share: which models there are, who may ask, and how many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{io, iter};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use siskin_engine::Session;
use siskin_text::TextModel;

use crate::error::{ApiError, Result};
use crate::metrics::{self, Metrics};
use crate::worker::Worker;
use crate::{ServeOptions, answers, embeddings, tokens};

/// A model that is served.
pub struct Served {
    pub name: String,
    pub text: Arc<TextModel>,
    pub worker: Worker,
    metrics: Arc<Mutex<Metrics>>,
    /// Requests that run or wait.
    requests: Arc<AtomicUsize>,
    max_requests: usize,
}

/// A place among a model's requests, which is free again when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    requests: Arc<AtomicUsize>,
    n: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.requests.fetch_sub(self.n, Ordering::SeqCst);
    }
}

impl Served {
    /// Places for `n` requests.
    pub fn ticket(&self, n: usize) -> Result<Ticket> {
        let before = self.requests.fetch_add(n, Ordering::SeqCst);
        let ticket = Ticket {
            requests: self.requests.clone(),
            n,
        };
        match before + n > self.max_requests {
            true => Err(ApiError::busy(before)),
            false => Ok(ticket),
        }
    }
}

pub struct App {
    models: Vec<Served>,
    options: ServeOptions,
    /// When the server started, in Unix seconds.
    created: u64,
}

/// Unix seconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

impl App {
    pub fn new(models: Vec<(String, Session)>, options: ServeOptions) -> io::Result<Arc<Self>> {
        let served = |(name, session): (String, Session)| {
            let metrics = Arc::new(Mutex::new(Metrics::default()));
            Ok(Served {
                text: session.text.clone(),
                max_requests: session.sequences() + options.max_waiting,
                worker: Worker::start(&name, session, metrics.clone())?,
                metrics,
                requests: Arc::default(),
                name,
            })
        };
        let models: io::Result<_> = models.into_iter().map(served).collect();
        Ok(Arc::new(Self {
            models: models?,
            options,
            created: now(),
        }))
    }

    /// The model that a request names, or the first one.
    pub fn model(&self, name: Option<&str>) -> Result<&Served> {
        let Some(name) = name else {
            return self
                .models
                .first()
                .ok_or_else(|| ApiError::no_model("", &[]));
        };
        let found = self.models.iter().find(|m| m.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|m| m.name.as_str()).collect();
            ApiError::no_model(name, &names)
        })
    }

    /// A body as JSON.
    pub fn parse(&self, body: std::result::Result<Bytes, BytesRejection>) -> Result<Value> {
        let body = body.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(self.options.max_body),
            _ => ApiError::invalid(format!("the body cannot be read: {e}")),
        })?;
        serde_json::from_slice(&body)
            .map_err(|e| ApiError::invalid(format!("the body is not JSON: {e}")))
    }
}

pub fn router(app: Arc<App>) -> Router {
    // Whether it works may be asked without a key.
    let open = Router::new().route("/health", get(async || Json(json!({"status": "ok"}))));
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(answers::chat))
        .route("/v1/completions", post(answers::text))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/metrics", get(metrics_text))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(tokens::apply_template))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(from_fn_with_state(app.clone(), authorise))
        .merge(open)
        .layer(from_fn_with_state(app.clone(), allow_origin))
        .layer(DefaultBodyLimit::max(app.options.max_body))
        .with_state(app)
}

async fn no_route(request: Request) -> ApiError {
    ApiError::no_route(request.method().as_str(), request.uri().path())
}

async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let model = |m: &Served| json!({"id": m.name, "object": "model", "created": app.created, "owned_by": "siskin"});
    let data: Vec<Value> = app.models.iter().map(model).collect();
    Json(json!({"object": "list", "data": data}))
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    let locked: Vec<_> = app
        .models
        .iter()
        .map(|m| (&*m.name, m.metrics.lock()))
        .collect();
    let readable = locked
        .iter()
        .filter_map(|(name, m)| Some((*name, &**m.as_ref().ok()?)));
    let kind = "text/plain; version=0.0.4";
    ([(header::CONTENT_TYPE, kind)], metrics::text(readable)).into_response()
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
            ApiError::not_authorised().into_response()
        }
        _ => next.run(request).await,
    }
}

/// Takes as long wherever they differ.
fn is_same(given: &str, key: &str) -> bool {
    let bytes = given.bytes().chain(iter::repeat(0)).zip(key.bytes());
    given.len() == key.len() && bytes.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>), if it is wanted. Pages of other origins are refused:
/// browsers let them send requests, to loopback too, whose answers they cannot read.
async fn allow_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = app.options.cors.as_deref();
    let given = request.headers().get(header::ORIGIN);
    if let Some(given) = given.map(|given| given.to_str().unwrap_or_default())
        && origin.is_none_or(|allowed| allowed != "*" && allowed != given)
    {
        return ApiError::other_origin(given).into_response();
    }
    let Some(origin) = origin.and_then(|o| HeaderValue::from_str(o).ok()) else {
        return next.run(request).await;
    };
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "*, Authorization, Content-Type",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
