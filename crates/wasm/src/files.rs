//! A model of which only the headers have been read.

use js_sys::Function;
use serde_json::{Map, Value, json as object};
use siskin_engine::{AsyncSource, Fit, ModelFiles};
use siskin_formats::{SideFiles, Value as Metadata};
use wasm_bindgen::prelude::*;

use crate::embed::pooling_name;
use crate::error::{Result, invalid, to_js};
use crate::session::{Session, memory_json};
use crate::source::{JsSource, Source};
use crate::tokenizer::Tokenizer;
use crate::{json, parse};

fn boxed(sources: Vec<JsSource>) -> Vec<Box<dyn AsyncSource>> {
    let boxed = |s| Box::new(Source::new(s)) as Box<dyn AsyncSource>;
    sources.into_iter().map(boxed).collect()
}

#[wasm_bindgen]
#[derive(Debug)]
pub struct Files(ModelFiles);

#[wasm_bindgen]
impl Files {
    /// Reads the header of a GGUF file, or of all parts of a split one.
    pub async fn gguf(sources: Vec<JsSource>) -> Result<Files> {
        let files = ModelFiles::fetch_gguf(boxed(sources)).await;
        files.map(Self).map_err(to_js)
    }

    /// Reads the headers of a folder's safetensors files, those of `denseFolders` last. `side` is a JSON object with the texts of the small files
    /// by name.
    pub async fn folder(name: String, sources: Vec<JsSource>, side: String) -> Result<Files> {
        let files = side_files(&name, &side)?;
        let files = ModelFiles::fetch_safetensors(boxed(sources), files).await;
        files.map(Self).map_err(to_js)
    }

    /// Sizes, metadata and tensors, as JSON.
    pub fn info(&self) -> Result<String> {
        let ModelFiles {
            model,
            text,
            weights,
        } = &self.0;
        let (dims, checkpoint) = (model.dims(), &weights.checkpoint);
        let mut metadata = Map::new();
        if let Some(gguf) = &checkpoint.gguf {
            for (key, value) in &gguf.header.metadata {
                let value = match value {
                    Metadata::Int(v) => object!(v),
                    Metadata::Uint(v) => object!(v),
                    Metadata::Float(v) => object!(v),
                    Metadata::Bool(v) => object!(v),
                    Metadata::String(v) => object!(v),
                    Metadata::Array(_) => continue,
                };
                metadata.insert(key.clone(), value);
            }
        }
        let tensor = |t: &siskin_formats::TensorInfo| object!({ "name": t.name, "shape": t.shape, "type": t.ty.to_string(), "bytes": t.bytes });
        let experts = model.experts().map_err(siskin_engine::Error::from);
        let experts = experts.map_err(to_js)?;
        json(&object!({
            "name": checkpoint.name,
            "architecture": model.arch(),
            "parameters": checkpoint.tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum::<u64>(),
            "nLayers": dims.n_layers,
            "hiddenSize": dims.hidden_size,
            "intermediateSize": dims.intermediate_size,
            "nHeads": dims.n_heads,
            "nKvHeads": dims.n_kv_heads,
            "headDim": dims.head_dim,
            "vocabSize": dims.vocab_size,
            "contextLength": dims.context_length,
            "ropeTheta": dims.rope_theta,
            "experts": experts.map(|e| object!({
                "count": e.count, "used": e.used, "activeParameters": e.active_parameters,
            })),
            "tokenizer": text.kind(),
            "chatTemplate": text.template(),
            "makes": match (model.makes_text(), model.labels()) {
                (_, Some(_)) => "scores",
                (true, _) => "text",
                (false, _) => "embeddings",
            },
            "pooling": model.sentence().map(|s| pooling_name(s.pooling)),
            "metadata": Value::Object(metadata),
            "tensors": checkpoint.tensors.iter().map(tensor).collect::<Vec<_>>(),
        }))
    }

    /// Whether it fits. The request and the result are JSON.
    pub fn fit(&self, request: &str) -> Result<String> {
        let fit = Fit::of(&self.0, &parse(request)?).map_err(to_js)?;
        json(&object!({
            "fits": fit.fits,
            "context": fit.context,
            "memory": memory_json(&fit.memory),
            "maxContext": fit.max_context,
            "trainedContext": fit.trained_context,
        }))
    }

    pub fn tokenizer(&self) -> Tokenizer {
        Tokenizer(self.0.text.clone())
    }

    /// Loads the weights; calls `on_progress(bytes, total)`.
    pub async fn load(self, options: String, on_progress: Function) -> Result<Session> {
        let options = parse(&options)?;
        Session::load(self.0, options, &on_progress).await
    }
}

fn side_files(folder: &str, texts: &str) -> Result<SideFiles> {
    let mut files = SideFiles::new(folder);
    for (name, text) in parse::<std::collections::HashMap<String, String>>(texts)? {
        files.add(&name, text);
    }
    Ok(files)
}

/// The folders within a folder that have more weights, as JSON, from the texts of its small files.
#[wasm_bindgen(js_name = denseFolders)]
pub fn dense_folders(side: &str) -> Result<String> {
    json(&side_files("", side)?.dense_folders())
}

/// The files that a `model.safetensors.index.json` lists, as JSON.
#[wasm_bindgen(js_name = shardNames)]
pub fn shard_names(name: &str, text: &str) -> Result<String> {
    let names = siskin_formats::shard_names(name, text).map_err(|e| invalid(&e.to_string()))?;
    json(&names)
}
