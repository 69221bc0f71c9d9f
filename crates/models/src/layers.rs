//! Of which kind each layer is.

use serde_json::Value as Json;
use siskin_formats::{Array, Value};

use crate::Result;
use crate::config::Source;

/// Layers with a recurrent state, and with attention, as transformers 5 and 4 name them.
pub(crate) const RECURRENT: [&[&str]; 2] = [
    &["linear_attention", "mamba"],
    &["full_attention", "attention"],
];

/// Which layers are of the first of two kinds, each by its names, from the file's list of kinds, where it has one; otherwise from `default`.
///
/// # Errors
/// If the list is not one kind per layer, or has a kind that is not known.
pub(crate) fn kinds(
    source: &Source<'_>,
    n_layers: usize,
    [first, second]: [&[&str]; 2],
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    match source.json_value(KEY) {
        None | Some(Json::Null) => Ok((0..n_layers).map(default).collect()),
        Some(Json::Array(kinds)) if kinds.len() == n_layers => {
            let kind = |kind: &Json| match kind.as_str() {
                Some(kind) if first.contains(&kind) => Ok(true),
                Some(kind) if second.contains(&kind) => Ok(false),
                _ => Err(source.unsupported(KEY, kind)),
            };
            kinds.iter().map(kind).collect()
        }
        Some(_) => Err(source.wrong(KEY, "a list with one kind for each layer")),
    }
}

/// From a GGUF file's list of true and false; `None` where it has none.
///
/// # Errors
/// If it is not as long as there are layers.
pub(crate) fn flags(
    source: &Source<'_>,
    n_layers: usize,
    key: &'static str,
) -> Result<Option<Vec<bool>>> {
    // Those that predict further tokens come after the others.
    let all = n_layers + source.uint("", "nextn_predict_layers")?.unwrap_or(0);
    match source.gguf_value(key) {
        Some(Value::Array(Array::Bool(list))) if list.len() == all => {
            Ok(Some(list[..n_layers].to_vec()))
        }
        Some(Value::Array(_)) => Err(source.wrong(key, "a list with true or false for each layer")),
        _ => Ok(None),
    }
}

/// Which layers have a window: from the file's list, where it has one; otherwise from `default`.
///
/// # Errors
/// If the list is not one kind per layer, or has a kind that is not known.
pub(crate) fn is_local(
    source: &Source<'_>,
    n_layers: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    if let Some(list) = flags(source, n_layers, "attention.sliding_window_pattern")? {
        return Ok(list);
    }
    let names: [&[&str]; 2] = [&["sliding_attention"], &["full_attention"]];
    kinds(source, n_layers, names, default)
}
