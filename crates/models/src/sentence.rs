//! How hidden states become a text's embedding: sentence-transformers' files beside the weights, or a GGUF file's
//! `pooling_type`.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use siskin_formats::{Checkpoint, SideFiles};
use siskin_graph::{Graph, Map, NodeId, Pooling};

use crate::{Error, Result};

/// How a model's hidden states become a text's embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// How the rows of a text become one.
    pub pooling: Pooling,
    /// Linears after pooling, one after another.
    pub(crate) dense: Vec<Dense>,
    /// Whether embeddings are divided by their length.
    pub normalize: bool,
    /// Whether texts are made lower case before they are tokenised.
    pub lowercase: bool,
    /// The most tokens of a text, where it is less than the model has positions for.
    pub max_tokens: Option<usize>,
    /// What is put before texts, by name: `query`, `document`, ….
    pub prompts: BTreeMap<String, String>,
    /// The prompt's name where none is given.
    pub default_prompt: Option<String>,
}

/// A linear of sentence-transformers, which is in a folder of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dense {
    /// Its tensors' name up to `.weight`.
    pub module: String,
    pub rows: usize,
    pub cols: usize,
    pub bias: bool,
    pub is_tanh: bool,
}

impl Dense {
    fn build(&self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        let weight = format!("{}.weight", self.module);
        let weight = g.matrix(&weight, &[(&weight, self.rows)], self.cols);
        let bias = self.bias.then(|| {
            let bias = format!("{}.bias", self.module);
            g.vector(&bias, &[(&bias, self.rows)])
        });
        let x = g.linear(x, weight, bias)?;
        Ok(match self.is_tanh {
            true => g.map(x, Map::SoftCap(1.0)),
            false => x,
        })
    }
}

impl Sentence {
    /// What follows pooling, up to the embedding's length.
    pub(crate) fn after_pooling(&self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        self.dense.iter().try_fold(x, |x, dense| dense.build(g, x))
    }

    /// Dimensions of an embedding of a model with this many columns.
    pub(crate) fn size(&self, hidden: usize) -> usize {
        self.dense.last().map_or(hidden, |dense| dense.rows)
    }

    /// As with this pooling, and nothing else that a file says: embeddings are divided by their length.
    pub fn of(pooling: Pooling) -> Self {
        Self {
            pooling,
            dense: vec![],
            normalize: true,
            lowercase: false,
            max_tokens: None,
            prompts: BTreeMap::new(),
            default_prompt: None,
        }
    }

    /// What a file or folder says; `None` if it says nothing.
    ///
    /// # Errors
    /// If it says what is not understood.
    pub fn read(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(gguf) = &checkpoint.gguf else {
            return Folder(&checkpoint.side).read();
        };
        let arch = gguf.str("general.architecture").unwrap_or_default();
        let key = format!("{arch}.pooling_type");
        // `llama_pooling_type` in llama.cpp's `include/llama.h`.
        let pooling = match gguf.uint(&key) {
            // Of a reranker, whose pooling is its classifier's.
            None | Some(0 | 4) => return Ok(None),
            Some(1) => Pooling::Mean,
            Some(2) => Pooling::First,
            Some(3) => Pooling::Last,
            Some(other) => {
                return Err(Error::Unsupported {
                    name: gguf.name.clone(),
                    key,
                    value: other.to_string(),
                });
            }
        };
        // As the converter writes those of EmbeddingGemma: without biases and activations.
        let dense = ["2_Dense", "3_Dense"]
            .into_iter()
            .zip(["dense_2", "dense_3"]);
        let dense = dense.filter_map(|(folder, name)| {
            let info = checkpoint.find(&format!("{name}.weight"))?;
            Some(Dense {
                module: format!("{folder}/linear"),
                rows: *info.shape.first()?,
                cols: *info.shape.get(1)?,
                bias: false,
                is_tanh: false,
            })
        });
        Ok(Some(Self {
            dense: dense.collect(),
            ..Self::of(pooling)
        }))
    }
}

/// A folder of sentence-transformers.
struct Folder<'a>(&'a SideFiles);

impl Folder<'_> {
    fn json(&self, file: &str) -> Result<Option<Json>> {
        let parsed = self.0.get(file).map(serde_json::from_str).transpose();
        parsed.map_err(|e| Error::Config {
            path: format!("{}/{file}", self.0.folder),
            what: e.to_string(),
        })
    }

    fn unsupported(&self, file: &str, key: &str, value: &Json) -> Error {
        Error::Unsupported {
            name: format!("{}/{file}", self.0.folder),
            key: key.into(),
            value: value.to_string(),
        }
    }

    fn read(&self) -> Result<Option<Sentence>> {
        const MODULES: &str = "modules.json";
        let Some(Json::Array(modules)) = self.json(MODULES)? else {
            return Ok(None);
        };
        let (mut pooling, mut normalize, mut dense) = (None, false, vec![]);
        for module in &modules {
            let kind = module["type"].as_str().unwrap_or_default();
            match kind.rsplit('.').next() {
                Some("Transformer") => {}
                Some("Pooling") if pooling.is_none() => {
                    let path = module["path"].as_str().unwrap_or_default();
                    pooling = Some(self.pooling(&format!("{path}/config.json"))?);
                }
                Some("Dense") if pooling.is_some() && !normalize => {
                    dense.push(self.dense(module["path"].as_str().unwrap_or_default())?);
                }
                Some("Normalize") => normalize = true,
                _ => return Err(self.unsupported(MODULES, "type", &module["type"])),
            }
        }
        let Some(pooling) = pooling else {
            return Ok(None);
        };
        let about = self
            .json("config_sentence_transformers.json")?
            .unwrap_or_default();
        let text = |v: &Json| v.as_str().map(String::from);
        let prompts = about["prompts"].as_object().into_iter().flatten();
        let limits = self.json("sentence_bert_config.json")?.unwrap_or_default();
        Ok(Some(Sentence {
            pooling,
            dense,
            normalize,
            lowercase: limits["do_lower_case"] == Json::Bool(true),
            max_tokens: limits["max_seq_length"].as_u64().map(|n| n as usize),
            prompts: prompts
                .filter_map(|(name, prompt)| Some((name.clone(), text(prompt)?)))
                .collect(),
            default_prompt: text(&about["default_prompt_name"]),
        }))
    }

    fn dense(&self, path: &str) -> Result<Dense> {
        let file = format!("{path}/config.json");
        let config = self.json(&file)?.unwrap_or_default();
        let size = |key: &'static str| {
            let found = config[key].as_u64().and_then(|n| usize::try_from(n).ok());
            found.filter(|n| *n > 0).ok_or_else(|| Error::Key {
                name: format!("{}/{file}", self.0.folder),
                key: key.into(),
                expected: "a positive integer",
            })
        };
        const ACTIVATION: &str = "activation_function";
        let activation = config[ACTIVATION].as_str().unwrap_or("Tanh");
        Ok(Dense {
            module: format!("{path}/linear"),
            rows: size("out_features")?,
            cols: size("in_features")?,
            bias: config["bias"].as_bool().unwrap_or(true),
            is_tanh: match activation.rsplit('.').next() {
                Some("Tanh") => true,
                Some("Identity") => false,
                _ => return Err(self.unsupported(&file, ACTIVATION, &config[ACTIVATION])),
            },
        })
    }

    /// Of `Pooling`'s configuration: a flag for each mode, or its name in newer files.
    fn pooling(&self, file: &str) -> Result<Pooling> {
        let config = self.json(file)?.ok_or_else(|| Error::Config {
            path: format!("{}/{file}", self.0.folder),
            what: "it is not there, and modules.json names it".into(),
        })?;
        if config["include_prompt"] == Json::Bool(false) {
            return Err(self.unsupported(file, "include_prompt", &config["include_prompt"]));
        }
        let mode = |name: &str| {
            Some(match name {
                "mean" | "pooling_mode_mean_tokens" => Pooling::Mean,
                "cls" | "pooling_mode_cls_token" => Pooling::First,
                "lasttoken" | "pooling_mode_lasttoken" => Pooling::Last,
                _ => return None,
            })
        };
        const KEY: &str = "pooling_mode";
        let mut names: Vec<(&str, &Json)> = vec![];
        for (key, value) in config.as_object().into_iter().flatten() {
            match value {
                Json::Bool(true) if key.starts_with(KEY) => names.push((key, value)),
                Json::String(name) if key == KEY => names.push((name, value)),
                Json::Array(_) if key == KEY => names.push(("", value)),
                _ => {}
            }
        }
        match names[..] {
            [(name, value)] => mode(name).ok_or_else(|| self.unsupported(file, name, value)),
            // sentence-transformers' default.
            [] => Ok(Pooling::Mean),
            [_, (name, value), ..] => Err(self.unsupported(file, name, value)),
        }
    }
}
