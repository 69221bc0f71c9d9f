//! Messages as OpenAI's API has them, made into those that templates read.

use serde_json::{Map, Value as Json, json};

use super::format::AnswerFormat;
use crate::Message;

/// Messages and tools for a template.
pub(crate) struct Prepared {
    pub messages: Vec<Message>,
    /// Empty if the template does not know them: the messages then say it.
    pub tools: Vec<Json>,
}

/// Arguments become objects, which most templates expect; results get the name of their tool; and where the template does
/// not know tools, all of it becomes text.
pub(crate) fn prepared(messages: &[Message], tools: &[Json], format: &AnswerFormat) -> Prepared {
    let mut all = messages.to_vec();
    let mut names = Map::new();
    for message in &mut all {
        for call in calls_of(message) {
            let id = call["id"].as_str().unwrap_or_default().to_string();
            let Some(Json::Object(function)) = call.get_mut("function") else {
                continue;
            };
            if let Some(name) = function.get("name") {
                names.insert(id, name.clone());
            }
            let arguments = function.get("arguments").and_then(Json::as_str);
            let arguments = arguments.and_then(|text| serde_json::from_str(text).ok());
            if let Some(arguments @ Json::Object(_)) = arguments {
                function.insert("arguments".into(), arguments);
            }
        }
        if message.role() == "tool" && !message.0.contains_key("name") {
            let id = message.0.get("tool_call_id").and_then(Json::as_str);
            if let Some(name) = id.and_then(|id| names.get(id)) {
                message.0.insert("name".into(), name.clone());
            }
        }
    }
    if format.knows_tools {
        return Prepared {
            messages: all,
            tools: tools.into(),
        };
    }
    Prepared {
        messages: as_text(all, tools),
        tools: vec![],
    }
}

fn calls_of(message: &mut Message) -> impl Iterator<Item = &mut Json> {
    let calls = message.0.get_mut("tool_calls").and_then(Json::as_array_mut);
    calls.into_iter().flatten()
}

/// How tools are described to a model whose template has no place for them.
fn description(tools: &[Json]) -> String {
    let lines: Vec<String> = tools.iter().map(Json::to_string).collect();
    format!(
        "You may call these functions, each given as JSON:\n<tools>\n{}\n</tools>\n\
         To call one, answer with a JSON object between tags:\n\
         <tool_call>\n{{\"name\": <name>, \"arguments\": <arguments as JSON>}}\n</tool_call>",
        lines.join("\n")
    )
}

fn as_text(messages: Vec<Message>, tools: &[Json]) -> Vec<Message> {
    let mut all: Vec<Message> = vec![];
    for mut message in messages {
        let calls: Vec<String> = calls_of(&mut message)
            .map(|call| {
                let function = &call["function"];
                let call = json!({"name": function["name"], "arguments": function["arguments"]});
                format!("<tool_call>\n{call}\n</tool_call>")
            })
            .collect();
        message.0.remove("tool_calls");
        if !calls.is_empty() {
            let said = message.content();
            let calls = calls.join("\n");
            let text = match said {
                "" => calls,
                said => format!("{said}\n{calls}"),
            };
            message.0.insert("content".into(), text.into());
        }
        if message.role() != "tool" {
            all.push(message);
            continue;
        }
        // Results of one turn are one message.
        let result = format!("<tool_response>\n{}\n</tool_response>", message.content());
        match all.last_mut() {
            Some(last) if last.content().starts_with("<tool_response>") => {
                let text = format!("{}\n{result}", last.content());
                last.0.insert("content".into(), text.into());
            }
            _ => all.push(Message::new("user", &result)),
        }
    }
    if tools.is_empty() {
        return all;
    }
    let text = description(tools);
    match all.first_mut() {
        Some(first) if first.role() == "system" => {
            let text = format!("{}\n\n{text}", first.content());
            first.0.insert("content".into(), text.into());
        }
        _ => all.insert(0, Message::new("system", &text)),
    }
    all
}

/// The system message's text as the beginning of the next message.
pub(crate) fn without_system(messages: &[Message]) -> Vec<Message> {
    match messages {
        [system, next, rest @ ..] if system.role() == "system" => {
            let mut next = next.clone();
            let text = format!("{}\n\n{}", system.content(), next.content());
            next.0.insert("content".into(), text.into());
            std::iter::once(next).chain(rest.iter().cloned()).collect()
        }
        all => all.to_vec(),
    }
}
