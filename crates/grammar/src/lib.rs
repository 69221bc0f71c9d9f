#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod calls;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use siskin_engine::{Constraint, Grammar};
use siskin_text::TextModel;

pub use crate::calls::Calls;
use crate::vocabulary::Vocabulary;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows: <https://json-schema.org/>.
    JsonSchema(Value),
    /// What a grammar allows, in the dialect of Lark that llguidance has:
    /// <https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>.
    Lark(String),
    /// What a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// A shape that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The vocabulary cannot be read.
    #[error("the model's vocabulary cannot be restricted: {0}")]
    Vocabulary(String),
    /// The grammar is not valid, or has what is not supported.
    #[error("the {kind} cannot be used: {what}")]
    Shape {
        /// Which kind it is.
        kind: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl Shape {
    fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject => "JSON object",
            Self::JsonSchema(_) => "JSON schema",
            Self::Lark(_) => "grammar",
            Self::Regex(_) => "regular expression",
            Self::Choice(_) => "choice",
        }
    }

    fn grammar(&self) -> Result<TopLevelGrammar, Error> {
        Ok(match self {
            Self::JsonObject => TopLevelGrammar::from_json_schema(json!({"type": "object"})),
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            Self::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
            Self::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Self::Choice(texts) if texts.is_empty() || texts.iter().any(String::is_empty) => {
                return Err(Error::Shape {
                    kind: self.kind(),
                    what: "it needs texts that are not empty".into(),
                });
            }
            Self::Choice(texts) => {
                // Lark's strings are JSON's.
                let texts = texts.iter().map(|t| Value::from(t.as_str()).to_string());
                let texts: Vec<String> = texts.collect();
                TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | ")))
            }
        })
    }
}

/// Compiles shapes for one model's vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    text: Arc<TextModel>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// Reads the vocabulary, which takes a fraction of a second.
    ///
    /// # Errors
    /// If its tokens have no bytes, or none ends an answer.
    pub fn new(text: Arc<TextModel>) -> Result<Self, Error> {
        let vocabulary = Arc::new(Vocabulary::new(text.clone())?);
        let mut factory = ParserFactory::new_simple(&(vocabulary as _))
            .map_err(|e| Error::Vocabulary(e.to_string()))?;
        factory.quiet();
        Ok(Self { factory, text })
    }

    /// Prepares a shape for answers.
    ///
    /// # Errors
    /// If it is not valid, or has what is not supported.
    pub fn compile(&self, shape: &Shape) -> Result<Arc<dyn Grammar>, Error> {
        self.compiled(shape.grammar()?, shape.kind())
    }

    /// Prepares calls of tools; `None` if an answer may be anything, since nothing tells calls from text.
    ///
    /// # Errors
    /// If the parameters of a tool are not valid, or have what is not supported.
    pub fn calls(&self, calls: &Calls) -> Result<Option<Arc<dyn Grammar>>, Error> {
        let grammar = calls.lark(&self.text).map(TopLevelGrammar::from_lark);
        let compile = |grammar| self.compiled(grammar, "tools' parameters");
        grammar.map(compile).transpose()
    }

    fn compiled(
        &self,
        grammar: TopLevelGrammar,
        kind: &'static str,
    ) -> Result<Arc<dyn Grammar>, Error> {
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            None => Ok(Arc::new(Compiled(matcher))),
            Some(what) => Err(Error::Shape {
                kind,
                what: first_line(&what),
            }),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().into()
}

/// A grammar at its beginning.
struct Compiled(Matcher);

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> Result<Box<dyn Constraint>, String> {
        Ok(Box::new(Following(self.0.deep_clone())))
    }
}

/// A grammar after some tokens.
struct Following(Matcher);

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Constraint for Following {
    fn allowed(&mut self) -> Result<Vec<u32>, String> {
        let mask = self
            .0
            .compute_mask_or_eos()
            .map_err(|e| first_line(&e.to_string()))?;
        match mask.is_zero() {
            true => Err("no token may follow".into()),
            false => Ok(mask.as_slice().to_vec()),
        }
    }

    fn add(&mut self, token: u32, may_force: bool) -> Result<Vec<u32>, String> {
        let added = self.0.consume_token(token);
        added.map_err(|e| first_line(&e.to_string()))?;
        Ok(match may_force && !self.0.is_stopped() {
            true => self.0.consume_ff_tokens(),
            false => vec![],
        })
    }

    fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }
}
