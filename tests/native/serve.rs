//! The server, by plain HTTP.

use std::io::Read;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use pollster::block_on;
use serde_json::{Value, json};
use siskin_engine::{GenerateOptions, Sampling};
use siskin_serve::{Content, ServeOptions};
use siskin_tests::fixture;

use crate::server::{Server, session};

/// Different prompts, each with the text that the session answers by itself.
fn prompts() -> Vec<(Value, String)> {
    let mut session = session("tiny/llama", 1);
    let prompt = |i: usize| {
        let text = format!("{} things, and {} more", i * 7, "so ".repeat(i % 4));
        let tokens = session.text.encode(&text).unwrap();
        let tokens: Vec<u32> = tokens.iter().map(|t| t.id).collect();
        let options = GenerateOptions {
            sampling: Sampling {
                temperature: 0.8,
                seed: i as u64,
                ..Sampling::default()
            },
            max_tokens: 20,
            ..GenerateOptions::default()
        };
        session.reset();
        let answer = session.generate(&tokens, &options, async |_| ControlFlow::Continue(()));
        let answer = block_on(answer).unwrap().text;
        let request = json!({"model": "llama", "prompt": text, "temperature": 0.8, "seed": i, "max_tokens": 20});
        (request, answer)
    };
    (0..12).map(prompt).collect()
}

#[test]
fn clients_at_once_get_what_each_would_get_alone() {
    let server = Server::start(4, ServeOptions::default());
    let prompts = prompts();
    scope(|scope| {
        for (i, (request, wanted)) in prompts.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                if i % 2 == 0 {
                    let found = server.post("/v1/completions", request);
                    assert_eq!(found["choices"][0]["text"], *wanted, "{found}");
                    let usage = &found["usage"];
                    let n = |name: &str| usage[name].as_u64().unwrap();
                    let total = n("prompt_tokens") + n("completion_tokens");
                    assert_eq!(n("total_tokens"), total);
                    return;
                }
                let mut request = request.clone();
                request["stream"] = true.into();
                request["stream_options"] = json!({"include_usage": true});
                let mut events = server.stream("/v1/completions", &request);
                assert_eq!(events.pop().unwrap(), "[DONE]");
                let events: Vec<Value> = events
                    .iter()
                    .map(|e| serde_json::from_str(e).unwrap())
                    .collect();
                let text = |e: &Value| e["choices"][0]["text"].as_str().map(String::from);
                let all: String = events.iter().filter_map(text).collect();
                assert_eq!(all, *wanted);
                assert!(events.last().unwrap()["usage"]["completion_tokens"].as_u64() > Some(0));
            });
        }
    });
    assert_eq!(server.metric("siskin_requests_running"), 0.0);
    assert_eq!(
        server.metric("siskin_time_to_first_token_seconds_count"),
        12.0
    );
}

#[test]
fn chat_has_openai_s_shape() {
    let server = Server::start(4, ServeOptions::default());
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]);
    let mut request = json!({
        "messages": messages, "max_completion_tokens": 4, "n": 3, "temperature": 1, "seed": 5,
        "logprobs": true, "top_logprobs": 2, "tools": [], "user": "me", "response_format": {"type": "text"},
    });
    let found = server.post("/v1/chat/completions", &request);
    assert_eq!(found["object"], "chat.completion");
    assert_eq!(found["model"], "llama");
    let choices = found["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], i);
        assert_eq!(choice["message"]["role"], "assistant");
        let logprobs = choice["logprobs"]["content"].as_array().unwrap();
        assert!(
            logprobs
                .iter()
                .all(|l| l["top_logprobs"].as_array().unwrap().len() == 2)
        );
    }
    let again = server.post("/v1/chat/completions", &request);
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!(again["choices"][i]["message"], choice["message"]);
    }
    // Three answers, of one prompt.
    assert!(found["usage"]["prompt_tokens"].as_u64() < Some(40));
    request["stream"] = true.into();
    let mut texts = vec![String::new(); 3];
    for event in server.stream("/v1/chat/completions", &request) {
        let Ok(event) = serde_json::from_str::<Value>(&event) else {
            assert_eq!(event, "[DONE]");
            continue;
        };
        assert_eq!(event["object"], "chat.completion.chunk");
        let choice = &event["choices"][0];
        let i = choice["index"].as_u64().unwrap() as usize;
        texts[i] += choice["delta"]["content"].as_str().unwrap_or_default();
    }
    for (text, choice) in texts.iter().zip(choices) {
        assert_eq!(choice["message"]["content"], *text);
    }
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let options = ServeOptions {
        max_body: 2000,
        ..ServeOptions::default()
    };
    let server = Server::start(2, options);
    let hello = json!([{"role": "user", "content": "Hello"}]);
    let with = |name: &str, value: Value| {
        let mut request = json!({"messages": hello});
        request[name] = value;
        request.to_string()
    };
    let message = |message: Value| json!({"messages": [message]}).to_string();
    let chat = "POST /v1/chat/completions";
    let text = "POST /v1/completions";
    for (route, body, status, param, wanted) in [
        (chat, String::new(), 400, "", "not JSON"),
        (chat, "{\"messages\": [".into(), 400, "", "not JSON"),
        (chat, "[1]".into(), 400, "", "must be a JSON object"),
        (chat, "{}".into(), 400, "messages", "`messages` is missing"),
        (
            chat,
            "{\"messages\": []}".into(),
            400,
            "messages",
            "at least one",
        ),
        (chat, with("foo", json!(1)), 400, "foo", "no field `foo`"),
        (
            chat,
            with("tools", json!([{"type": "function"}])),
            400,
            "tools",
            "`tools[0]` has no `function`",
        ),
        (
            chat,
            with("logit_bias", json!({"5": -101})),
            400,
            "logit_bias",
            "the bias of token 5 is -101; it must be from -100 to 100",
        ),
        (
            chat,
            with("logit_bias", json!({"99999": 1})),
            400,
            "logit_bias",
            "token 99999 is not in the vocabulary",
        ),
        (
            text,
            json!({"prompt": "Hi", "logit_bias": {"the": 1}}).to_string(),
            400,
            "logit_bias",
            "`logit_bias`: ",
        ),
        (
            chat,
            with("frequency_penalty", json!(2.5)),
            400,
            "frequency_penalty",
            "frequency_penalty is 2.5, which is out of range; it must be from -2 to 2",
        ),
        (
            text,
            json!({"prompt": "Hi", "presence_penalty": -3}).to_string(),
            400,
            "presence_penalty",
            "out of range",
        ),
        (
            chat,
            with("prediction", json!({"type": "content"})),
            400,
            "prediction",
            "not supported",
        ),
        (
            chat,
            with("model", json!("other")),
            404,
            "model",
            "there are llama",
        ),
        (
            chat,
            with("temperature", json!("hot")),
            400,
            "temperature",
            "`temperature`: invalid type",
        ),
        (
            chat,
            with("temperature", json!(-1)),
            400,
            "temperature",
            "out of range",
        ),
        (chat, with("top_p", json!(0)), 400, "top_p", "out of range"),
        (chat, with("n", json!(0)), 400, "n", "from 1 to 128"),
        (
            chat,
            with("stop", json!(5)),
            400,
            "stop",
            "a string or a list",
        ),
        (
            chat,
            with("top_logprobs", json!(2)),
            400,
            "top_logprobs",
            "needs `logprobs",
        ),
        (
            chat,
            with("stream_options", json!({"x": true})),
            400,
            "stream_options",
            "`stream_options`: `x` is true",
        ),
        (
            chat,
            message(json!({"role": "function", "content": "x"})),
            400,
            "messages[0]",
            "use system, user, assistant or tool",
        ),
        (
            chat,
            message(json!({"role": "user", "content": [{"type": "image_url"}]})),
            400,
            "messages[0]",
            "only text",
        ),
        (
            chat,
            message(json!({"role": "user", "content": "x", "tool_calls": [1]})),
            400,
            "messages[0]",
            "tool_calls is not supported",
        ),
        (
            chat,
            message(json!({"role": "user", "content": "so ".repeat(100)})),
            400,
            "messages",
            "context holds 64",
        ),
        (
            chat,
            with("user", json!("x".repeat(3000))),
            413,
            "",
            "larger than 2000",
        ),
        (
            text,
            "{\"prompt\": 5}".into(),
            400,
            "prompt",
            "must be a text",
        ),
        (
            text,
            "{\"prompt\": [5, 99999999]}".into(),
            400,
            "",
            "not in the vocabulary",
        ),
        (
            text,
            "{\"prompt\": \"\", \"best_of\": 0}".into(),
            400,
            "best_of",
            "it must be from `n`",
        ),
        (
            "GET /v1/chat/completions",
            String::new(),
            404,
            "",
            "`GET /v1/chat/completions` is not supported",
        ),
        (
            "POST /v1/images",
            "{}".into(),
            404,
            "",
            "`POST /v1/images` is not supported",
        ),
        (
            "POST /v1/embeddings",
            "{\"input\": \"x\"}".into(),
            400,
            "",
            "pooling",
        ),
        (
            "POST /tokenize",
            "{\"text\": \"x\"}".into(),
            400,
            "content",
            "`content` is missing",
        ),
    ] {
        let (found, _, text) = server.ask(&format!("{route} HTTP/1.1"), &body);
        assert_eq!(found, status, "{route} {body}: {text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        let error = &json["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{route} {body}: {message}");
        assert_eq!(
            error["param"].as_str().unwrap_or_default(),
            param,
            "{route} {body}"
        );
        assert!(error["type"].is_string());
    }
    let (status, ..) = server.ask("nonsense", "");
    assert_eq!(status, 400);
    let many: String = (0..500).map(|i| format!("\r\nX-{i}: 1")).collect();
    let (status, ..) = server.ask(&format!("GET /health HTTP/1.1{many}"), "");
    assert_eq!(status, 431);
    // Nothing of it is left.
    assert_eq!(server.metric("siskin_requests_running"), 0.0);
    let found = server.post(
        "/v1/chat/completions",
        &json!({"messages": hello, "max_tokens": 3}),
    );
    assert_eq!(found["usage"]["completion_tokens"], 3);
}

/// The cases that the package is tested with, too.
#[test]
fn requests_in_the_cases_are_answered_or_refused_as_in_the_package() {
    let server = Server::start(4, ServeOptions::default());
    let cases = std::fs::read(fixture("../conformance/requests/requests.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let body = case["request"].to_string();
        let (status, _, text) = server.ask("POST /v1/chat/completions HTTP/1.1", &body);
        // Tools take more tokens than this model has.
        if case["request"]["tools"]
            .as_array()
            .is_some_and(|t| !t.is_empty())
        {
            continue;
        }
        match case["refused"].as_str() {
            None => assert_eq!(status, 200, "{body}: {text}"),
            Some(name) => {
                assert_eq!(status, 400, "{body}: {text}");
                let error: Value = serde_json::from_str(&text).unwrap();
                let message = error["error"]["message"].as_str().unwrap();
                assert!(message.contains(name), "{body}: {message}");
            }
        }
    }
}

#[test]
fn keys_and_origins() {
    let options = ServeOptions {
        api_key: Some("secret".into()),
        cors: Some("https://example.com".into()),
        ..ServeOptions::default()
    };
    let server = Server::start(1, options);
    let models = |key: &str| server.ask(&format!("GET /v1/models HTTP/1.1{key}"), "");
    for key in [
        "",
        "\r\nAuthorization: Bearer secre",
        "\r\nAuthorization: Bearer secretx",
    ] {
        let (status, _, body) = models(key);
        assert_eq!(status, 401, "{key}");
        assert!(body.contains("invalid_api_key"), "{body}");
    }
    let (status, head, _) = models("\r\nAuthorization: Bearer secret");
    assert_eq!(status, 200);
    assert!(
        head.contains("access-control-allow-origin: https://example.com"),
        "{head}"
    );
    let origin = |origin: &str| {
        let head =
            format!("POST /tokenize HTTP/1.1\r\nAuthorization: Bearer secret\r\nOrigin: {origin}");
        server.ask(&head, r#"{"content": "x"}"#)
    };
    assert_eq!(origin("https://example.com").0, 200);
    let (status, _, body) = origin("https://example.org");
    assert_eq!(status, 403);
    assert!(body.contains("--cors https://example.org"), "{body}");
    // A browser asks without the key.
    assert_eq!(server.ask("OPTIONS /v1/models HTTP/1.1", "").0, 204);
    assert_eq!(server.ask("GET /health HTTP/1.1", "").0, 200);
    let open = Server::start(1, ServeOptions::default());
    let page = "GET /v1/models HTTP/1.1\r\nOrigin: http://127.0.0.1:9";
    assert_eq!(open.ask(page, "").0, 403);
    let (status, head, _) = open.ask("GET /v1/models HTTP/1.1", "");
    assert_eq!(status, 200);
    assert!(!head.contains("access-control"), "{head}");
}

/// A request whose answer lasts until the context is full.
fn long(i: usize) -> String {
    json!({"prompt": format!("{i} times"), "stream": true}).to_string()
}

#[test]
fn too_many_requests_are_told_to_wait() {
    let options = ServeOptions {
        max_waiting: 1,
        ..ServeOptions::default()
    };
    let server = Server::start(1, options);
    let n = json!({"prompt": "x", "n": 3, "max_tokens": 2}).to_string();
    let (status, head, body) = server.ask("POST /v1/completions HTTP/1.1", &n);
    assert_eq!(status, 429, "{body}");
    assert!(head.contains("retry-after: 1"), "{head}");
    let two = json!({"prompt": "x", "n": 2, "max_tokens": 2});
    assert_eq!(
        server.post("/v1/completions", &two)["choices"][1]["index"],
        1
    );
}

#[test]
fn clients_that_leave_free_their_sequences() {
    let server = Server::start(3, ServeOptions::default());
    let clients: Vec<TcpStream> = (0..12)
        .map(|i| server.send("POST /v1/completions HTTP/1.1", &long(i)))
        .collect();
    for (i, mut client) in clients.into_iter().enumerate() {
        // Some have read something, some have not; some close one side only.
        if i % 3 == 0 {
            let _ = client.read(&mut [0; 100]);
        }
        if i % 4 == 1 {
            let _ = client.shutdown(std::net::Shutdown::Write);
        }
    }
    let begin = Instant::now();
    // A client that leaves before its request is read is not counted.
    let has_ended = || {
        let (_, _, text) = server.ask("GET /metrics HTTP/1.1", "");
        let number = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
        let sum = |name: &str| -> usize {
            let lines = text.lines().filter(|l| l.starts_with(name));
            lines.filter_map(number).sum()
        };
        let ended = sum("siskin_requests_total");
        assert!(ended <= 12, "{text}");
        ended > 0 && sum("siskin_requests_running") + sum("siskin_requests_waiting") == 0
    };
    while !has_ended() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "requests are left"
        );
        sleep(Duration::from_millis(20));
    }
    let (request, wanted) = prompts().swap_remove(3);
    assert_eq!(
        server.post("/v1/completions", &request)["choices"][0]["text"],
        wanted
    );
}

#[test]
fn several_models_embeddings_and_tokens() {
    let content = Content {
        models: vec![
            ("llama".into(), session("tiny/llama", 2)),
            ("qwen3".into(), session("tiny/qwen3", 2)),
        ],
        ..Content::default()
    };
    let server = Server::with(content, ServeOptions::default());
    let found = server.post(
        "/tokenize",
        &json!({"content": "Hello", "with_pieces": true}),
    );
    let ids: Vec<u64> = found["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["id"].as_u64().unwrap())
        .collect();
    let back = server.post("/detokenize", &json!({"tokens": ids}));
    assert_eq!(back["content"], "Hello");
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let rendered = server.post("/apply-template", &json!({"messages": messages}));
    assert!(rendered["prompt"].as_str().unwrap().contains("Hello"));
    for model in ["llama", "qwen3"] {
        let request = json!({"model": model, "prompt": [1, 2, 3], "max_tokens": 2});
        assert_eq!(server.post("/v1/completions", &request)["model"], model);
    }
    let (_, _, models) = server.ask("GET /v1/models HTTP/1.1", "");
    assert!(models.contains("llama") && models.contains("qwen3"));
}
