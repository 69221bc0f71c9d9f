//! Requests, read field by field: what is not known is refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};

/// OpenAI's fields that do not affect the answer.
const WITHOUT_EFFECT: &[&str] = &[
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "store",
    "service_tier",
];

/// OpenAI's fields that are not supported: only values that request nothing are accepted.
const UNSUPPORTED: &[&str] = &[
    "functions",
    "function_call",
    "audio",
    "modalities",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
    "echo",
    "suffix",
];

/// The fields of a request that have not been read.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    pub fn of(body: Value) -> Result<Self> {
        match body {
            Value::Object(mut fields) => {
                fields.retain(|_, value| !value.is_null());
                Ok(Self(fields))
            }
            _ => Err(ApiError::invalid("a request must be a JSON object")),
        }
    }

    /// A field's value, if it is given.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        let value = serde_json::from_value(value);
        value
            .map(Some)
            .map_err(|e| ApiError::field(name, format!("`{name}`: {}", in_words(&e))))
    }

    /// A field's value, which must be given.
    pub fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let missing = || ApiError::field(name, format!("`{name}` is missing"));
        self.take(name)?.ok_or_else(missing)
    }

    /// A field's value as it was written, to be read later.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Refuses what was not read.
    pub fn finish(self) -> Result<()> {
        for (name, value) in self.0 {
            if WITHOUT_EFFECT.contains(&name.as_str()) {
                continue;
            }
            let message = match UNSUPPORTED.contains(&name.as_str()) {
                true if asks_for_nothing(&name, &value) => continue,
                true => format!("`{name}` is not supported"),
                false => format!("a request has no field `{name}`"),
            };
            return Err(ApiError::field(&name, message));
        }
        Ok(())
    }
}

/// Without the names that Rust has for what is expected.
fn in_words(e: &serde_json::Error) -> String {
    const TYPES: [(&str, &str); 7] = [
        ("expected usize", "expected a non-negative integer"),
        ("expected u64", "expected a non-negative integer"),
        ("expected u32", "expected a non-negative integer"),
        ("expected f32", "expected a number"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
        ("expected a boolean", "expected true or false"),
    ];
    let all = TYPES.iter();
    all.fold(e.to_string(), |what, (rust, plain)| {
        what.replace(rust, plain)
    })
}

fn asks_for_nothing(name: &str, value: &Value) -> bool {
    match name {
        "modalities" => value
            .as_array()
            .is_some_and(|m| m.iter().all(|m| m == "text")),
        "suffix" => value == "",
        _ => *value == Value::Bool(false) || value.as_array().is_some_and(Vec::is_empty),
    }
}
