//! Jinja with Python's semantics, for chat templates.
//!
//! Chat templates are written for Jinja2 and rely on Python: `%` on strings, `True` in output, tuples, methods of
//! `str` and `dict`, integer and true division, a sandbox that forbids mutation. `minijinja` has options for some of
//! these, but its callbacks cannot change operators, printing within strings, custom tags or marked text;
//! hence this separate interpreter, with budgets for everything that a template can make large.

mod access;
mod args;
mod ast;
mod calls;
mod case;
mod cx;
mod eval;
mod expressions;
mod fault;
mod filters;
mod format;
mod json;
mod layout;
mod lexer;
mod list_filters;
mod list_methods;
mod mask;
mod ops;
mod parser;
mod percent;
mod postfix;
mod print;
mod render;
mod shaping;
mod splitting;
mod statements;
mod tests;
mod text_methods;
mod value;

use std::ops::Range;

use serde_json::Value as Json;

pub(crate) use cx::Cx;
pub(crate) use fault::{Fault, Kind, Outcome};
use lexer::Space;
pub(crate) use mask::Mask;
use value::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(ast::Tree);

/// A rendered text, still with marks, and the byte ranges of its `{% generation %}` blocks.
#[derive(Debug)]
pub(crate) struct Output {
    pub text: String,
    pub generation: Option<Vec<Range<usize>>>,
}

impl Template {
    pub fn new(source: &str) -> Outcome<Self> {
        parser::parse(source, Space::Trimmed).map(Self)
    }

    /// A template in which all white space counts.
    pub fn of_document(source: &str) -> Outcome<Self> {
        parser::parse(source, Space::Kept).map(Self)
    }

    /// Renders with variables that a function returns by name.
    pub fn render(&self, cx: Cx, variable: impl Fn(&str) -> Option<Json>) -> Outcome<Output> {
        let mut renderer = render::Renderer::new(&self.0, cx);
        for (symbol, name) in self.0.symbols.iter().enumerate() {
            if let Some(json) = variable(name) {
                let value = Value::from_json(&renderer.cx, &json)?;
                renderer.root.set(symbol as u32, value);
            }
        }
        let text = renderer.run()?;
        let generation = std::mem::take(&mut renderer.generation);
        Ok(Output {
            text,
            generation: self.0.has_generation.then_some(generation),
        })
    }
}
