//! JavaScript bindings. Values are passed as numbers, typed arrays and JSON; errors as JavaScript `Error`s
//! with a `code`. The public API is the npm package, which is built on these.

#![cfg(target_arch = "wasm32")]

mod adapter;
mod embed;
mod error;
mod exchange;
mod files;
mod grammar;
mod session;
mod source;
mod tokenizer;
#[cfg(feature = "training")]
mod train;
mod vector_index;

use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::*;

use error::Result;

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| error::invalid(&e.to_string()))
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| error::invalid(&in_words(json, &e)))
}

/// Names the field with the error, rather than a column of JSON that the caller has never seen.
fn in_words(json: &str, e: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", e.line(), e.column());
    let what = e.to_string().replace(&place, "");
    let before = json.get(..e.column()).unwrap_or(json);
    let key = before.rfind("\":").map(|end| &before[..end]);
    match key.and_then(|k| k.rfind('"').map(|start| &k[start + 1..])) {
        Some(key) if !what.contains('`') || what.starts_with("invalid") => {
            let what = TYPES
                .iter()
                .fold(what, |what, (rust, plain)| what.replace(rust, plain));
            format!("`{key}` is not understood: {what}")
        }
        _ => what,
    }
}

/// serde's names of what it expects, and plainer ones.
const TYPES: [(&str, &str); 5] = [
    ("expected usize", "expected a non-negative integer"),
    ("expected u32", "expected a non-negative integer"),
    ("expected f32", "expected a number"),
    ("expected a sequence", "expected a list"),
    ("expected a boolean", "expected true or false"),
];

/// The GPU that a page would get, its limits and its profile.
#[wasm_bindgen]
pub async fn gpu() -> Result<String> {
    let found = siskin_gpu::gpus().await;
    let Some(gpu) = found.first() else {
        return Ok("null".into());
    };
    json(&serde_json::json!({
        "name": gpu.name,
        "software": gpu.software,
        "subgroups": gpu.subgroups,
        "f16": gpu.shader_f16,
        "timestamps": gpu.timestamps,
        "profile": gpu.profile.to_string(),
        "maxBufferSize": gpu.limits.max_buffer,
        "maxStorageBufferBindingSize": gpu.limits.max_storage_binding,
        "maxComputeInvocationsPerWorkgroup": gpu.limits.max_workgroup_invocations,
        "maxComputeWorkgroupStorageSize": gpu.limits.max_workgroup_memory,
    }))
}

/// SHA-256 of bytes that arrive in pieces, which the browser's own does not support.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Hash(Sha256);

#[wasm_bindgen]
impl Hash {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hexadecimal.
    pub fn finish(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }
}
