//! What an answer must look like, from command-line arguments.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use siskin_engine::{Grammar, Session};
use siskin_grammar::{Grammars, Shape, Source};

use crate::args::ShapeArgs;
use crate::asking::Asking;

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
            Some(Shape::Grammar(read(path)?))
        } else if let Some(regex) = &self.regex {
            Some(Shape::Regex(regex.clone()))
        } else if !self.choices.is_empty() {
            Some(Shape::Choice(self.choices.clone()))
        } else {
            None
        })
    }

    /// The grammar that describes it.
    pub fn source(&self) -> Result<Option<Source>> {
        Ok(self.shape()?.map(|shape| shape.source()).transpose()?)
    }
}

/// The grammar of the answers, for the vocabulary of a session's model.
pub fn grammar(session: &Session, asking: &Asking) -> Result<Option<Arc<dyn Grammar>>> {
    let Some(source) = asking.grammar(&session.text) else {
        return Ok(None);
    };
    let grammars = Grammars::new(session.text.clone())?;
    Ok(Some(grammars.compile_source(&source)?))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
