//! Tools of chat completions, by plain HTTP: a model with random weights calls them where a grammar makes it.

use std::path::Path;

use pollster::block_on;
use serde_json::{Value, json};
use siskin_engine::{DeviceRequest, OpenOptions, Session};
use siskin_serve::{Content, ServeOptions};
use siskin_tests::copy_of;

use crate::server::Server;

pub const CHAT: &str = "/v1/chat/completions";

fn server() -> Server {
    server_of(&|_| ())
}

/// With a tokenizer's files as they are changed.
pub fn server_of(change: &dyn Fn(&Path)) -> Server {
    let content = Content {
        models: vec![("tiny".into(), session_of(change))],
        ..Content::default()
    };
    Server::with(content, ServeOptions::default())
}

pub fn session_of(change: &dyn Fn(&Path)) -> Session {
    let options = OpenOptions {
        device: DeviceRequest::Cpu,
        context: Some(1536),
        sequences: 2,
        ..OpenOptions::default()
    };
    // Tools take more tokens than it says it can read.
    let folder = copy_of("tiny/qwen3");
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let long = text.replace(
        "\"max_position_embeddings\": 128",
        "\"max_position_embeddings\": 2048",
    );
    std::fs::write(&config, long).unwrap();
    change(folder.path());
    block_on(Session::open(folder.path(), &options, &mut |_| ())).unwrap()
}

pub fn tools() -> Value {
    let city = json!({"type": "object", "properties": {
        "city": {"enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
    }, "required": ["city", "days"]});
    let flag =
        json!({"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]});
    json!([
        {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": city}},
        {"type": "function", "function": {"name": "switch", "parameters": flag, "strict": true}},
    ])
}

pub fn request(more: &Value) -> Value {
    let mut request = json!({
        "messages": [{"role": "user", "content": "a"}], "tools": tools(),
        "temperature": 1.5, "seed": 3, "max_tokens": 200,
    });
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    request
}

/// The name of a call, whose arguments fit its parameters.
pub fn checked(call: &Value) -> String {
    assert_eq!(call["type"], "function", "{call}");
    assert_eq!(call["id"].as_str().unwrap().len(), 9, "{call}");
    let function = &call["function"];
    let arguments = function["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    let arguments = arguments.as_object().unwrap();
    match function["name"].as_str().unwrap() {
        "weather" => {
            assert!(["Paris", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
            assert!((1..=9).contains(&arguments["days"].as_i64().unwrap()));
            assert_eq!(arguments.len(), 2);
        }
        "switch" => assert!(arguments["on"].is_boolean() && arguments.len() == 1),
        other => panic!("{other}"),
    }
    function["name"].as_str().unwrap().into()
}

#[test]
fn a_required_call_fits_its_parameters_whole_and_streamed() {
    let server = server();
    for seed in 0..6 {
        let more = json!({"seed": seed, "tool_choice": "required", "parallel_tool_calls": false});
        let found = server.post(CHAT, &request(&more));
        let choice = &found["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{found}");
        assert!(choice["message"]["content"].is_null(), "{found}");
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1, "{found}");
        checked(&calls[0]);

        let mut streamed = request(&more);
        streamed["stream"] = true.into();
        let mut names = vec![];
        let mut reason = Value::Null;
        let data = server.stream(CHAT, &streamed);
        for chunk in data.iter().filter(|data| *data != "[DONE]") {
            let chunk: Value = serde_json::from_str(chunk).unwrap();
            let choice = &chunk["choices"][0];
            for call in choice["delta"]["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
            {
                assert_eq!(call["index"], names.len());
                assert_eq!(call["function"], calls[0]["function"]);
                names.push(checked(call));
            }
            assert!(
                choice["delta"]["content"]
                    .as_str()
                    .unwrap_or_default()
                    .is_empty()
            );
            if !choice["finish_reason"].is_null() {
                reason = choice["finish_reason"].clone();
            }
        }
        assert_eq!((names.len(), reason), (1, "tool_calls".into()));
    }
}

/// What a required call of a response looks like, and what it becomes when it is sent back with its result.
#[test]
fn responses_have_calls_as_items_whole_and_streamed() {
    let server = server();
    let mut tools = tools();
    for tool in tools.as_array_mut().unwrap() {
        let function = tool.as_object_mut().unwrap().remove("function").unwrap();
        let function = function.as_object().unwrap().clone();
        tool.as_object_mut().unwrap().extend(function);
    }
    let mut request = json!({
        "input": "a", "tools": tools, "tool_choice": "required", "parallel_tool_calls": false,
        "temperature": 1.5, "seed": 3, "max_output_tokens": 200,
    });
    let found = server.post("/v1/responses", &request);
    assert_eq!(found["tools"], tools);
    assert_eq!(found["tool_choice"], "required");
    let output = found["output"].as_array().unwrap();
    assert_eq!(output.len(), 1, "{found}");
    let call = &output[0];
    assert_eq!(call["type"], "function_call");
    assert_eq!(call["status"], "completed");
    checked(&json!({
        "type": "function", "id": call["call_id"],
        "function": {"name": call["name"], "arguments": call["arguments"]},
    }));

    request["stream"] = true.into();
    let events = server.stream("/v1/responses", &request);
    let events: Vec<Value> = (events.iter())
        .map(|e| serde_json::from_str(e).unwrap())
        .collect();
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(events[4]["arguments"], call["arguments"]);
    assert_eq!(events[5]["item"]["name"], call["name"]);
    assert_eq!(events[6]["response"]["output"][0], events[5]["item"]);

    // Sent back, it is what chat completions have as one message.
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "4"});
    let thought = json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]});
    let user = json!({"role": "user", "content": "a"});
    let input = json!([user, thought, call, result]);
    let short = json!({"temperature": 0, "tools": tools, "max_output_tokens": 8, "input": input});
    let answer = server.post("/v1/responses", &short);
    let function = json!({"name": call["name"], "arguments": call["arguments"]});
    let messages = json!([
        user,
        {"role": "assistant", "reasoning_content": "Hm.", "tool_calls": [
            {"id": call["call_id"], "type": "function", "function": function},
        ]},
        {"role": "tool", "tool_call_id": call["call_id"], "content": "4"},
    ]);
    let more = json!({"temperature": 0, "max_tokens": 8, "messages": messages});
    let chat = server.post(CHAT, &self::request(&more));
    assert_eq!(
        answer["usage"]["input_tokens"],
        chat["usage"]["prompt_tokens"]
    );
}

#[test]
fn a_tool_can_be_named_or_left_to_the_model() {
    let server = server();
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "switch"}}});
    let found = server.post(CHAT, &request(&named));
    let calls = found["choices"][0]["message"]["tool_calls"].as_array();
    let names: Vec<String> = calls.unwrap().iter().map(checked).collect();
    assert_eq!(names, ["switch"]);
    // Text as the model likes, but what begins as a call is one.
    for seed in 0..4 {
        let found = server.post(CHAT, &request(&json!({"seed": seed, "max_tokens": 60})));
        let choice = &found["choices"][0];
        let calls = choice["message"]["tool_calls"].as_array();
        calls.into_iter().flatten().for_each(|call| {
            checked(call);
        });
        let content = choice["message"]["content"].as_str().unwrap_or_default();
        assert!(
            !content.contains("<tool_call>") || choice["finish_reason"] == "length",
            "{found}"
        );
    }
}

/// Marks that are special tokens, and reasoning that the prompt begins.
#[test]
fn marks_may_be_special_tokens_and_reasoning_comes_before() {
    let server = |end: &str| {
        server_of(&|folder| {
            let edit = |name: &str, from: &str, to: &str| {
                let file = folder.join(name);
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(text.contains(from), "{name}: {from}");
                std::fs::write(&file, text.replace(from, to)).unwrap();
            };
            edit("tokenizer.json", "<|endoftext|>", "[TOOL_CALLS]");
            let template = "{# tools [TOOL_CALLS] <think> </think> #}a";
            let config = format!(
                "{{\"eos_token\": \"<|im_end|>\", \"chat_template\": \"{template}{end}\"}}"
            );
            std::fs::write(folder.join("tokenizer_config.json"), config).unwrap();
        })
    };
    for (choice, end) in [("required", ""), ("auto", ""), ("required", "<think>\\n")] {
        let server = server(end);
        for seed in 0..4 {
            let more = json!({"seed": seed, "tool_choice": choice, "max_tokens": 600});
            let found = server.post(CHAT, &request(&more));
            let choice = &found["choices"][0];
            let calls = choice["message"]["tool_calls"].as_array();
            let n = calls.into_iter().flatten().map(checked).count();
            let reason = if n > 0 { "tool_calls" } else { "stop" };
            // Random weights may think for ever.
            let is_cut = choice["finish_reason"] == "length"
                && (!end.is_empty() || more["tool_choice"] == "auto");
            assert!(is_cut || choice["finish_reason"] == reason, "{found}");
            let content = choice["message"]["content"].as_str().unwrap_or_default();
            assert!(!content.contains("</think>"), "{found}");
        }
    }
}

#[test]
fn calls_and_their_results_are_part_of_the_conversation() {
    let server = server();
    let prompt = |more: &Value| {
        let mut request = json!({"messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                {"id": "abc123xyz", "type": "function",
                 "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\", \"days\": 2}"}},
            ]},
            {"role": "tool", "tool_call_id": "abc123xyz", "content": [{"type": "text", "text": "Snow."}]},
        ]});
        let more = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(more);
        let found = server.post("/apply-template", &request);
        found["prompt"].as_str().unwrap().to_string()
    };
    let with = prompt(&json!({"tools": tools()}));
    for part in [
        "<tools>",
        "\"name\":\"weather\"",
        "\"city\":\"Oslo\"",
        "<tool_response>\nSnow.\n",
    ] {
        assert!(with.contains(part), "{part}: {with}");
    }
    assert!(!with.contains("strict"), "{with}");
    let without = prompt(&json!({"tools": tools(), "tool_choice": "none"}));
    assert!(!without.contains("<tools>") && without.contains("Snow."));
}

#[test]
fn what_is_wrong_with_tools_is_told_by_field() {
    let server = server();
    let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    for (more, param, what) in [
        (
            json!({"tools": [{"type": "web_search"}]}),
            "tools",
            "only functions are supported",
        ),
        (
            json!({"tools": ["a"]}),
            "tools",
            "`tools[0]` is not an object",
        ),
        (
            function(json!({})),
            "tools",
            "`tools[0]` has no `function.name`",
        ),
        (
            function(json!({"name": "get weather"})),
            "tools",
            "`tools[0]` has the name \"get weather\"; use up to 64 letters, digits, _ and -",
        ),
        (
            function(json!({"name": "a", "parametres": {}})),
            "tools",
            "has no `function.parametres`",
        ),
        (
            function(json!({"name": "a", "parameters": 3})),
            "tools",
            "`function.parameters` that is 3",
        ),
        (
            function(json!({"name": "a", "parameters": {"type": "nothing"}})),
            "tools",
            "parameters cannot be used",
        ),
        (
            json!({"tool_choice": "always"}),
            "tool_choice",
            "use auto, none, required",
        ),
        (
            json!({"tools": [], "tool_choice": "required"}),
            "tool_choice",
            "there are no `tools`",
        ),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "b"}}}),
            "tool_choice",
            "names `b`",
        ),
        (
            json!({"functions": [{"name": "a"}]}),
            "functions",
            "is not supported",
        ),
    ] {
        let body = request(&more).to_string();
        let (status, _, answer) = server.ask(&format!("POST {CHAT} HTTP/1.1"), &body);
        let error: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 400, "{more}: {answer}");
        assert_eq!(error["error"]["param"], param, "{more}: {answer}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(what), "{more}: {message}");
    }
    for (message, what) in [
        (
            json!({"role": "tool", "content": "x"}),
            "tool_call_id is missing",
        ),
        (
            json!({"role": "assistant", "content": null}),
            "content must be text",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"id": "a"}]}),
            "must be functions with a name",
        ),
        (
            json!({"role": "user", "content": "x", "tool_calls": [1]}),
            "tool_calls is not supported",
        ),
    ] {
        let body = json!({"messages": [{"role": "user", "content": "a"}, message]}).to_string();
        let (status, _, answer) = server.ask(&format!("POST {CHAT} HTTP/1.1"), &body);
        assert_eq!(status, 400, "{answer}");
        assert!(
            answer.contains("messages[1]") && answer.contains(what),
            "{answer}"
        );
    }
}
