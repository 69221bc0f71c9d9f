//! A loaded model, and who uses it.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use siskin_engine::{Grammar, Session};
use siskin_grammar::{Grammars, Source};
use siskin_openai::ApiError;
use siskin_text::TextModel;

use crate::error::{Result, ServeError};
use crate::metrics::Metrics;
use crate::worker::Worker;

/// A model that is loaded.
pub struct Served {
    pub name: String,
    /// The adapters that its requests can have.
    pub adapters: Vec<String>,
    pub text: Arc<TextModel>,
    pub worker: Worker,
    /// Made by the first request that needs them.
    grammars: OnceLock<std::result::Result<Grammars, siskin_grammar::Error>>,
    /// Requests that run or wait.
    requests: Arc<AtomicUsize>,
    max_requests: usize,
    last_used: Mutex<Instant>,
}

impl Served {
    pub fn start(
        name: &str,
        session: Session,
        max_waiting: usize,
        metrics: Arc<Mutex<Metrics>>,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            name: name.into(),
            adapters: session.adapter_names().map(String::from).collect(),
            text: session.text.clone(),
            max_requests: session.sequences() + max_waiting,
            worker: Worker::start(name, session, metrics)?,
            requests: Arc::default(),
            grammars: OnceLock::new(),
            last_used: Mutex::new(Instant::now()),
        }))
    }

    /// A request's grammar, for this model's vocabulary.
    pub fn grammar(&self, field: &str, source: &Source) -> Result<Arc<dyn Grammar>> {
        let grammars = self
            .grammars
            .get_or_init(|| Grammars::new(self.text.clone()));
        let grammars = grammars.as_ref().map_err(Clone::clone);
        let compiled = grammars.and_then(|g| g.compile_source(source));
        Ok(compiled.map_err(|e| ApiError::field(field, format!("`{field}`: {e}")))?)
    }

    /// Places for `n` requests.
    pub fn ticket(&self, n: usize) -> Result<Ticket> {
        let before = self.requests.fetch_add(n, Ordering::SeqCst);
        let ticket = Ticket {
            requests: self.requests.clone(),
            n,
        };
        match before + n > self.max_requests {
            true => Err(ServeError::busy(before)),
            false => Ok(ticket),
        }
    }

    /// When its last request ended.
    pub fn last_used(&self) -> Instant {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the session, which its thread then drops.
    pub fn end(self) -> JoinHandle<()> {
        self.worker.end()
    }
}

/// A loaded model in use: as long as there is one, the model stays loaded.
pub struct Lease {
    model: Arc<Served>,
    adapter: Option<String>,
}

impl Lease {
    pub fn of(model: Arc<Served>) -> Self {
        Self {
            model,
            adapter: None,
        }
    }

    /// The model with one of its session's adapters.
    pub fn adapted(model: Arc<Served>, adapter: &str) -> Self {
        Self {
            model,
            adapter: Some(adapter.into()),
        }
    }

    pub fn adapter(&self) -> Option<&str> {
        self.adapter.as_deref()
    }

    /// What clients call it.
    pub fn name(&self) -> &str {
        self.adapter.as_ref().unwrap_or(&self.model.name)
    }
}

impl Deref for Lease {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.model
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut last_used = self
            .model
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last_used = Instant::now();
    }
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
