//! Answers of a shape, by plain HTTP.

use serde_json::{Value, json};
use siskin_serve::ServeOptions;

use crate::server::Server;

const CHAT: &str = "/v1/chat/completions";

fn request(more: &Value) -> Value {
    let mut request = json!({
        "messages": [{"role": "user", "content": "a"}], "temperature": 1.2, "seed": 5, "max_tokens": 40,
    });
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    request
}

#[test]
fn answers_have_the_shape_that_is_asked_for() {
    let server = Server::start(2, ServeOptions::default());
    let schema = json!({
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "ok", "strict": true, "schema": schema}});
    let ask = |more: &Value| {
        let found = server.post(CHAT, &request(more));
        assert_eq!(found["choices"][0]["finish_reason"], "stop", "{found}");
        let text = found["choices"][0]["message"]["content"].as_str().unwrap();
        text.to_string()
    };
    let text = ask(&json!({"response_format": format}));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value["ok"].is_boolean(), "{text}");
    let text = ask(&json!({"choice": ["up", "down"]}));
    assert!(["up", "down"].contains(&&*text), "{text}");
    let text = ask(&json!({"regex": "[ab]{3}"}));
    assert!(text.len() == 3 && text.bytes().all(|b| b == b'a' || b == b'b'));
    let text = ask(&json!({"grammar": "start: \"x\"+ \"y\""}));
    assert!(text.ends_with('y') && text.trim_start_matches('x') == "y");
    // Each answer follows it by itself.
    let found = server.post("/v1/completions", &json!({
        "prompt": "a", "temperature": 1.2, "n": 2, "best_of": 3, "choice": ["up", "down"], "max_tokens": 9,
    }));
    for choice in found["choices"].as_array().unwrap() {
        assert!(["up", "down"].contains(&choice["text"].as_str().unwrap()));
    }
    // In a response the schema stands beside its type.
    let format =
        json!({"type": "json_schema", "name": "ok", "schema": {"enum": ["left", "right"]}});
    let found = server.post(
        "/v1/responses",
        &json!({"input": "a", "text": {"format": format}, "max_output_tokens": 20}),
    );
    let text = found["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(["\"left\"", "\"right\""].contains(&text), "{text}");
    assert_eq!(found["text"]["format"], format);
    let plain = server.post(
        CHAT,
        &request(&json!({"response_format": {"type": "text"}})),
    );
    assert_eq!(plain["choices"][0]["finish_reason"], "length");
}

#[test]
fn shapes_that_are_not_understood_are_refused_by_field() {
    let server = Server::start(1, ServeOptions::default());
    for (more, param, what) in [
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format",
            "use text, json_object",
        ),
        (
            json!({"response_format": {"type": "json_object", "a": 1}}),
            "response_format",
            "there is no `a`",
        ),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format",
            "must be an object",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "b": 1, "schema": {}}}}),
            "response_format",
            "has no `b`",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nope"}}}}),
            "response_format",
            "nope",
        ),
        (json!({"regex": "("}), "regex", "regular expression"),
        (
            json!({"regex": "a", "choice": ["b"]}),
            "choice",
            "cannot be combined with `regex`",
        ),
        (json!({"choice": []}), "choice", "texts that are not empty"),
    ] {
        let (status, _, text) = server.ask(
            &format!("POST {CHAT} HTTP/1.1"),
            &request(&more).to_string(),
        );
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, &error["error"]["param"]),
            (400, &json!(param)),
            "{text}"
        );
        assert!(text.contains(what), "{text}");
    }
}
