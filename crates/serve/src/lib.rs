//! OpenAI's HTTP API over siskin's engine: chat and text completions and responses, streamed or not, embeddings, and what
//! operators need (`/health`, `/metrics`). Each model has a thread, on which all of its requests run side by side.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference>. What is not supported is refused by name, never ignored.

mod answering;
mod answers;
mod app;
mod body;
mod embeddings;
mod error;
mod listen;
mod memory;
mod metrics;
mod models;
mod origin;
mod page;
mod served;
mod streams;
mod tokens;
mod worker;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use siskin_engine::Session;
use tokio::time::sleep;

use crate::app::App;
use crate::models::Models;
pub use crate::models::{Library, OnDemand};
pub use crate::page::Page;

/// How requests are received.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// What clients must send as `Authorization: Bearer …`; `None` for no check.
    pub api_key: Option<String>,
    /// Requests that may wait for each model, beside those that run; further ones are answered 429.
    pub max_waiting: usize,
    /// The most bytes of a request's body.
    pub max_body: usize,
    /// The origin whose pages may send requests (CORS), or `*`; `None` for none but the server's own. Requests of other
    /// pages are refused.
    pub cors: Option<String>,
    /// How long a client may take to send its headers, then its body, and how long it may read nothing of an answer.
    pub client_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            max_waiting: 64,
            max_body: 4 << 20,
            cors: None,
            client_timeout: Duration::from_secs(30),
        }
    }
}

/// What is served.
#[derive(Debug, Default)]
pub struct Content {
    /// Models that stay loaded, each under its name.
    pub models: Vec<(String, Session)>,
    /// Models that are loaded when they are needed.
    pub on_demand: Option<OnDemand>,
    /// The page.
    pub page: Option<Page>,
}

/// Serves models until `is_stopped` says so; answers that have begun are then finished.
///
/// # Errors
/// If the listener fails, or no thread can be started.
pub fn serve(
    listener: TcpListener,
    content: Content,
    options: ServeOptions,
    is_stopped: impl Fn() -> bool + Send + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.ip();
    if content.on_demand.is_some() {
        memory::prepare();
    }
    let models = Models::new(content.models, content.on_demand, options.max_waiting)?;
    let client_timeout = options.client_timeout;
    let app = App {
        models: models.clone(),
        page: content.page,
        options,
        address,
        created: app::now(),
    };
    let router = app::router(Arc::new(app));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let Some(interval) = models.check_interval() {
            let models = models.clone();
            tokio::spawn(async move {
                loop {
                    sleep(interval).await;
                    models.drop_idle();
                }
            });
        }
        let stopped = async {
            while !is_stopped() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        listen::listen(listener, router, client_timeout, stopped).await;
        // A thread in the middle of it must not outlive what it uses.
        models.settle().await;
        Ok(())
    })
}
