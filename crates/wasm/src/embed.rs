//! Embeddings and scores of texts.

use js_sys::{Float32Array, Object, Reflect};
use serde::Deserialize;
use siskin_engine::{EmbedOptions, Pooling};
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid, to_js};
use crate::parse;
use crate::session::Session;

/// How texts become vectors.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    pooling: Option<String>,
    dimensions: Option<usize>,
    prompt: Option<String>,
    truncate: bool,
}

const POOLINGS: [(&str, Pooling); 3] = [
    ("mean", Pooling::Mean),
    ("cls", Pooling::First),
    ("last", Pooling::Last),
];

/// What requests call it.
pub fn pooling_name(pooling: Pooling) -> &'static str {
    let found = POOLINGS.iter().find(|(_, p)| *p == pooling);
    found.map_or("", |(name, _)| name)
}

fn pooling(name: &str) -> Result<Pooling> {
    let found = POOLINGS.iter().find(|(n, _)| *n == name);
    found
        .map(|(_, pooling)| *pooling)
        .ok_or_else(|| invalid(&format!("`pooling` is {name}; use mean, cls or last")))
}

#[wasm_bindgen]
impl Session {
    /// `{ values, columns, tokens }`, the vectors one after another.
    pub async fn embed(&mut self, texts: Vec<String>, options: String) -> Result<JsValue> {
        let request: Request = parse(&options)?;
        let options = EmbedOptions {
            pooling: request.pooling.as_deref().map(pooling).transpose()?,
            dimensions: request.dimensions,
            prompt: request.prompt,
            truncate: request.truncate,
        };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = self.session.embed(&texts, &options).await.map_err(to_js)?;
        let columns = found.vectors.first().map_or(0, Vec::len);
        let values = Float32Array::from(&found.vectors.concat()[..]);
        let out = Object::new();
        Reflect::set(&out, &"values".into(), &values)?;
        Reflect::set(&out, &"columns".into(), &(columns as u32).into())?;
        Reflect::set(&out, &"tokens".into(), &(found.tokens as u32).into())?;
        Ok(out.into())
    }

    /// How well each text answers the query.
    pub async fn rerank(
        &mut self,
        query: String,
        texts: Vec<String>,
        truncate: bool,
    ) -> Result<Vec<f32>> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let scores = self.session.rerank(&query, &texts, truncate).await;
        scores.map_err(to_js)
    }
}
