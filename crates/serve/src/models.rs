//! The models by name: those that stay loaded, and those of a library, which are loaded when a request first names them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use siskin_engine::Session;
use siskin_openai::ApiError;
use tokio::sync::watch;

use crate::error::{Result, ServeError};
use crate::metrics::{self, Metrics};
use crate::served::{Lease, Served};

/// Models that can be opened by name.
pub trait Library: Send + Sync {
    /// Their names, which may change at any time.
    fn names(&self) -> Vec<String>;

    /// Opens one. Runs on a thread of its own.
    ///
    /// # Errors
    /// Says why it cannot be opened.
    fn open(&self, name: &str) -> std::result::Result<Session, String>;
}

/// Models that are loaded when a request names them.
#[derive(Clone)]
pub struct OnDemand {
    /// Where they come from.
    pub library: Arc<dyn Library>,
    /// The most of them that are loaded at once. For another one, the one that has been idle for longest is dropped.
    pub max_loaded: usize,
    /// How long one may be idle until it is dropped; `None` for ever.
    pub idle: Option<Duration>,
}

impl fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("max_loaded", &self.max_loaded)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

/// `None` until it has been loaded.
type Loaded = Option<std::result::Result<Arc<Served>, String>>;

enum State {
    Loading(watch::Receiver<Loaded>),
    Ready(Arc<Served>),
}

impl State {
    /// Whether nobody uses it; nobody else can begin to while the states are locked.
    fn is_idle(&self) -> bool {
        matches!(self, Self::Ready(model) if Arc::strong_count(model) == 1)
    }
}

/// A name that requests can have.
pub struct Listed {
    pub name: String,
    pub state: &'static str,
    /// Of an adapter, the model.
    pub parent: Option<String>,
}

type States = BTreeMap<String, State>;

pub struct Models {
    /// Those that stay loaded, in the order given.
    kept: Vec<Arc<Served>>,
    on_demand: Option<OnDemand>,
    /// Those of the library that are loaded or being loaded.
    states: Mutex<States>,
    /// Of all models that have ever been loaded.
    metrics: Mutex<BTreeMap<String, Arc<Mutex<Metrics>>>>,
    max_waiting: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Models {
    pub fn new(
        loaded: Vec<(String, Session)>,
        on_demand: Option<OnDemand>,
        max_waiting: usize,
    ) -> io::Result<Arc<Self>> {
        let mut models = Self {
            kept: vec![],
            on_demand,
            states: Mutex::default(),
            metrics: Mutex::default(),
            max_waiting,
        };
        for (name, session) in loaded {
            let model = models.start(&name, session)?;
            models.kept.push(model);
        }
        Ok(Arc::new(models))
    }

    fn start(&self, name: &str, session: Session) -> io::Result<Arc<Served>> {
        let metrics = lock(&self.metrics).entry(name.into()).or_default().clone();
        Served::start(name, session, self.max_waiting, metrics)
    }

    /// All names, each with the state that llama-server's router has for it; adapters after their models.
    pub fn list(&self) -> Vec<Listed> {
        let of = |name: &String, parent: Option<&String>| Listed {
            name: name.clone(),
            state: "loaded",
            parent: parent.cloned(),
        };
        let kept = self.kept.iter().flat_map(|m| {
            let adapters = m.adapters.iter().map(|name| of(name, Some(&m.name)));
            [of(&m.name, None)].into_iter().chain(adapters)
        });
        let mut all: Vec<_> = kept.collect();
        let Some(on_demand) = &self.on_demand else {
            return all;
        };
        let states = lock(&self.states);
        let mut names = on_demand.library.names();
        // One that is loaded may have lost its file.
        names.extend(states.keys().cloned());
        names.sort();
        names.dedup();
        names.retain(|name| all.iter().all(|listed| listed.name != *name));
        all.extend(names.into_iter().map(|name| {
            let state = match states.get(&name) {
                Some(State::Ready(_)) => "loaded",
                Some(State::Loading(_)) => "loading",
                None => "unloaded",
            };
            Listed {
                name,
                state,
                parent: None,
            }
        }));
        all
    }

    /// The model that a request names, loaded if it is not; without a name the first one, or the only one of the library.
    pub async fn get(self: &Arc<Self>, name: Option<&str>) -> Result<Lease> {
        let name = match (name, self.kept.first()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(first)) => return Ok(Lease::of(first.clone())),
            (None, None) => self.only()?,
        };
        if let Some(model) = self.kept.iter().find(|m| m.name == name) {
            return Ok(Lease::of(model.clone()));
        }
        let has_it = |m: &&Arc<Served>| m.adapters.contains(&name);
        if let Some(model) = self.kept.iter().find(has_it) {
            return Ok(Lease::adapted(model.clone(), &name));
        }
        let mut loading = match self.find_or_load(&name)? {
            State::Ready(model) => return Ok(Lease::of(model)),
            State::Loading(loading) => loading,
        };
        // What is waited for has the model, so that it cannot be dropped before it is used.
        let loaded = loading.wait_for(Option::is_some).await;
        match loaded.as_deref() {
            Ok(Some(Ok(model))) => Ok(Lease::of(model.clone())),
            Ok(Some(Err(why))) => Err(ServeError::not_loaded(&name, why)),
            Ok(None) | Err(_) => Err(ServeError::not_loaded(&name, "its thread has ended")),
        }
    }

    fn names(&self) -> Vec<String> {
        self.list().into_iter().map(|listed| listed.name).collect()
    }

    fn no_model(&self, name: &str) -> ServeError {
        ServeError::no_model(name, &self.names())
    }

    fn only(&self) -> Result<String> {
        let mut names = self.names();
        match (names.pop(), names.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => {
                let message = "`model` is missing; `GET /v1/models` lists the models";
                Err(ApiError::field("model", message).into())
            }
        }
    }

    fn find_or_load(self: &Arc<Self>, name: &str) -> Result<State> {
        let Some(on_demand) = &self.on_demand else {
            return Err(self.no_model(name));
        };
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(ServeError::model_name(name));
        }
        let mut states = lock(&self.states);
        match states.get(name) {
            Some(State::Loading(loading)) => return Ok(State::Loading(loading.clone())),
            Some(State::Ready(model)) if !model.worker.has_ended() => {
                return Ok(State::Ready(model.clone()));
            }
            // It panicked.
            Some(State::Ready(_)) => drop(states.remove(name)),
            None => {}
        }
        if !on_demand.library.names().iter().any(|n| n == name) {
            drop(states);
            return Err(self.no_model(name));
        }
        let dropped = make_room(&mut states, on_demand.max_loaded)?;
        let (sender, loading) = watch::channel(None);
        states.insert(name.into(), State::Loading(loading.clone()));
        let (models, library) = (self.clone(), on_demand.library.clone());
        let thread = thread::Builder::new().name(format!("load {name}"));
        let load = {
            let name = name.to_owned();
            move || {
                // Their memory may be needed.
                dropped.into_iter().for_each(|t| drop(t.join()));
                models.load(&name, &*library, &sender);
            }
        };
        if let Err(e) = thread.spawn(load) {
            states.remove(name);
            return Err(ApiError::server(format!("no thread can be started: {e}")).into());
        }
        Ok(State::Loading(loading))
    }

    fn load(&self, name: &str, library: &dyn Library, loaded: &watch::Sender<Loaded>) {
        let opened = catch_unwind(AssertUnwindSafe(|| library.open(name)));
        let opened = opened.unwrap_or_else(|_| Err("loading it panicked".into()));
        let model = opened.and_then(|session| {
            let model = self.start(name, session);
            model.map_err(|e| e.to_string())
        });
        let mut states = lock(&self.states);
        match &model {
            Ok(model) => states.insert(name.into(), State::Ready(model.clone())),
            Err(_) => states.remove(name),
        };
        // An error if nobody waits any more.
        let _ = loaded.send(Some(model));
    }

    /// Drops the models that have been idle for too long.
    pub fn drop_idle(&self) {
        let Some(idle) = self.on_demand.as_ref().and_then(|d| d.idle) else {
            return;
        };
        let mut states = lock(&self.states);
        let is_due = |state: &State| {
            state.is_idle()
                && matches!(state, State::Ready(model) if model.last_used().elapsed() >= idle)
        };
        states.retain(|_, state| !is_due(state));
    }

    /// How often to look for idle models; `None` for never.
    pub fn check_interval(&self) -> Option<Duration> {
        let idle = self.on_demand.as_ref()?.idle?;
        Some((idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)))
    }

    /// Waits until nothing is being loaded.
    pub async fn settle(&self) {
        for mut loading in self.loading() {
            let _ = loading.wait_for(Option::is_some).await;
        }
    }

    fn loading(&self) -> Vec<watch::Receiver<Loaded>> {
        let states = lock(&self.states);
        let loading = states.values().filter_map(|state| match state {
            State::Loading(loading) => Some(loading.clone()),
            State::Ready(_) => None,
        });
        loading.collect()
    }

    /// What `/metrics` tells.
    pub fn metrics(&self) -> String {
        let metrics = lock(&self.metrics).clone();
        let states = lock(&self.states);
        let is_loaded = |name: &str| {
            self.kept.iter().any(|m| m.name == name)
                || matches!(states.get(name), Some(State::Ready(_)))
        };
        let locked = metrics
            .iter()
            .map(|(name, m)| (&**name, is_loaded(name), lock(m)));
        let locked: Vec<_> = locked.collect();
        metrics::text(
            locked
                .iter()
                .map(|(name, loaded, m)| (*name, *loaded, &**m)),
        )
    }
}

/// Drops models until one more may be loaded, those first that have been idle for longest. Returns their threads.
fn make_room(states: &mut States, max_loaded: usize) -> Result<Vec<JoinHandle<()>>> {
    let mut dropped = vec![];
    while states.len() >= max_loaded.max(1) {
        let idle = states.iter().filter(|(_, state)| state.is_idle());
        let oldest = idle.min_by_key(|(_, state)| match state {
            State::Ready(model) => Some(model.last_used()),
            State::Loading(_) => None,
        });
        let Some(name) = oldest.map(|(name, _)| name.clone()) else {
            let names: Vec<&str> = states.keys().map(String::as_str).collect();
            return Err(ServeError::no_room(&names));
        };
        if let Some(State::Ready(model)) = states.remove(&name) {
            dropped.extend(Arc::into_inner(model).map(Served::end));
        }
    }
    Ok(dropped)
}
