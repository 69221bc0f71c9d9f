//! The input of `/v1/responses`: a text, or a list of items.

use serde_json::{Map, Value, json};
use siskin_text::Message;

use crate::conversation::Conversation;
use crate::error::{ApiError, Result};
use crate::fields::Fields;

/// Fields of items that a client sends back as it got them.
const WITHOUT_EFFECT: &[&str] = &["type", "id", "status", "phase"];

pub fn conversation(fields: &mut Fields, instructions: Option<&str>) -> Result<Conversation> {
    let mut messages: Vec<Message> = vec![];
    messages.extend(instructions.map(|text| Message::new("system", text)));
    match fields.need::<Value>("input")? {
        Value::String(text) => messages.push(Message::new("user", &text)),
        Value::Array(items) if !items.is_empty() => {
            // What belongs to one answer of the assistant becomes one message.
            let mut is_answer = false;
            for (i, item) in items.into_iter().enumerate() {
                is_answer = add(&mut messages, is_answer, item, i)?;
            }
        }
        _ => {
            let message = "`input` must be a text or a list of at least one message";
            return Err(ApiError::field("input", message));
        }
    }
    Conversation::new("input", messages, fields)
}

/// Adds an item; `is_answer` says whether the last message is an answer of the assistant, which more may belong to.
fn add(messages: &mut Vec<Message>, is_answer: bool, item: Value, i: usize) -> Result<bool> {
    let at = format!("input[{i}]");
    let wrong = |message: String| ApiError::field(&at, message);
    let Value::Object(mut item) = item else {
        return Err(wrong(format!("{at} is not an object")));
    };
    let kind = item.get("type").and_then(Value::as_str);
    let kind = kind.unwrap_or("message").to_string();
    let text = |item: &mut Map<String, Value>, name: &str| match item.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => text_of(&parts, &at),
        _ => Err(wrong(format!(
            "{at}.{name} must be text, or a list of text parts"
        ))),
    };
    match kind.as_str() {
        "message" => {
            let role = item.remove("role").unwrap_or_default();
            let role = match role.as_str() {
                // Its newer name.
                Some("developer") => "system",
                Some(role @ ("system" | "user" | "assistant")) => role,
                _ => {
                    let message =
                        format!("{at}.role is {role}; use system, developer, user or assistant");
                    return Err(wrong(message));
                }
            };
            let content = text(&mut item, "content")?;
            // After what was thought, or called.
            let is_more = is_answer && role == "assistant";
            match messages.last_mut().filter(|m| is_more && has_no_content(m)) {
                Some(message) => drop(message.0.insert("content".into(), content.into())),
                None => messages.push(Message::new(role, &content)),
            }
            refuse_others(item, &at)?;
            Ok(role == "assistant")
        }
        "reasoning" => {
            let thought = match item.contains_key("content") {
                true => text(&mut item, "content")?,
                false => String::new(),
            };
            let message = answer(messages, false);
            message.insert("reasoning_content".into(), thought.into());
            refuse_others(item, &at)?;
            Ok(true)
        }
        "function_call" => {
            let id = text(&mut item, "call_id")?;
            let function = json!({"name": text(&mut item, "name")?, "arguments": text(&mut item, "arguments")?});
            let call = json!({"id": id, "type": "function", "function": function});
            let message = answer(messages, is_answer);
            if message.get("content").is_some_and(|c| c == "") {
                message.remove("content");
            }
            let calls = message.entry("tool_calls").or_insert_with(|| json!([]));
            calls
                .as_array_mut()
                .into_iter()
                .for_each(|calls| calls.push(call.clone()));
            refuse_others(item, &at)?;
            Ok(true)
        }
        "function_call_output" => {
            let id = text(&mut item, "call_id")?;
            let mut message = Message::new("tool", &text(&mut item, "output")?);
            message.0.insert("tool_call_id".into(), id.into());
            messages.push(message);
            refuse_others(item, &at)?;
            Ok(false)
        }
        kind => Err(wrong(format!(
            "{at}.type is {kind:?}; only message, reasoning, function_call and function_call_output are supported"
        ))),
    }
}

fn has_no_content(message: &Message) -> bool {
    message.0.get("content").is_none_or(|c| c == "")
}

/// The message of the assistant that an item belongs to: the last one, or a new one.
fn answer(messages: &mut Vec<Message>, is_last: bool) -> &mut Map<String, Value> {
    if !is_last || messages.is_empty() {
        messages.push(Message::new("assistant", ""));
    }
    let last = messages.len() - 1;
    &mut messages[last].0
}

fn text_of(parts: &[Value], at: &str) -> Result<String> {
    const KINDS: [&str; 3] = ["input_text", "output_text", "reasoning_text"];
    let mut text = String::new();
    for (j, part) in parts.iter().enumerate() {
        let kind = &part["type"];
        match part["text"].as_str() {
            Some(part) if KINDS.iter().any(|k| kind == k) => text.push_str(part),
            _ => {
                let message = format!(
                    "{at}.content[{j}] is {kind}; only input_text and output_text are supported"
                );
                return Err(ApiError::field(at, message));
            }
        }
    }
    Ok(text)
}

fn refuse_others(item: Map<String, Value>, at: &str) -> Result<()> {
    let says_nothing =
        |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let mut others = item
        .into_iter()
        .filter(|(name, value)| !says_nothing(value) && !WITHOUT_EFFECT.contains(&name.as_str()));
    match others.next() {
        Some((name, _)) => {
            let message = format!("{at}.{name} is not supported");
            Err(ApiError::field(at, message))
        }
        None => Ok(()),
    }
}
