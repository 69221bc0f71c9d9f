//! What an answer must look like.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, gbnf};

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows: <https://json-schema.org/>.
    JsonSchema(Value),
    /// What a grammar allows, in the dialect of Lark that llguidance has
    /// (<https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>), or in llama.cpp's GBNF
    /// (<https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>).
    Grammar(String),
    /// What a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// A grammar that has not been compiled. As JSON, it can be passed to another wasm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// What it is called in errors.
    pub(crate) kind: String,
    pub(crate) grammar: Notation,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notation {
    JsonSchema(Value),
    Lark(String),
    Regex(String),
    /// Lark of calls, which refers to what an answer without them must look like as `@shape`.
    Around(String, Box<Notation>),
}

/// What the grammars of calls are called in errors.
pub(crate) const TOOLS: &str = "tools' parameters";

impl Shape {
    fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject => "JSON object",
            Self::JsonSchema(_) => "JSON schema",
            Self::Grammar(_) => "grammar",
            Self::Regex(_) => "regular expression",
            Self::Choice(_) => "choice",
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Shape {
            kind: self.kind().into(),
            what: what.into(),
        }
    }

    /// The grammar that describes it.
    ///
    /// # Errors
    /// If it is a choice of nothing, or of an empty text, or GBNF that is not valid.
    pub fn source(&self) -> Result<Source, Error> {
        let grammar = match self {
            Self::JsonObject => Notation::JsonSchema(json!({"type": "object"})),
            Self::JsonSchema(schema) => Notation::JsonSchema(schema.clone()),
            Self::Grammar(text) if gbnf::is_gbnf(text) => {
                let notation = gbnf::notation(text);
                notation.map_err(|what| self.wrong(&what))?
            }
            Self::Grammar(text) => Notation::Lark(text.clone()),
            Self::Regex(regex) => Notation::Regex(regex.clone()),
            Self::Choice(texts) if texts.is_empty() || texts.iter().any(String::is_empty) => {
                return Err(self.wrong("it needs texts that are not empty"));
            }
            Self::Choice(texts) => {
                // Lark's strings are JSON's.
                let texts = texts.iter().map(|t| Value::from(t.as_str()).to_string());
                let texts: Vec<String> = texts.collect();
                Notation::Lark(format!("start: {}", texts.join(" | ")))
            }
        };
        Ok(Source {
            kind: self.kind().into(),
            grammar,
        })
    }
}
