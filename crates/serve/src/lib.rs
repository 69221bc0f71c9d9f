//! OpenAI's HTTP API over siskin's engine: chat and text completions, streamed or not, embeddings, and what operators need
//! (`/health`, `/metrics`). Each model has a thread, on which all of its requests run side by side.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference>. What is not supported is refused by name, never ignored.

mod answers;
mod app;
mod embeddings;
mod error;
mod metrics;
mod requests;
mod shapes;
mod streams;
mod tokens;
mod worker;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use siskin_engine::Session;

/// How requests are received.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// What clients must send as `Authorization: Bearer …`; `None` for no check.
    pub api_key: Option<String>,
    /// Requests that may wait for each model, beside those that run; further ones are answered 429.
    pub max_waiting: usize,
    /// The most bytes of a request's body.
    pub max_body: usize,
    /// The origin whose pages may send requests (CORS), or `*`; `None` for none. Requests of other pages are refused.
    pub cors: Option<String>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            max_waiting: 64,
            max_body: 4 << 20,
            cors: None,
        }
    }
}

/// Serves the models, each under its name, until `is_stopped` says so; answers that have begun are then finished.
///
/// # Errors
/// If the listener fails.
pub fn serve(
    listener: TcpListener,
    models: Vec<(String, Session)>,
    options: ServeOptions,
    is_stopped: impl Fn() -> bool + Send + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let app = app::App::new(models, options)?;
        let router = app::router(app);
        let stopped = async move {
            while !is_stopped() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        axum::serve(tokio::net::TcpListener::from_std(listener)?, router)
            .with_graceful_shutdown(stopped)
            .await
    })
}
