//! Messages of `/v1/chat/completions`.

use serde_json::Value;
use siskin_text::Message;

use crate::error::{ApiError, Result};
use crate::tools::calls_of_message;

/// Fields of a message that are passed to templates.
const MESSAGE_FIELDS: &[&str] = &["name", "reasoning_content"];

pub fn message_of(message: Value, i: usize) -> Result<Message> {
    let at = format!("messages[{i}]");
    let wrong = |message: String| ApiError::field(&at, message);
    let Value::Object(mut fields) = message else {
        return Err(wrong(format!("{at} is not an object")));
    };
    fields.retain(|_, value| !value.is_null());
    let role = fields.remove("role").unwrap_or_default();
    let role = match role.as_str() {
        // Its newer name.
        Some("developer") => "system",
        Some(role @ ("system" | "user" | "assistant" | "tool")) => role,
        _ => {
            let message = format!("{at}.role is {role}; use system, user, assistant or tool");
            return Err(wrong(message));
        }
    };
    let calls = match role {
        "assistant" => fields.remove("tool_calls"),
        _ => None,
    };
    let calls = calls.filter(|calls| !calls.as_array().is_some_and(Vec::is_empty));
    let content = match fields.remove("content") {
        Some(Value::String(text)) => Some(text),
        Some(Value::Array(parts)) => Some(text_of(&parts, &at)?),
        None if calls.is_some() => None,
        _ => {
            let message = format!("{at}.content must be text, or a list of text parts");
            return Err(wrong(message));
        }
    };
    let mut out = Message::new(role, content.as_deref().unwrap_or_default());
    if content.is_none() {
        out.0.remove("content");
    }
    if let Some(calls) = calls {
        out.0
            .insert("tool_calls".into(), calls_of_message(calls, &at)?);
    }
    if role == "tool" {
        let Some(id @ Value::String(_)) = fields.remove("tool_call_id") else {
            return Err(wrong(format!("{at}.tool_call_id is missing")));
        };
        out.0.insert("tool_call_id".into(), id);
    }
    for (name, value) in fields {
        if MESSAGE_FIELDS.contains(&name.as_str()) {
            out.0.insert(name, value);
        } else if !value.as_array().is_some_and(Vec::is_empty) {
            return Err(wrong(format!("{at}.{name} is not supported")));
        }
    }
    Ok(out)
}

fn text_of(parts: &[Value], at: &str) -> Result<String> {
    let mut text = String::new();
    for (j, part) in parts.iter().enumerate() {
        match (&part["type"], part["text"].as_str()) {
            (Value::String(kind), Some(part)) if kind == "text" => text.push_str(part),
            (kind, _) => {
                let message = format!("{at}.content[{j}] is {kind}; only text is supported");
                return Err(ApiError::field(at, message));
            }
        }
    }
    Ok(text)
}
