//! What a task makes of a record: a text, a target, choices.

use serde_json::{Map, Value as Json};
use siskin_text::{DocumentTemplate, python_value};

use crate::error::bad;
use crate::fields::Fields;
use crate::{Error, Result};

/// A record of the data.
pub type Document = Map<String, Json>;

/// A value of `doc_to_text`, `doc_to_target` and the like: the name of a field, a template, or a constant.
#[derive(Debug)]
pub(crate) struct Field {
    key: String,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// A name or a text without anything of Jinja.
    Plain(String),
    Template(String, DocumentTemplate),
    Constant(Json),
}

impl Field {
    pub fn take(fields: &mut Fields, key: &str) -> Result<Option<Self>> {
        let Some(value) = fields.take(key) else {
            return Ok(None);
        };
        Self::of(fields.key(key), value).map(Some)
    }

    pub fn of(key: String, value: Json) -> Result<Self> {
        let value = match value {
            Json::String(source) if source.contains('{') => {
                let template = DocumentTemplate::new(&source);
                let template = template.map_err(|e| Error::Key {
                    key: key.clone(),
                    what: format!("cannot be used: {e}"),
                })?;
                Value::Template(source, template)
            }
            Json::String(source) => Value::Plain(source),
            // The choices of a dictionary are its values.
            Json::Object(map) => Value::Constant(map.into_iter().map(|(_, v)| v).collect()),
            Json::Array(_) | Json::Number(_) => Value::Constant(value),
            Json::Bool(_) | Json::Null => return bad(key, "is neither a text nor a list"),
        };
        Ok(Self { key, value })
    }

    /// The value, and whether it is a template's text, of which Python's value may be read.
    fn get(&self, document: &Document) -> std::result::Result<(Json, bool), String> {
        match &self.value {
            Value::Constant(json) => Ok((json.clone(), false)),
            Value::Plain(name) | Value::Template(name, _) if document.contains_key(name) => {
                Ok((document[name].clone(), false))
            }
            // A misspelled name would otherwise be the same prompt for all records.
            Value::Plain(name) if is_name(name) => Err(format!(
                "it has no field `{name}`, which `{}` names (a constant is written {{{{'{name}'}}}})",
                self.key
            )),
            Value::Plain(text) => Ok((text.clone().into(), true)),
            Value::Template(_, template) => match template.render(document) {
                Ok(text) => Ok((text.into(), true)),
                Err(e) => Err(format!("`{}`: {e}", self.key)),
            },
        }
    }

    /// As text.
    pub fn text(&self, document: &Document) -> std::result::Result<String, String> {
        match self.get(document)?.0 {
            Json::String(text) => Ok(text),
            other => Err(format!("`{}` is {other}, which is not a text", self.key)),
        }
    }

    /// As a text, or a number if it is one and there are choices.
    pub fn text_or_index(
        &self,
        document: &Document,
        has_choices: bool,
    ) -> std::result::Result<Json, String> {
        Ok(match self.get(document)? {
            (Json::String(text), true) if has_choices && is_digits(&text) => {
                text.parse::<u64>().map_or(text.into(), Json::from)
            }
            (value, _) => value,
        })
    }

    /// As a text, a number if it is one and there are choices, or a list.
    pub fn target(
        &self,
        document: &Document,
        has_choices: bool,
    ) -> std::result::Result<Json, String> {
        let value = self.text_or_index(document, has_choices)?;
        if let Json::String(text) = &value
            && text.starts_with('[')
            && text.ends_with(']')
            && let Value::Template(..) = self.value
            && let Some(list) = python_value(text)
        {
            return Ok(list);
        }
        Ok(value)
    }

    /// As a list.
    pub fn list(&self, document: &Document) -> std::result::Result<Vec<Json>, String> {
        let (value, is_rendered) = self.get(document)?;
        let value = match &value {
            Json::String(text) if is_rendered => python_value(text).unwrap_or(value),
            _ => value,
        };
        match value {
            Json::Array(list) => Ok(list),
            other => Err(format!("`{}` is {other}, which is not a list", self.key)),
        }
    }

    /// As a list of texts.
    pub fn texts(&self, document: &Document) -> std::result::Result<Vec<String>, String> {
        let list = self.list(document)?;
        let text = |v: Json| match v {
            Json::String(text) => Ok(text),
            other => Err(format!("`{}` has {other}, which is not a text", self.key)),
        };
        list.into_iter().map(text).collect()
    }
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(is_part)
}

/// Python's `str.isdigit`, for those that are numbers.
fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
