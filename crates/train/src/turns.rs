//! Lists of turns: OpenAI's `role` and `content`, ShareGPT's `from` and `value`, and mixtures of the two.

use serde_json::{Map, Value as Json, json};
use siskin_text::Message;

type Result<T> = std::result::Result<T, String>;

/// Keys that mark a turn as learned or not: OpenAI's, and two that other trainers use.
const WEIGHTS: [&str; 3] = ["weight", "train", "training"];

/// The messages of a list of turns, at least one of which is the assistant's.
pub(crate) fn turns(list: &[Json]) -> Result<Vec<Message>> {
    if list.is_empty() {
        return Err("the conversation has no turns".into());
    }
    let turns = list.iter().enumerate();
    turns
        .map(|(i, t)| turn(t).map_err(|what| format!("turn {} {what}", i + 1)))
        .collect()
}

/// The role's name in chat templates.
fn role(name: &str) -> Option<&'static str> {
    Some(match name {
        "system" => "system",
        "developer" => "developer",
        "user" | "human" => "user",
        "assistant" | "gpt" | "model" | "bot" | "chatgpt" | "ai" | "function_call" => "assistant",
        "tool" | "function" | "observation" | "tool_response" | "function_response" => "tool",
        "ipython" => "ipython",
        _ => return None,
    })
}

/// An error continues a sentence that begins with the turn.
fn turn(json: &Json) -> Result<Message> {
    let mut turn = json
        .as_object()
        .ok_or("is not an object with a `role` and a `content`")?
        .clone();
    // Tables have a cell for each key, empty if the key is absent.
    turn.retain(|key, value| !value.is_null() || key == "content");
    let name = one_of(&mut turn, "role", "from")?;
    let name = match &name {
        Some(Json::String(name)) => name.as_str(),
        Some(_) => return Err("has a `role` that is not a string".into()),
        None => return Err("has no `role`".into()),
    };
    let role = role(name).ok_or_else(|| {
        format!("has the unknown role `{name}`; known roles are system, developer, user, assistant and tool")
    })?;
    let mut content = one_of(&mut turn, "content", "value")?;
    if name == "function_call" {
        let call = content.take().unwrap_or_default();
        let call = match &call {
            Json::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        };
        if !call["name"].is_string() {
            return Err("is a function call that is not a JSON object with a `name`".into());
        }
        turn.insert(
            "tool_calls".into(),
            json!([{"type": "function", "function": call}]),
        );
        content = Some("".into());
    }
    tool_calls(&mut turn)?;
    let says_else = ["tool_calls", "reasoning_content", "function_call"]
        .iter()
        .any(|key| turn.contains_key(*key));
    let content = match content {
        Some(Json::String(text)) => Some(text.into()),
        Some(Json::Array(parts)) => Some(text_of(&parts)?.into()),
        Some(Json::Null) if says_else => Some(Json::Null),
        None if says_else => None,
        Some(Json::Null) | None => return Err("has no `content`".into()),
        Some(_) => return Err("has a `content` that is not a string".into()),
    };
    let is_learned = weight(&mut turn)?;
    let mut message = Map::from_iter([("role".to_string(), Json::from(role))]);
    message.extend(content.map(|c| ("content".to_string(), c)));
    message.append(&mut turn);
    match is_learned {
        Some(true) if role != "assistant" => {
            return Err(format!(
                "is marked as learned, but its role is `{role}`; only the assistant's turns are learned"
            ));
        }
        Some(false) if role == "assistant" => {
            message.insert("weight".into(), 0.into());
        }
        _ => (),
    }
    Ok(Message(message))
}

/// A field with two names, of which a turn may use one.
fn one_of(turn: &mut Map<String, Json>, name: &str, other: &str) -> Result<Option<Json>> {
    match (turn.remove(name), turn.remove(other)) {
        (Some(a), Some(b)) if a != b => Err(format!("has both `{name}` and `{other}`")),
        (a, b) => Ok(a.or(b)),
    }
}

/// The text of a content given in parts.
fn text_of(parts: &[Json]) -> Result<String> {
    let text = |part: &Json| match (part, &part["type"], &part["text"]) {
        (Json::String(text), ..) => Ok(text.clone()),
        (_, Json::Null, Json::String(text)) => Ok(text.clone()),
        (_, Json::String(kind), Json::String(text)) if kind.ends_with("text") => Ok(text.clone()),
        (_, Json::String(kind), _) => Err(format!(
            "has a part of type `{kind}`; only text can be learned from"
        )),
        _ => Err("has a part that is not text".into()),
    };
    parts.iter().map(text).collect()
}

/// As a list; tables may have it as a JSON string.
fn tool_calls(turn: &mut Map<String, Json>) -> Result<()> {
    let Some(calls) = turn.remove("tool_calls") else {
        return Ok(());
    };
    let calls = match calls {
        Json::String(text) if text.trim().is_empty() => return Ok(()),
        Json::String(text) => serde_json::from_str(&text)
            .map_err(|e| format!("has `tool_calls` that are not valid JSON ({e})"))?,
        other => other,
    };
    match calls {
        Json::Array(calls) if calls.is_empty() => Ok(()),
        Json::Array(calls) if calls.iter().all(Json::is_object) => {
            turn.insert("tool_calls".into(), calls.into());
            Ok(())
        }
        _ => Err("has `tool_calls` that are not a list of calls".into()),
    }
}

/// Whether the turn is marked as learned or as not learned. Removes the keys that say so.
fn weight(turn: &mut Map<String, Json>) -> Result<Option<bool>> {
    let mut said = None;
    for key in WEIGHTS {
        let Some(value) = turn.remove(key) else {
            continue;
        };
        let is_learned = match value.as_f64() {
            Some(1.0) => true,
            Some(0.0) => false,
            _ => match value.as_bool() {
                Some(is_learned) => is_learned,
                None => {
                    return Err(format!(
                        "has the {key} {value}; use 1 (learned) or 0 (not learned)"
                    ));
                }
            },
        };
        if said.is_some_and(|s| s != is_learned) {
            return Err(format!(
                "is marked as learned by one of its keys and as not learned by `{key}`"
            ));
        }
        said = Some(is_learned);
    }
    Ok(said)
}

/// Removes the key that marks a turn as learned or not, so that no template sees it.
pub(crate) fn take_weight(message: &mut Message) -> Result<bool> {
    Ok(weight(&mut message.0)?.unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Json) -> Result<Json> {
        turn(&json).map(|m| Json::Object(m.0))
    }

    #[test]
    fn names_parts_and_weights() {
        for (given, wanted) in [
            (
                json!({"from": "gpt", "value": "a"}),
                json!({"role": "assistant", "content": "a"}),
            ),
            (
                json!({"role": "model", "value": "a", "weight": 1.0, "name": null}),
                json!({"role": "assistant", "content": "a"}),
            ),
            (
                json!({"role": "assistant", "content": "a", "train": false}),
                json!({"role": "assistant", "content": "a", "weight": 0}),
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "a"}, "b"], "train": false}),
                json!({"role": "user", "content": "ab"}),
            ),
            (
                json!({"from": "observation", "value": "rain"}),
                json!({"role": "tool", "content": "rain"}),
            ),
            (
                json!({"role": "assistant", "content": null, "tool_calls": "[{\"function\": {}}]"}),
                json!({"role": "assistant", "content": null, "tool_calls": [{"function": {}}]}),
            ),
            (
                json!({"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}),
                json!({"role": "assistant", "content": "",
                    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}),
            ),
        ] {
            assert_eq!(read(given.clone()).unwrap(), wanted, "{given}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (given, wanted) in [
            (json!("a"), "not an object"),
            (json!({"content": "a"}), "no `role`"),
            (json!({"role": "narrator", "content": "a"}), "`narrator`"),
            (json!({"role": "user"}), "no `content`"),
            (json!({"role": "user", "content": null}), "no `content`"),
            (json!({"role": "user", "content": 4}), "not a string"),
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
                "`image_url`",
            ),
            (
                json!({"role": "assistant", "content": "a", "weight": 0.5}),
                "weight 0.5",
            ),
            (
                json!({"role": "user", "content": "a", "train": true}),
                "role is `user`",
            ),
            (
                json!({"role": "assistant", "content": "a", "tool_calls": "[oops"}),
                "not valid JSON",
            ),
            (
                json!({"role": "user", "from": "gpt", "content": "a"}),
                "both",
            ),
        ] {
            let error = read(given.clone()).unwrap_err();
            assert!(error.contains(wanted), "{given}: {error}");
        }
    }
}
