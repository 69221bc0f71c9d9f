//! Tools of a request: `tools`, `tool_choice`, `parallel_tool_calls`, and what of them stands in messages.

use serde_json::{Map, Value, json};
use siskin_engine::new_seed;
use siskin_text::{ToolCall, is_tool_name, tool_names};

use crate::error::{ApiError, Result};
use crate::fields::Fields;

/// Whether an answer calls a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// As the model decides.
    #[default]
    Auto,
    /// It does, any of the tools.
    Required,
    /// It does not: it is not told of them.
    None,
    /// It calls this one.
    Named(String),
}

/// The tools that an answer may call.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// As the client describes them; none if none may be called.
    pub all: Vec<Value>,
    pub choice: Choice,
    /// Whether there may be several calls in one answer.
    pub are_parallel: bool,
}

impl Tools {
    /// As chat completions have them.
    pub fn of(fields: &mut Fields) -> Result<Self> {
        Self::read(fields, |tool| tool)
    }

    /// As responses have them: what describes a function stands beside its type.
    pub fn of_response(fields: &mut Fields) -> Result<Self> {
        Self::read(fields, |tool| match tool {
            Value::Object(mut function) => {
                let kind = function.get("type").cloned();
                function.retain(|key, _| key != "type");
                json!({"type": kind, "function": function})
            }
            other => other,
        })
    }

    fn read(fields: &mut Fields, in_chat: fn(Value) -> Value) -> Result<Self> {
        let given: Vec<Value> = fields.take("tools")?.unwrap_or_default();
        let all = given.into_iter().map(in_chat).enumerate();
        let all = all.map(|(i, t)| tool(t, i));
        let all: Vec<Value> = all.collect::<Result<_>>()?;
        let choice = choice(fields, &all)?;
        Ok(Self {
            all: match choice {
                Choice::None => vec![],
                _ => all,
            },
            choice,
            are_parallel: fields.take("parallel_tool_calls")?.unwrap_or(true),
        })
    }
}

fn tool(tool: Value, i: usize) -> Result<Value> {
    let wrong = |what: String| ApiError::field("tools", format!("`tools[{i}]` {what}"));
    let Value::Object(mut tool) = tool else {
        return Err(wrong("is not an object".into()));
    };
    let kind = tool.remove("type").unwrap_or_default();
    if kind != "function" {
        return Err(wrong(format!(
            "has the type {kind}; only functions are supported"
        )));
    }
    let Some(Value::Object(mut function)) = tool.remove("function") else {
        return Err(wrong("has no `function`".into()));
    };
    if let Some(key) = tool.keys().next() {
        return Err(wrong(format!("has no `{key}`")));
    }
    let name = function.get("name").and_then(Value::as_str);
    let Some(name) = name else {
        return Err(wrong("has no `function.name`".into()));
    };
    if !is_tool_name(name) {
        return Err(wrong(format!(
            "has the name {}; use up to 64 letters, digits, _ and -",
            Value::from(name)
        )));
    }
    for (key, value) in &function {
        let is_right = match key.as_str() {
            "name" | "description" => value.is_string() || value.is_null(),
            "parameters" => value.is_object() || value.is_null(),
            "strict" => value.is_boolean() || value.is_null(),
            _ => return Err(wrong(format!("has no `function.{key}`"))),
        };
        if !is_right {
            return Err(wrong(format!("has a `function.{key}` that is {value}")));
        }
    }
    // Arguments of required calls are always strict. (`remove` would change the order, which the model sees.)
    function.retain(|key, value| key != "strict" && !value.is_null());
    Ok(json!({"type": "function", "function": function}))
}

fn choice(fields: &mut Fields, tools: &[Value]) -> Result<Choice> {
    let wrong = |what: String| ApiError::field("tool_choice", format!("`tool_choice` {what}"));
    let Some(given) = fields.take::<Value>("tool_choice")? else {
        return Ok(Choice::Auto);
    };
    let choice = match &given {
        Value::String(word) => match word.as_str() {
            "auto" => Choice::Auto,
            "required" => Choice::Required,
            "none" => Choice::None,
            _ => {
                return Err(wrong(format!(
                    "is {given}; use auto, none, required or a function"
                )));
            }
        },
        Value::Object(_) if given["type"] == "function" => {
            // Responses have the name beside the type.
            let name = given["function"]["name"].as_str();
            let Some(name) = name.or(given["name"].as_str()) else {
                return Err(wrong("has no name of a function".into()));
            };
            if !tool_names(tools).any(|tool| tool == name) {
                return Err(wrong(format!("names `{name}`, which is not in `tools`")));
            }
            Choice::Named(name.into())
        }
        _ => {
            return Err(wrong(format!(
                "is {given}; use auto, none, required or a function"
            )));
        }
    };
    if choice == Choice::Required && tools.is_empty() {
        return Err(wrong("is required, but there are no `tools`".into()));
    }
    Ok(choice)
}

/// The calls of an assistant's message, as templates read them.
pub fn calls_of_message(calls: Value, at: &str) -> Result<Value> {
    let wrong = |what: &str| ApiError::field(at, format!("{at}.tool_calls {what}"));
    let Value::Array(calls) = calls else {
        return Err(wrong("must be a list"));
    };
    let calls = calls.into_iter().map(|call| {
        let function = &call["function"];
        let arguments = &function["arguments"];
        match (call["type"].as_str(), function["name"].as_str()) {
            (Some("function") | None, Some(_))
                if arguments.is_string() || arguments.is_object() =>
            {
                let mut own = Map::new();
                own.extend(call.get("id").map(|id| ("id".into(), id.clone())));
                own.insert("type".into(), "function".into());
                let function = json!({"name": function["name"], "arguments": arguments});
                own.insert("function".into(), function);
                Ok(Value::Object(own))
            }
            _ => Err(wrong(
                "must be functions with a name, and arguments that are JSON as text",
            )),
        }
    });
    Ok(Value::Array(calls.collect::<Result<_>>()?))
}

/// A call as an answer has it. Some templates want ids of nine letters and digits.
pub fn call_of_answer(call: &ToolCall) -> Value {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = new_seed() << 32 | new_seed();
    let id = std::iter::repeat_with(|| {
        let digit = DIGITS[(random % 36) as usize];
        random /= 36;
        char::from(digit)
    });
    json!({
        "id": id.take(9).collect::<String>(),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}
