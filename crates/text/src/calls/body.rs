//! What stands between the marks of calls.

use serde_json::{Map, Value as Json};

use super::literal::Reader;
use super::{ToolCall, tags, tool_names};

/// How calls are written between their marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Objects with a name and arguments, or lists of such.
    Json,
    /// A name after any of some marks, another mark, and the arguments as JSON.
    Named {
        before: &'static [&'static str],
        between: &'static [&'static str],
    },
    /// Elements.
    Tags,
    /// A name, and elements for keys and values.
    Keys,
    /// Calls in Python.
    Python,
    /// `call:NAME{KEY:VALUE}` with strings between these.
    Braces { quote: &'static str },
}

/// What objects name the tool, and its arguments.
const NAMES: [&str; 3] = ["name", "tool_name", "function"];
const ARGUMENTS: [&str; 3] = ["arguments", "parameters", "args"];

impl Body {
    /// Marks within it.
    pub fn marks(self) -> Vec<&'static str> {
        match self {
            Self::Named { before, between } => {
                let all = before.iter().chain(between).copied();
                all.chain(["[CALL_ID]"])
                    .filter(|m| m.contains(['<', '[']))
                    .map(|m| &m[m.find(['<', '[']).unwrap_or(0)..])
                    .collect()
            }
            Self::Braces { quote } => vec![quote],
            _ => vec![],
        }
    }

    /// The calls of a text, `whole` with the marks around it; `None` if it is none.
    pub fn parse(self, text: &str, whole: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
        let own = match self {
            Self::Json => json(text, tools),
            Self::Named { before, between } => named(text, before, between),
            Self::Tags => tags::elements(whole, tools),
            Self::Keys => tags::keys(text, tools),
            Self::Python => python(text),
            Self::Braces { quote } => braces(text, quote),
        };
        // Models that have seen several ways use others than their template's.
        own.or_else(|| json(text, tools))
            .or_else(|| tags::elements(whole, tools))
            .or_else(|| python(text))
    }
}

/// JSON values one after the other.
pub(super) fn json(text: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let mut calls = vec![];
    for value in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
        match value.ok()? {
            Json::Array(all) => {
                for one in &all {
                    calls.push(of_object(one, tools)?);
                }
            }
            one => calls.push(of_object(&one, tools)?),
        }
    }
    (!calls.is_empty()).then_some(calls)
}

fn of_object(object: &Json, tools: &[Json]) -> Option<ToolCall> {
    let object = match object.get("function") {
        Some(function) if function.is_object() => function.as_object()?,
        _ => object.as_object()?,
    };
    let name = NAMES.iter().find_map(|key| object.get(*key)?.as_str());
    let Some(name) = name else {
        // The name itself is the key.
        let (name, arguments) = object.iter().next()?;
        let is_tool = object.len() == 1 && tool_names(tools).any(|tool| tool == name);
        return is_tool.then(|| Some(ToolCall::new(name, arguments.as_object()?)))?;
    };
    let arguments = ARGUMENTS.iter().find_map(|key| object.get(*key));
    let arguments = match arguments {
        None => Map::new(),
        Some(Json::Object(arguments)) => arguments.clone(),
        Some(Json::String(text)) => serde_json::from_str(text).ok()?,
        Some(_) => return None,
    };
    Some(ToolCall::new(name, &arguments))
}

fn named(text: &str, before: &[&str], between: &[&str]) -> Option<Vec<ToolCall>> {
    let mut calls = vec![];
    let mut rest = text;
    while let Some(brace) = rest.find('{') {
        let head = rest[..brace].trim_end_matches(' ');
        let head = between.iter().find_map(|m| head.strip_suffix(m))?;
        let begin = before.iter().filter_map(|m| Some(head.rfind(m)? + m.len()));
        let name = head[begin.max().unwrap_or(0)..].trim();
        let name = name.split("[CALL_ID]").next()?;
        // Some number them.
        let name = match name.rsplit_once(':') {
            Some((name, number)) if number.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => name,
        };
        let mut values = serde_json::Deserializer::from_str(&rest[brace..]).into_iter();
        let arguments: Map<String, Json> = values.next()?.ok()?;
        calls.push(ToolCall::new(name, &arguments));
        rest = &rest[brace + values.byte_offset()..];
    }
    (!calls.is_empty()).then_some(calls)
}

fn python(text: &str) -> Option<Vec<ToolCall>> {
    let mut calls = vec![];
    let mut reader = Reader::new(text, None);
    let mut call = |reader: &mut Reader<'_>| {
        let name = reader.name()?;
        let arguments = reader.pairs("(", "=", ")")?;
        calls.push(ToolCall::new(
            name.strip_suffix(".call").unwrap_or(name),
            &arguments,
        ));
        Some(())
    };
    match text.trim_start().starts_with('[') {
        true => reader.each("[", "]", call)?,
        false => call(&mut reader)?,
    }
    reader.skip_space();
    (reader.rest().is_empty() && !calls.is_empty()).then_some(calls)
}

fn braces(text: &str, quote: &str) -> Option<Vec<ToolCall>> {
    let mut reader = Reader::new(text, Some(quote));
    reader.take("call:")?;
    let name = reader.name()?;
    let arguments = reader.pairs("{", ":", "}")?;
    Some(vec![ToolCall::new(name, &arguments)])
}
