//! Which layers attend within a window only.

use serde_json::Value as Json;
use siskin_formats::{Array, Value};

use crate::Result;
use crate::config::Source;

/// From the file's list, where it has one; otherwise from `default`.
///
/// # Errors
/// If the list is not one kind per layer, or has a kind that is not known.
pub(crate) fn is_local(
    source: &Source<'_>,
    n_layers: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    match source.json_value(KEY) {
        None | Some(Json::Null) => {}
        Some(Json::Array(kinds)) if kinds.len() == n_layers => {
            let kind = |kind: &Json| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(source.unsupported(KEY, kind)),
            };
            return kinds.iter().map(kind).collect();
        }
        Some(_) => return Err(source.wrong(KEY, "a list with one kind for each layer")),
    }
    const PATTERN: &str = "attention.sliding_window_pattern";
    if let Some(Value::Array(list)) = source.gguf_value(PATTERN) {
        return match list {
            Array::Bool(list) if list.len() == n_layers => Ok(list.clone()),
            _ => Err(source.wrong(PATTERN, "a list with true or false for each layer")),
        };
    }
    Ok((0..n_layers).map(default).collect())
}
