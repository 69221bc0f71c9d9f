//! Answers taken apart: what chat templates render as calls is read back, in pieces of any length.

use serde_json::Value;
use siskin_text::{AnswerFormat, AnswerParser, Part};

/// Whose calls are not known, so that they stay text.
const UNKNOWN: &[&str] = &[
    "GigaChat3-10B-A1.8B",
    "Kimi-K3",
    "MiniMax-M3",
    "muse-glimmer",
    "tencent-Hy3",
];

#[derive(Debug, Default, PartialEq)]
struct Parts {
    content: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
}

fn parse(
    format: &AnswerFormat,
    prompt: &str,
    tools: &[Value],
    answer: &str,
    length: usize,
) -> Parts {
    let mut parser = AnswerParser::new(format, prompt, tools);
    let characters: Vec<char> = answer.chars().collect();
    let mut all = vec![];
    for piece in characters.chunks(length) {
        all.extend(parser.push(&piece.iter().collect::<String>()));
    }
    all.extend(parser.finish());
    let mut parts = Parts::default();
    for part in all {
        match part {
            Part::Content(text) => parts.content += &text,
            Part::Reasoning(text) => parts.reasoning += &text,
            Part::Call(call) => {
                let arguments = serde_json::from_str(&call.arguments).unwrap();
                parts.calls.push((call.name, arguments));
            }
        }
    }
    parts
}

/// By `tests/fixtures/generate_calls.py`.
fn recorded() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/calls.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn format_of(case: &Value) -> AnswerFormat {
    let signs = case["signs"].as_array().unwrap();
    let signs: Vec<&str> = signs.iter().filter_map(Value::as_str).collect();
    AnswerFormat::of(&signs.join(" "))
}

#[test]
fn what_templates_render_is_read_back() {
    let recorded = recorded();
    let tools = recorded["tools"].as_array().unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    let mut read = 0;
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let format = format_of(case);
        let answer = case["answer"].as_str().unwrap();
        let mut wanted: Vec<(String, Value)> =
            serde_json::from_value(case["calls"].clone()).unwrap();
        // Some write the first one only.
        wanted.retain(|(name, _)| answer.contains(name.as_str()));
        let parts = parse(&format, "", tools, answer, usize::MAX);
        for length in [1, 3, 7] {
            assert_eq!(parse(&format, "", tools, answer, length), parts, "{name}");
        }
        // Without a place for tools, they are described in a way of our own.
        if !format.knows_tools() || UNKNOWN.contains(&name) {
            assert!(
                parts.calls.is_empty() && !parts.content.is_empty(),
                "{name}: {parts:?}"
            );
            continue;
        }
        assert_eq!(parts.calls, wanted, "{name}: {answer}");
        let said = parts.content.contains("Let me see.") || parts.reasoning.contains("Let me see.");
        assert_eq!(said, answer.contains("Let me see."), "{name}: {parts:?}");
        read += 1;
    }
    assert!(read >= 80, "only {read} of {}", cases.len());
}

/// A call as the format says that it can be written is read back, too: grammars make models write it.
#[test]
fn what_grammars_write_is_read_back() {
    let recorded = recorded();
    let tools = recorded["tools"].as_array().unwrap();
    let mut formats = vec![AnswerFormat::of(""), AnswerFormat::of("tools")];
    for case in recorded["cases"].as_array().unwrap() {
        formats.push(format_of(case));
    }
    for format in formats {
        let arguments = "{\"city\": \"a \\\"b\\\" {\", \"days\": 2}";
        let [before, after] = format.call("get_weather");
        let answer = format!("{before}{arguments}{after}");
        let parts = parse(&format, "", tools, &answer, 2);
        let wanted = (
            "get_weather".to_string(),
            serde_json::from_str(arguments).unwrap(),
        );
        assert_eq!(parts.calls, [wanted], "{answer}");
    }
}

#[test]
fn reasoning_and_text_are_told_apart() {
    let format = AnswerFormat::of("tools <think> <tool_call>");
    let of = |prompt, answer: &str| {
        let parts = parse(&format, prompt, &[], answer, 2);
        (parts.reasoning, parts.content)
    };
    let pair = |reasoning: &str, content: &str| (reasoning.to_string(), content.to_string());
    assert_eq!(
        of("", "<think>\nSo.\n</think>\n\n Yes. \n"),
        pair("So.", "Yes. \n")
    );
    assert_eq!(
        of("…<think>\n", "So.\n</think>\n\nYes."),
        pair("So.", "Yes.")
    );
    assert_eq!(of("<think>\n\n</think>\n\n", "Yes."), pair("", "Yes."));
    assert_eq!(of("", "<think>So"), pair("So", ""));
    assert_eq!(of("", " a <b> c\n"), pair("", " a <b> c\n"));
    let harmony = AnswerFormat::of("tools <|channel|> <|message|>");
    let answer = "<|channel|>analysis<|message|>Hm. <|end|><|start|>assistant<|channel|>final<|message|>Yes < no.<|return|>";
    let parts = parse(&harmony, "", &[], answer, 3);
    assert_eq!((parts.reasoning, parts.content), pair("Hm. ", "Yes < no."));
    assert_eq!(
        parse(&harmony, "", &[], "{\"a\": 1}", 3).content,
        "{\"a\": 1}"
    );
}

#[test]
fn what_only_looks_like_a_call_is_text() {
    let tools = [serde_json::json!({"type": "function", "function": {"name": "add"}})];
    let hermes = AnswerFormat::of("tools <tool_call>");
    for answer in [
        "<tool_call>\nnot JSON\n</tool_call>",
        "<tool_call>{\"name\": 3}</tool_call>",
        "{\"name\": \"other\", \"arguments\": {}}",
        "[1, 2] is a list",
        "a <tool_cal",
        "<tool_call>",
        "{\"name\": \"add\", \"arguments\": [1]}",
    ] {
        let parts = parse(&hermes, "", &tools, answer, 3);
        assert_eq!((parts.content.trim(), parts.calls.len()), (answer, 0));
    }
    // Without tools, nothing is a call.
    let call = "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>";
    assert_eq!(parse(&hermes, "", &[], call, 4).content, call);
    let bare = "```json\n{\"name\": \"add\", \"parameters\": {\"a\": 1}}\n```";
    assert_eq!(parse(&hermes, "", &tools, bare, 4).calls.len(), 1);
    // As Llama calls the tools that it has learned.
    let llama = AnswerFormat::of("tools");
    let python = parse(
        &llama,
        "",
        &tools,
        "<|python_tag|>add.call(a=\"x\", b=[1, None])",
        5,
    );
    let wanted = serde_json::json!({"a": "x", "b": [1, null]});
    assert_eq!(python.calls, [("add".to_string(), wanted)]);
}
