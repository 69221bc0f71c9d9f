//! What an answer must look like, from command-line arguments.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use siskin_engine::{Grammar, Session};
use siskin_grammar::{Grammars, Shape};

use crate::args::ShapeArgs;

impl ShapeArgs {
    fn shape(&self) -> Result<Option<Shape>> {
        Ok(if let Some(given) = &self.json_schema {
            // A path does not begin like this.
            let text = match given.trim_start().starts_with('{') {
                true => given.clone(),
                false => read(Path::new(given))?,
            };
            let schema = serde_json::from_str(&text).context("--json-schema is not JSON")?;
            Some(Shape::JsonSchema(schema))
        } else if let Some(path) = &self.grammar {
            Some(Shape::Lark(read(path)?))
        } else if let Some(regex) = &self.regex {
            Some(Shape::Regex(regex.clone()))
        } else if !self.choices.is_empty() {
            Some(Shape::Choice(self.choices.clone()))
        } else {
            None
        })
    }

    /// For the vocabulary of a session's model.
    pub fn grammar(&self, session: &Session) -> Result<Option<Arc<dyn Grammar>>> {
        let Some(shape) = self.shape()? else {
            return Ok(None);
        };
        let grammars = Grammars::new(session.text.clone())?;
        Ok(Some(grammars.compile(&shape)?))
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
