//! The page, if there is one.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, Method, header};
use axum::response::{IntoResponse, Response};

use crate::app::{App, no_route};

/// A file of the page by its path, such as `assets/index.js`; `None` if there is none.
type Read = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// The page that is served at `/`.
#[derive(Clone)]
pub struct Page(Arc<Read>);

impl Page {
    /// From what reads its files. Paths come from requests: only those of the page's files may be found.
    pub fn new(read: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

/// What is said where the page would be.
const NO_PAGE: &str = "siskin: OpenAI's API is at /v1. There is no page here: `cargo xtask page` builds it, and `siskin serve --page web/dist` serves it.\n";

/// A page may load models from anywhere, compile its own wasm, and nothing else.
const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; connect-src *; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

fn headers(kind: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        // A later version of the program has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ]
}

pub async fn index(State(app): State<Arc<App>>) -> Response {
    match app.page.as_ref().and_then(|page| page.0("index.html")) {
        Some(bytes) => (headers("text/html; charset=utf-8"), bytes).into_response(),
        None => (headers("text/plain; charset=utf-8"), NO_PAGE).into_response(),
    }
}

pub async fn file(State(app): State<Arc<App>>, request: Request) -> Response {
    let path = request.uri().path();
    let path = path.strip_prefix('/').unwrap_or(path);
    let page = app
        .page
        .as_ref()
        .filter(|_| matches!(*request.method(), Method::GET | Method::HEAD));
    match page.and_then(|page| page.0(path)) {
        Some(bytes) => (headers(kind(path)), bytes).into_response(),
        None => no_route(request).await.into_response(),
    }
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}
