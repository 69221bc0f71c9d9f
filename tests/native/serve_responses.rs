//! `/v1/responses`, by plain HTTP.

use serde_json::{Value, json};
use siskin_serve::ServeOptions;

use crate::server::Server;

const RESPONSES: &str = "/v1/responses";

/// The names and the data of a stream's events.
fn events(server: &Server, body: &Value) -> Vec<Value> {
    let head = format!("POST {RESPONSES} HTTP/1.1");
    let (status, head, text) = server.ask(&head, &body.to_string());
    assert_eq!(status, 200, "{text}");
    assert!(head.contains("text/event-stream"), "{head}");
    let names = text.lines().filter_map(|l| l.strip_prefix("event: "));
    let data = text.lines().filter_map(|l| l.strip_prefix("data: "));
    let data: Vec<Value> = data.map(|d| serde_json::from_str(d).unwrap()).collect();
    assert!(names.eq(data.iter().map(|d| d["type"].as_str().unwrap())));
    data
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap()
}

#[test]
fn a_response_has_openai_s_shape() {
    let server = Server::start(2, ServeOptions::default());
    let request = json!({
        "model": "llama", "input": "Hello", "instructions": "Be brief.", "max_output_tokens": 5, "temperature": 0.8,
        "seed": 3, "metadata": {"a": "b"}, "store": false, "tools": [], "text": {"format": {"type": "text"}},
        "include": ["message.output_text.logprobs"], "top_logprobs": 2, "truncation": "disabled", "user": "me",
    });
    let found = server.post(RESPONSES, &request);
    for (name, wanted) in [
        ("object", json!("response")),
        ("model", json!("llama")),
        ("status", json!("incomplete")),
        ("incomplete_details", json!({"reason": "max_output_tokens"})),
        ("instructions", json!("Be brief.")),
        ("max_output_tokens", json!(5)),
        ("metadata", json!({"a": "b"})),
        ("store", json!(false)),
        ("temperature", json!(0.8)),
        ("previous_response_id", Value::Null),
        ("error", Value::Null),
    ] {
        assert_eq!(found[name], wanted, "{name}");
    }
    let output = found["output"].as_array().unwrap();
    assert_eq!(output.len(), 1);
    assert_eq!(output[0]["type"], "message");
    assert_eq!(output[0]["role"], "assistant");
    let content = &output[0]["content"][0];
    assert_eq!(content["type"], "output_text");
    let logprobs = content["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 5);
    assert_eq!(logprobs[0]["top_logprobs"].as_array().unwrap().len(), 2);
    let usage = &found["usage"];
    assert_eq!(usage["output_tokens"], 5);
    let (input, total) = (&usage["input_tokens"], &usage["total_tokens"]);
    assert_eq!(input.as_u64().unwrap() + 5, total.as_u64().unwrap());
    // The same conversation as a list of messages; what it has in the cache is told.
    let mut list = request.clone();
    list["instructions"] = Value::Null;
    list["input"] = json!([
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]);
    let again = server.post(RESPONSES, &list);
    assert_eq!(text(&again), text(&found));
    let cached = &again["usage"]["input_tokens_details"]["cached_tokens"];
    assert!(cached.as_u64() > Some(0), "{cached}");
    // And as `/v1/chat/completions` answers it.
    let chat = json!({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 5, "temperature": 0.8, "seed": 3,
    });
    let chat = server.post("/v1/chat/completions", &chat);
    assert_eq!(chat["choices"][0]["message"]["content"], text(&found));
    // An answer can be sent back as it came.
    list["input"] = json!([{"role": "user", "content": "Hello"}, output[0], {"role": "user", "content": "So?"}]);
    assert_eq!(server.post(RESPONSES, &list)["object"], "response");
}

#[test]
fn a_streamed_response_has_openai_s_events() {
    let server = Server::start(2, ServeOptions::default());
    let mut request = json!({
        "input": "Hello", "max_output_tokens": 6, "include": ["message.output_text.logprobs"], "metadata": {"a": "b"},
    });
    let whole = server.post(RESPONSES, &request);
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_obfuscation": false});
    let events = events(&server, &request);
    let mut kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], i);
    }
    let deltas = events.iter().filter_map(|e| e["delta"].as_str());
    assert_eq!(deltas.collect::<String>(), text(&whole));
    let (first, last) = (
        &events[0]["response"],
        &events[events.len() - 1]["response"],
    );
    assert_eq!(first["status"], "in_progress");
    assert_eq!(first["id"], last["id"]);
    for name in ["status", "incomplete_details", "metadata"] {
        assert_eq!(last[name], whole[name]);
    }
    assert_eq!(text(last), text(&whole));
    let item = &last["output"][0]["id"];
    let mut parts = events.iter().filter(|e| !e["item_id"].is_null());
    assert!(parts.all(|e| e["item_id"] == *item));
    let logprobs = events
        .iter()
        .filter_map(|e| e["delta"].as_str().and(e["logprobs"].as_array()));
    assert_eq!(logprobs.map(Vec::len).sum::<usize>(), 6);
}

#[test]
fn what_needs_storage_is_refused_by_name() {
    let server = Server::start(1, ServeOptions::default());
    for (name, value, wanted) in [
        (
            "previous_response_id",
            json!("resp_1"),
            "responses are not stored",
        ),
        (
            "conversation",
            json!("conv_1"),
            "conversations are not stored",
        ),
        ("store", json!(true), "responses are not stored"),
        ("background", json!(true), "cannot be fetched later"),
        (
            "tools",
            json!([{"type": "web_search"}]),
            "only functions are supported",
        ),
        ("tool_choice", json!("required"), "there are no `tools`"),
        ("max_tool_calls", json!(2), "not counted"),
        (
            "reasoning",
            json!({"effort": "low"}),
            "how much a model thinks",
        ),
        (
            "text",
            json!({"format": {"type": "xml"}}),
            "use text, json_object",
        ),
        ("text", json!({"verbosity": "low"}), "`verbosity` is"),
        ("truncation", json!("auto"), "never cut"),
        ("prompt", json!({"id": "p"}), "no stored prompts"),
        (
            "include",
            json!(["reasoning.encrypted_content"]),
            "only `message.output_text.logprobs`",
        ),
        ("top_logprobs", json!(2), "needs `include"),
        ("n", json!(2), "no field `n`"),
        ("max_output_tokens", json!("x"), "invalid type"),
        ("temperature", json!(-1), "out of range"),
        ("input", json!([]), "at least one message"),
        ("input", json!(5), "a text or a list"),
        (
            "input[0]",
            json!([{"type": "function_call_output"}]),
            "call_id must be text",
        ),
        (
            "input[0]",
            json!([{"type": "web_search_call", "id": "w"}]),
            "only message, reasoning, function_call",
        ),
        (
            "input[0]",
            json!([{"role": "tool", "content": ""}]),
            "use system, developer, user",
        ),
        (
            "input[0]",
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
            "only input_text and output_text",
        ),
        (
            "input[0]",
            json!([{"role": "user", "content": "x", "name": "me"}]),
            "name is not supported",
        ),
        ("input", json!("so ".repeat(200)), "context holds 64"),
    ] {
        let field = name.trim_end_matches("[0]");
        let mut request = json!({"input": "Hello"});
        request[field] = value;
        let (status, error) = server.refused(RESPONSES, &request);
        assert_eq!(status, 400, "{request}");
        assert_eq!(error["param"], name, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{message}");
        assert!(
            message.contains(field) || wanted == "context holds 64" || wanted == "out of range",
            "{message}"
        );
    }
    // Nothing of it is asked for.
    let request = json!({"input": "x", "max_output_tokens": 2, "reasoning": {"effort": null}, "tool_choice": "auto", "background": false});
    server.post(RESPONSES, &request);
}
