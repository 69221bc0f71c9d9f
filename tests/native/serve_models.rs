//! Models that the server loads when a request names them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use siskin_engine::Session;
use siskin_serve::{Content, Library, OnDemand, ServeOptions};

use crate::server::{Server, eventually, session};

/// A name so long that the parts of a few answers fill a connection whose client does not read.
fn long_name() -> String {
    "l".repeat(8000)
}

/// Tiny models; some cannot be opened.
#[derive(Default)]
struct Tiny {
    opened: AtomicUsize,
    /// Locked while `slow` must not be loaded.
    gate: Mutex<()>,
}

impl Library for Tiny {
    fn names(&self) -> Vec<String> {
        let names = ["broken", "llama", "panics", "qwen3", "slow"];
        names
            .map(String::from)
            .into_iter()
            .chain([long_name()])
            .collect()
    }

    fn open(&self, name: &str) -> Result<Session, String> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        match name {
            "broken" => return Err("it is broken".into()),
            "panics" => panic!("on purpose"),
            "slow" => drop(self.gate.lock().unwrap()),
            _ => {}
        }
        let model = match name {
            "qwen3" => "tiny/qwen3",
            _ => "tiny/llama",
        };
        Ok(session(model, 4))
    }
}

fn start(library: &Arc<Tiny>, max_loaded: usize, idle: Option<Duration>) -> Server {
    let content = Content {
        on_demand: Some(OnDemand {
            library: library.clone(),
            max_loaded,
            idle,
        }),
        ..Content::default()
    };
    Server::with(content, ServeOptions::default())
}

fn request(model: &str) -> Value {
    json!({"model": model, "prompt": [1, 2, 3], "max_tokens": 3})
}

/// The state of each model.
fn states(server: &Server) -> BTreeMap<String, String> {
    let (_, _, text) = server.ask("GET /v1/models HTTP/1.1", "");
    let list: Value = serde_json::from_str(&text).unwrap();
    let model = |m: &Value| {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        (text(&m["id"]), text(&m["status"]["value"]))
    };
    list["data"].as_array().unwrap().iter().map(model).collect()
}

#[test]
fn a_model_is_loaded_when_it_is_named_and_dropped_when_idle() {
    let library = Arc::new(Tiny::default());
    let server = start(&library, 2, Some(Duration::from_millis(100)));
    assert_eq!(states(&server).len(), 6);
    assert!(states(&server).values().all(|s| s == "unloaded"));
    let first = server.post("/v1/completions", &request("llama"));
    assert_eq!(first["model"], "llama");
    eventually("it stays loaded", || states(&server)["llama"] == "unloaded");
    assert_eq!(server.metric("siskin_model_loaded{model=\"llama\"}"), 0.0);
    let tokens = || server.metric("siskin_completion_tokens_total{model=\"llama\"}");
    assert_eq!(tokens(), 3.0);
    // Routes without answers load it, too.
    let body = json!({"model": "llama", "content": "Hello"});
    assert!(server.post("/tokenize", &body)["tokens"].is_array());
    let again = server.post("/v1/completions", &request("llama"));
    assert_eq!(again["choices"], first["choices"]);
    assert_eq!(tokens(), 6.0);
    assert!(library.opened.load(Ordering::SeqCst) >= 2);
}

#[test]
fn requests_wait_for_their_own_model_only() {
    let library = Arc::new(Tiny::default());
    let server = start(&library, 2, None);
    let closed = library.gate.lock().unwrap();
    scope(|scope| {
        let waiting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| server.post("/v1/completions", &request("slow"))))
            .collect();
        eventually("it is not being loaded", || {
            states(&server)["slow"] == "loading"
        });
        // Neither other models, nor one that there is no room for.
        server.post("/v1/completions", &request("llama"));
        server.post("/v1/completions", &request("qwen3"));
        assert_eq!(states(&server)["llama"], "unloaded");
        assert!(waiting.iter().all(|thread| !thread.is_finished()));
        drop(closed);
        for thread in waiting {
            assert_eq!(thread.join().unwrap()["model"], "slow");
        }
    });
    assert_eq!(library.opened.load(Ordering::SeqCst), 3);
    // It has been idle for longer.
    server.post("/v1/completions", &request("llama"));
    assert_eq!(states(&server)["qwen3"], "unloaded");
    assert_eq!(states(&server)["slow"], "loaded");
}

#[test]
fn a_model_in_use_is_neither_dropped_nor_replaced() {
    let library = Arc::new(Tiny::default());
    let server = start(&library, 1, Some(Duration::from_millis(50)));
    let name = long_name();
    let long = json!({"model": name, "prompt": "0 times", "n": 64, "stream": true}).to_string();
    let client = server.send("POST /v1/completions HTTP/1.1", &long);
    eventually("it is not loaded", || states(&server)[&name] == "loaded");
    let other = request("qwen3").to_string();
    let (status, head, body) = server.ask("POST /v1/completions HTTP/1.1", &other);
    assert_eq!(status, 503, "{body}");
    assert!(head.contains("retry-after"), "{head}");
    assert!(body.contains("models_busy"), "{body}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(states(&server)[&name], "loaded");
    drop(client);
    eventually("it is in use without its client", || {
        server.refused("/v1/completions", &request("qwen3")).0 == 200
    });
    assert_eq!(states(&server)[&name], "unloaded");
}

#[test]
fn what_cannot_be_loaded_is_told_and_harms_nobody() {
    let server = start(&Arc::default(), 1, None);
    for (model, status, code, wanted) in [
        (
            "broken",
            500,
            "model_not_loaded",
            "`broken` cannot be loaded: it is broken",
        ),
        (
            "panics",
            500,
            "model_not_loaded",
            "`panics` cannot be loaded: loading it panicked",
        ),
        ("other", 404, "model_not_found", "there are broken, llama"),
        ("../llama", 400, "", "it is a path"),
        ("a\\b", 400, "", "it is a path"),
        ("..", 400, "", "it is a path"),
    ] {
        let (found, error) = server.refused("/v1/completions", &request(model));
        assert_eq!(found, status, "{error}");
        assert_eq!(error["code"].as_str().unwrap_or_default(), code);
        assert_eq!(error["param"], "model");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{message}");
    }
    let unnamed = json!({"prompt": [1, 2, 3]});
    let (status, error) = server.refused("/v1/completions", &unnamed);
    assert_eq!(status, 400);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("`model` is missing")
    );
    assert!(states(&server).values().all(|s| s == "unloaded"));
    server.post("/v1/completions", &request("llama"));
}

#[test]
fn the_server_stops_while_models_are_loaded() {
    let library = Arc::new(Tiny::default());
    let mut server = start(&library, 2, None);
    let closed = library.gate.lock().unwrap();
    let client = server.send(
        "POST /v1/completions HTTP/1.1",
        &request("slow").to_string(),
    );
    eventually("it is not being loaded", || {
        states(&server)["slow"] == "loading"
    });
    // One client has left, the thread has not ended.
    drop(client);
    let ended = server.stop();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!ended.is_finished());
    drop(closed);
    ended.join().unwrap().unwrap();
}
