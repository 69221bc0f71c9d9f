//! The input of `/v1/responses`: a text, or a list of messages.

use serde_json::{Map, Value};
use siskin_text::Message;

use crate::error::{ApiError, Result};
use crate::requests::{Conversation, Fields};

/// Fields of messages that a client sends back as it got them.
const WITHOUT_EFFECT: &[&str] = &["type", "id", "status", "phase"];

pub fn conversation(fields: &mut Fields, instructions: Option<&str>) -> Result<Conversation> {
    let mut messages: Vec<Message> = vec![];
    messages.extend(instructions.map(|text| Message::new("system", text)));
    match fields.need::<Value>("input")? {
        Value::String(text) => messages.push(Message::new("user", &text)),
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.into_iter().enumerate() {
                messages.push(message_of(item, i)?);
            }
        }
        _ => {
            let message = "`input` must be a text or a list of at least one message";
            return Err(ApiError::field("input", message));
        }
    }
    Conversation::new("input", messages, fields)
}

fn message_of(item: Value, i: usize) -> Result<Message> {
    let at = format!("input[{i}]");
    let wrong = |message: String| ApiError::field(&at, message);
    let Value::Object(mut item) = item else {
        return Err(wrong(format!("{at} is not an object")));
    };
    if let Some(kind) = item.get("type").filter(|kind| *kind != "message") {
        let message = format!("{at}.type is {kind}; only messages are supported");
        return Err(wrong(message));
    }
    let role = item.remove("role").unwrap_or_default();
    let role = match role.as_str() {
        // Its newer name.
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant")) => role,
        _ => {
            let message = format!("{at}.role is {role}; use system, developer, user or assistant");
            return Err(wrong(message));
        }
    };
    let content = match item.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => text_of(&parts, &at)?,
        _ => {
            let message = format!("{at}.content must be text, or a list of text parts");
            return Err(wrong(message));
        }
    };
    refuse_others(item, &at)?;
    Ok(Message::new(role, &content))
}

fn text_of(parts: &[Value], at: &str) -> Result<String> {
    let mut text = String::new();
    for (j, part) in parts.iter().enumerate() {
        let kind = &part["type"];
        match part["text"].as_str() {
            Some(part) if kind == "input_text" || kind == "output_text" => text.push_str(part),
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
    let mut others = item
        .into_iter()
        .filter(|(name, value)| !value.is_null() && !WITHOUT_EFFECT.contains(&name.as_str()));
    match others.next() {
        Some((name, _)) => {
            let message = format!("{at}.{name} is not supported");
            Err(ApiError::field(at, message))
        }
        None => Ok(()),
    }
}
