//! Calls written as elements: a tool's name, and an element for each argument, whose type only the tool's schema tells.

use serde_json::{Map, Value as Json};

use super::literal::Reader;
use super::{ToolCall, function_of};

/// How the element of a call begins, up to the name; and what ends the name.
const CALLS: [(&str, char); 3] = [
    ("function=", '>'),
    ("invoke name=\"", '"'),
    ("function name=\"", '"'),
];

/// The same of an argument.
const ARGUMENTS: [(&str, char); 3] = [
    ("parameter=", '>'),
    ("parameter name=\"", '"'),
    ("param name=\"", '"'),
];

/// `<function=NAME><parameter=KEY>VALUE</parameter></function>`, and the same with `invoke name="NAME"` and so on;
/// instead of arguments there may be JSON.
pub(super) fn elements(text: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let mut calls = vec![];
    let mut rest = text;
    while let Some(call) = next(rest, &CALLS) {
        let end = closing(call.after, &["function>", "invoke>"]);
        let (inner, after) = end.unwrap_or((call.after, ""));
        let arguments = match serde_json::from_str(inner.trim()) {
            Ok(Json::Object(arguments)) => arguments,
            _ => arguments(inner, call.name, tools)?,
        };
        calls.push(ToolCall::new(call.name.trim(), &arguments));
        rest = after;
    }
    (!calls.is_empty()).then_some(calls)
}

/// `None` if there is anything else.
fn arguments(text: &str, tool: &str, tools: &[Json]) -> Option<Map<String, Json>> {
    let mut all = Map::new();
    let mut rest = text;
    while let Some(argument) = next(rest, &ARGUMENTS) {
        // The tag's beginning, with its prefix.
        let before = argument.before.trim_start();
        if !before.starts_with('<') || before[1..].contains(['<', '>']) {
            return None;
        }
        let end = closing(argument.after, &["parameter>", "param>"]);
        let (value, after) = end.unwrap_or((argument.after, ""));
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let characters = value.strip_prefix("<![CDATA[");
        let value = characters
            .and_then(|v| v.strip_suffix("]]>"))
            .unwrap_or(value);
        let value = match argument.attributes.contains("string=\"true\"") {
            true => value.into(),
            false => typed(value, tool, argument.name, tools),
        };
        all.insert(argument.name.into(), value);
        rest = after;
    }
    rest.trim().is_empty().then_some(all)
}

/// `NAME`, then `<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>` for each argument.
pub(super) fn keys(text: &str, tools: &[Json]) -> Option<Vec<ToolCall>> {
    let (name, mut rest) = match text.find("<arg_key>") {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let name = name.trim();
    if name.contains(['{', '<']) || name.contains(char::is_whitespace) {
        return None;
    }
    let mut all = Map::new();
    while let Some((_, pair)) = rest.split_once("<arg_key>") {
        let (key, pair) = pair.split_once("</arg_key>")?;
        let (_, pair) = pair.split_once("<arg_value>")?;
        let (value, after) = pair.split_once("</arg_value>")?;
        let key = key.trim();
        all.insert(key.into(), typed(value, name, key, tools));
        rest = after;
    }
    (!name.is_empty()).then(|| vec![ToolCall::new(name, &all)])
}

struct Element<'a> {
    before: &'a str,
    name: &'a str,
    /// Between the name and the end of the tag.
    attributes: &'a str,
    after: &'a str,
}

fn next<'a>(text: &'a str, beginnings: &[(&str, char)]) -> Option<Element<'a>> {
    let found = beginnings
        .iter()
        .filter_map(|(begin, end)| Some((text.find(begin)?, begin.len(), *end)));
    let (at, length, end) = found.min_by_key(|(at, ..)| *at)?;
    let rest = &text[at + length..];
    let name = &rest[..rest.find(end)?];
    let rest = &rest[name.len()..];
    let (attributes, after) = rest.split_once('>')?;
    Some(Element {
        before: &text[..at],
        name,
        attributes,
        after,
    })
}

/// The text before the first closing tag with one of these ends, and that after it. The tag may have a prefix.
fn closing<'a>(text: &'a str, ends: &[&str]) -> Option<(&'a str, &'a str)> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("</")?;
        let close = at + text[at..].find('>')? + 1;
        if ends.iter().any(|end| text[at..close].ends_with(end)) {
            return Some((&text[..at], &text[close..]));
        }
        from = at + 2;
    }
}

/// An argument by its schema: what must be a string is one as it stands, others are JSON or Python where they can be.
fn typed(value: &str, tool: &str, key: &str, tools: &[Json]) -> Json {
    let functions = tools.iter().map(function_of);
    let function = functions.into_iter().find(|f| f["name"] == tool);
    let schema = function.map(|f| &f["parameters"]["properties"][key]);
    if schema.is_some_and(|s| s["type"] == "string") {
        return value.into();
    }
    let text = value.trim();
    let python = || {
        let mut reader = Reader::new(text, None);
        let value = reader.value()?;
        reader.rest().is_empty().then_some(value)
    };
    let read = serde_json::from_str(text).ok().or_else(python);
    read.unwrap_or_else(|| value.into())
}
