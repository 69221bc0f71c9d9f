//! Adapters under names of their own, and `best_of`, by plain HTTP.

use pollster::block_on;
use serde_json::{Value, json};
use siskin_engine::{Adapter, Session};
use siskin_serve::{Content, ServeOptions};
use siskin_tests::fixture;

use crate::server::{Server, session};

fn adapted() -> Session {
    let mut session = session("tiny/llama", 3);
    let named = ["lora", "dora"].map(|name| {
        let adapter = Adapter::open(&fixture(&format!("tiny/llama/{name}/adapter"))).unwrap();
        (name.to_string(), adapter)
    });
    block_on(session.set_adapters(named.into())).unwrap();
    session
}

fn server(session: Session) -> Server {
    let content = Content {
        models: vec![("llama".into(), session)],
        ..Content::default()
    };
    Server::with(content, ServeOptions::default())
}

#[test]
fn a_request_names_an_adapter_in_place_of_the_model() {
    let server = server(adapted());
    let (_, _, models) = server.ask("GET /v1/models HTTP/1.1", "");
    let models: Value = serde_json::from_str(&models).unwrap();
    let listed: Vec<_> = models["data"].as_array().unwrap().iter().collect();
    let names: Vec<&Value> = listed.iter().map(|m| &m["id"]).collect();
    assert_eq!(names, ["llama", "lora", "dora"]);
    assert_eq!(listed[1]["parent"], "llama");
    assert_eq!(listed[0].get("parent"), None);
    // The tokens may be the same.
    let request =
        |model: &str| json!({"model": model, "prompt": "Hello", "max_tokens": 3, "logprobs": 0});
    let answers = ["llama", "lora", "dora"].map(|model| {
        let answer = server.post("/v1/completions", &request(model));
        assert_eq!(answer["model"], model);
        answer["choices"][0]["logprobs"]["token_logprobs"].clone()
    });
    assert!(answers[0] != answers[1] && answers[0] != answers[2] && answers[1] != answers[2]);
    let found = server.post(
        "/v1/responses",
        &json!({"model": "dora", "input": "Hello", "max_output_tokens": 3}),
    );
    assert_eq!(found["model"], "dora");
    for (path, body, what) in [
        (
            "/v1/completions",
            request("other"),
            "there are llama, lora, dora",
        ),
        (
            "/v1/embeddings",
            json!({"model": "lora", "input": "Hello"}),
            "`lora` is an adapter",
        ),
    ] {
        let (status, _, text) = server.ask(&format!("POST {path} HTTP/1.1"), &body.to_string());
        assert!(status >= 400 && text.contains(what), "{status} {text}");
    }
}

#[test]
fn best_of_returns_the_likeliest() {
    let server = server(session("tiny/llama", 3));
    let request = json!({
        "prompt": "Hello", "max_tokens": 6, "temperature": 1.5, "seed": 4, "n": 5, "logprobs": 0,
    });
    let all = server.post("/v1/completions", &request);
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|l| l.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let mut choices: Vec<Value> = all["choices"].as_array().unwrap().clone();
    choices.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let mut request = request;
    request["n"] = 2.into();
    request["best_of"] = 5.into();
    for logprobs in [json!(0), Value::Null] {
        request["logprobs"] = logprobs.clone();
        let best = server.post("/v1/completions", &request);
        let found = best["choices"].as_array().unwrap();
        assert_eq!(found.len(), 2);
        for (i, (found, wanted)) in found.iter().zip(&choices).enumerate() {
            assert_eq!(found["text"], wanted["text"]);
            assert_eq!(found["index"], i);
            assert_eq!(found["logprobs"].is_null(), logprobs.is_null());
        }
        // All that were generated.
        let tokens = |answer: &Value| answer["usage"]["completion_tokens"].clone();
        assert_eq!(tokens(&best), tokens(&all));
    }
    for (change, what) in [
        (json!({"best_of": 1}), "it must be from `n`"),
        (json!({"stream": true}), "do not stream"),
    ] {
        let mut request = request.clone();
        request
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let (status, _, text) = server.ask("POST /v1/completions HTTP/1.1", &request.to_string());
        assert!(status == 400 && text.contains(what), "{status} {text}");
    }
}
