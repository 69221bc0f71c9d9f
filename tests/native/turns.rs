//! Answers that call a tool or have a shape, and reason before, in the ways of several models: random weights say anything.

use std::path::Path;

use serde_json::{Value, json};
use siskin_engine::Session;
use siskin_grammar::{Calls, Grammars};
use siskin_text::Rendered;

use crate::serve_tools::{CHAT, checked, request, server_of, session_of, tools};
use crate::server::Server;

/// A template of this text, with special tokens in place of the last ones.
fn changed(folder: &Path, template: &str, special: &[&str]) {
    let config = json!({"eos_token": "<|im_end|>", "chat_template": template});
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    add_special(folder, special);
}

fn server(template: &str, special: &[&str]) -> Server {
    server_of(&|folder| changed(folder, template, special))
}

fn add_special(folder: &Path, special: &[&str]) {
    let file = folder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let model = &mut tokenizer["model"];
    let merges = model["merges"].as_array_mut().unwrap();
    merges.truncate(merges.len() - special.len());
    let vocab = model["vocab"].as_object_mut().unwrap();
    let first = vocab.len() - special.len();
    vocab.retain(|_, id| id.as_u64().unwrap() < first as u64);
    let mut added = vec![];
    for (i, content) in special.iter().enumerate() {
        vocab.insert((*content).into(), (first + i).into());
        added.push(
            json!({"id": first + i, "content": content, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false}),
        );
    }
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .extend(added);
    std::fs::write(&file, tokenizer.to_string()).unwrap();
}

/// What 12 answers were: their contents, the names of what they called, and how many reasoned.
#[derive(Debug, Default)]
struct Said {
    contents: Vec<String>,
    calls: Vec<String>,
    reasoned: usize,
}

fn said(server: &Server, more: &Value) -> Said {
    let mut said = Said::default();
    for seed in 0..12 {
        let mut request = request(more);
        request["seed"] = seed.into();
        let found = server.post(CHAT, &request);
        let choice = &found["choices"][0];
        let message = &choice["message"];
        said.reasoned += usize::from(message["reasoning_content"].is_string());
        let calls = message["tool_calls"].as_array();
        let calls: Vec<String> = calls.into_iter().flatten().map(checked).collect();
        // Random weights may think or talk for ever.
        if choice["finish_reason"] != "length" {
            let reason = if calls.is_empty() {
                "stop"
            } else {
                "tool_calls"
            };
            assert_eq!(choice["finish_reason"], reason, "{found}");
            if calls.is_empty() {
                let content = message["content"].as_str();
                said.contents
                    .push(content.unwrap_or_else(|| panic!("{found}")).into());
            }
        }
        said.calls.extend(calls);
    }
    said
}

const HERMES: &str = "{# tools <tool_call> #}a";
const LLAMA: &str = "{# tools #}a";
const CHANNELS: &str = "{# tools <|channel|> <|message|> #}a";
/// All of Harmony's: without the last two, `<|end|>` ends the answer.
const MARKS: [&str; 7] = [
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|start|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
];

#[test]
fn an_answer_calls_a_tool_or_has_the_shape() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": false, "x-guidance": {"whitespace_flexible": false}});
    let shape = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}});
    for (template, special) in [(HERMES, &[][..]), (LLAMA, &[]), (CHANNELS, &MARKS)] {
        let server = server(template, special);
        let said = said(&server, &shape);
        for content in &said.contents {
            let value: Value = serde_json::from_str(content).unwrap();
            assert!(value["a"].is_boolean(), "{template}: {content}");
        }
        assert!(
            !said.contents.is_empty() && !said.calls.is_empty(),
            "{template}: {said:?}"
        );
        // Where a call is required, there is no other answer.
        let mut required = shape.clone();
        required["tool_choice"] = "required".into();
        let said = self::said(&server, &required);
        assert!(
            said.contents.is_empty() && !said.calls.is_empty(),
            "{template}: {said:?}"
        );
    }
}

/// Whether the answer of a turn may be this text, with special tokens spelled out; if not, up to where.
fn may_be(session: &Session, calls: &Calls, answer: &str) -> Result<(), String> {
    let text = &session.text;
    let grammars = Grammars::new(text.clone()).unwrap();
    let source = calls.source(text).unwrap();
    let mut following = grammars.compile_source(&source).unwrap().begin().unwrap();
    let rendered = Rendered {
        text: answer.into(),
        plain: vec![],
        generation: None,
    };
    let tokens = text.encode_rendered(&rendered).unwrap();
    let end = text.id_of("<|im_end|>").unwrap();
    let mut before = String::new();
    for token in tokens.iter().map(|t| t.id).chain([end]) {
        let allowed = following.allowed().map_err(|e| format!("{before}: {e}"))?;
        if (allowed[token as usize / 32] >> (token % 32)) & 1 == 0 {
            return Err(format!("{before}: no token {token}"));
        }
        if token != end {
            before.push_str(&text.decode(&[token]));
            following.add(token, false).unwrap();
        }
    }
    Ok(())
}

#[test]
fn what_begins_as_a_call_is_one_without_marks_and_in_channels() {
    let session = |template: &str, special: &[&str]| {
        session_of(&|folder: &Path| changed(folder, template, special))
    };
    let calls = |session: &Session, is_required| Calls {
        tools: tools().as_array().unwrap().clone(),
        format: session.text.answer_format(&[]).unwrap(),
        end_of_reasoning: None,
        is_required,
        are_several: true,
        shape: None,
    };
    let llama = session(LLAMA, &[]);
    let call = r#"{"name": "switch", "parameters": {"on": true}}"#;
    for (answer, may, may_if_required) in [
        ("It is on.", true, false),
        (call, true, true),
        (r#"{"name": "Ada", "age": 36}"#, true, false),
        (r#"{"on": true}"#, true, false),
        (
            r#"{"name": "switch", "parameters": {"on": 1}}"#,
            false,
            false,
        ),
        (r#"{"name": "switch", "age": 36}"#, false, false),
        (&format!("{call}\n{call}"), true, true),
        (&format!("{call} Done."), false, false),
    ] {
        for (is_required, may) in [(false, may), (true, may_if_required)] {
            let found = may_be(&llama, &calls(&llama, is_required), answer);
            assert_eq!(found.is_ok(), may, "{answer}: {found:?}");
        }
    }

    let channels = session(CHANNELS, &MARKS);
    let analysis = "<|channel|>analysis<|message|>Hm, <on>?<|end|><|start|>assistant";
    let call =
        "<|channel|>commentary to=functions.switch <|constrain|>json<|message|>{\"on\": true}";
    let said = "<|channel|>final<|message|>It is on.";
    for (answer, may, may_if_required) in [
        (said.into(), true, false),
        (call.into(), true, true),
        (format!("{analysis}{said}"), true, false),
        (format!("{analysis}{analysis}{call}"), true, true),
        (analysis.into(), false, false),
        ("It is on.".into(), false, false),
        (call.replace("true", "1"), false, false),
        (call.replace("switch", "cat"), false, false),
    ] {
        for (is_required, may) in [(false, may), (true, may_if_required)] {
            let found = may_be(&channels, &calls(&channels, is_required), &answer);
            assert_eq!(found.is_ok(), may, "{answer}: {found:?}");
        }
    }
}

#[test]
fn a_shape_comes_after_the_reasoning_that_the_prompt_has_begun() {
    let end = "</think>";
    let thinking = server("{# <think> </think> #}a<think>", &[end]);
    let more = json!({"tools": [], "regex": "[ab]{3}", "max_tokens": 400});
    let said = said(&thinking, &more);
    assert!(!said.contents.is_empty() && said.reasoned > 6, "{said:?}");
    assert!(said.contents.iter().all(|c| c.len() == 3), "{said:?}");

    // Where it has not, the answer is the shape.
    let server = server("{# <think> </think> #}a", &[end]);
    let said = self::said(&server, &more);
    assert!(said.contents.len() == 12 && said.reasoned == 0, "{said:?}");
    assert!(said.contents.iter().all(|c| c.len() == 3), "{said:?}");
}
