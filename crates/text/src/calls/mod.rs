//! What an answer consists of besides text: reasoning, and calls of tools, in the ways in which models write them.

mod body;
mod format;
mod harmony;
pub(crate) mod literal;
mod messages;
mod parser;
mod tags;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

pub use format::{AnswerFormat, CallStart};
pub use parser::AnswerParser;

pub(crate) use messages::{Prepared, prepared, without_system};

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments: a JSON object, as text.
    pub arguments: String,
}

impl ToolCall {
    fn new(name: &str, arguments: &Map<String, Json>) -> Self {
        Self {
            name: name.into(),
            arguments: serde_json::to_string(arguments).unwrap_or_default(),
        }
    }
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What is said.
    Content(String),
    /// What the model thinks before it answers.
    Reasoning(String),
    /// A call of a tool.
    Call(ToolCall),
}

/// A tool's name; `{"type": "function", "function": {"name": …}}` and the bare function are both common.
pub(crate) fn function_of(tool: &Json) -> &Json {
    tool.get("function").unwrap_or(tool)
}

/// Whether a tool may have this name, as in OpenAI's API: 1 to 64 letters, digits, `_` and `-`.
pub fn is_tool_name(name: &str) -> bool {
    let is_right = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(is_right)
}

/// The names of tools.
pub fn tool_names(tools: &[Json]) -> impl Iterator<Item = &str> {
    tools.iter().filter_map(|t| function_of(t)["name"].as_str())
}
