//! What all families' configurations have in common, read from `config.json` or GGUF metadata.

use serde_json::Value as Json;
use siskin_formats::{Array, Checkpoint, Gguf, SideFiles, Value};

use crate::{Error, Result};

/// Where a configuration is read from.
pub(crate) enum Source<'a> {
    Json(Json),
    Gguf(&'a Gguf, &'a Checkpoint),
}

/// The sizes that every family has.
#[derive(Debug, Clone, PartialEq)]
pub struct Dims {
    pub n_layers: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    pub rms_norm_eps: f32,
    pub rope_theta: f32,
    /// The context the model was trained for, in tokens.
    pub context_length: usize,
}

pub(crate) fn read_json(side: &SideFiles) -> Result<Json> {
    let error = |what: String| Error::Config {
        path: format!("{}/config.json", side.folder),
        what,
    };
    let text = side
        .get("config.json")
        .ok_or_else(|| error("it cannot be read".into()))?;
    let json: Json = serde_json::from_str(text).map_err(|e| error(e.to_string()))?;
    // A model for several kinds of input keeps its language part in a folder of its own.
    Ok(match json.get("text_config") {
        Some(text) if text.get("model_type").is_some() => text.clone(),
        _ => json,
    })
}

impl Source<'_> {
    pub fn name(&self) -> String {
        match self {
            Self::Json(_) => "config.json".into(),
            Self::Gguf(gguf, _) => gguf.name.clone(),
        }
    }

    fn missing(&self, key: &str, expected: &'static str) -> Error {
        Error::Key {
            name: self.name(),
            key: key.into(),
            expected,
        }
    }

    pub fn arch(&self) -> Result<String> {
        let (key, arch) = match self {
            Self::Json(json) => ("model_type", json["model_type"].as_str()),
            Self::Gguf(gguf, _) => ("general.architecture", gguf.str("general.architecture")),
        };
        arch.map(String::from)
            .ok_or_else(|| self.missing(key, "a string"))
    }

    /// A key of the GGUF metadata, which carries the architecture's name before it.
    fn key(gguf: &Gguf, key: &str) -> String {
        format!(
            "{}.{key}",
            gguf.str("general.architecture").unwrap_or_default()
        )
    }

    /// An integer by its name in `config.json` and in GGUF; `None` where it is missing or null.
    pub fn uint(&self, json_key: &str, gguf_key: &str) -> Option<usize> {
        let value = match self {
            Self::Json(json) => json[json_key].as_u64(),
            Self::Gguf(gguf, _) => gguf.uint(&Self::key(gguf, gguf_key)),
        };
        value.and_then(|v| usize::try_from(v).ok())
    }

    pub fn float(&self, json_key: &str, gguf_key: &str) -> Option<f32> {
        let value = match self {
            Self::Json(json) => json[json_key]
                .as_f64()
                .or_else(|| json["rope_parameters"][json_key].as_f64()),
            Self::Gguf(gguf, _) => {
                let key = Self::key(gguf, gguf_key);
                gguf.float(&key)
                    .or_else(|| gguf.uint(&key).map(|v| v as f64))
            }
        };
        value.map(|v| v as f32)
    }

    pub fn json(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Json(json) => json.get(key).filter(|v| !v.is_null()),
            Self::Gguf(..) => None,
        }
    }

    fn required(&self, json_key: &str, gguf_key: &str, max: usize) -> Result<usize> {
        let key = match self {
            Self::Json(_) => json_key.to_string(),
            Self::Gguf(gguf, _) => Self::key(gguf, gguf_key),
        };
        self.uint(json_key, gguf_key)
            .filter(|v| (1..=max).contains(v))
            .ok_or_else(|| self.missing(&key, "a positive number of a sensible size"))
    }

    pub fn dims(&self) -> Result<Dims> {
        const MAX: usize = 1 << 20;
        let n_heads = self.required("num_attention_heads", "attention.head_count", 1024)?;
        let hidden_size = self.required("hidden_size", "embedding_length", MAX)?;
        let n_kv_heads = self
            .uint("num_key_value_heads", "attention.head_count_kv")
            .unwrap_or(n_heads);
        let head_dim = self
            .uint("head_dim", "attention.key_length")
            .unwrap_or(hidden_size / n_heads);
        if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > 256 {
            return Err(self.missing("head_dim", "a multiple of 4 up to 256"));
        }
        if n_kv_heads == 0 || n_heads % n_kv_heads != 0 {
            return Err(self.missing("num_key_value_heads", "a divisor of the number of heads"));
        }
        Ok(Dims {
            n_layers: self.required("num_hidden_layers", "block_count", 1024)?,
            hidden_size,
            intermediate_size: self.required("intermediate_size", "feed_forward_length", MAX)?,
            n_heads,
            n_kv_heads,
            head_dim,
            vocab_size: self.vocab_size()?,
            rms_norm_eps: self
                .float("rms_norm_eps", "attention.layer_norm_rms_epsilon")
                .unwrap_or(1e-6),
            rope_theta: self
                .float("rope_theta", "rope.freq_base")
                .unwrap_or(10_000.0),
            context_length: self.required("max_position_embeddings", "context_length", 1 << 28)?,
        })
    }

    /// GGUF files name their vocabulary's size only sometimes; the embedding always has it.
    fn vocab_size(&self) -> Result<usize> {
        match self {
            Self::Json(_) => self.required("vocab_size", "", 1 << 24),
            Self::Gguf(_, checkpoint) => Ok(checkpoint.get("token_embd.weight")?.shape[0]),
        }
    }

    /// `1 / θ^(2i/d)` for each pair of dimensions, with the file's scaling applied.
    /// Llama 3's scaling: `transformers/modeling_rope_utils.py`, `_compute_llama3_parameters`.
    pub fn inv_freq(&self, head_dim: usize, theta: f32) -> Result<Vec<f32>> {
        let mut freqs: Vec<f32> = (0..head_dim / 2)
            .map(|i| 1.0 / theta.powf(2.0 * i as f32 / head_dim as f32))
            .collect();
        match self {
            Self::Json(json) => {
                let scaling = ["rope_scaling", "rope_parameters"]
                    .iter()
                    .find_map(|k| json[*k].as_object());
                let Some(scaling) = scaling else {
                    return Ok(freqs);
                };
                let number = |key: &str| {
                    let v = scaling.get(key).and_then(Json::as_f64).map(|v| v as f32);
                    v.ok_or_else(|| self.missing(&format!("rope_scaling.{key}"), "a number"))
                };
                let kind = scaling.get("rope_type").or(scaling.get("type"));
                match kind.and_then(Json::as_str).unwrap_or("default") {
                    "default" => {}
                    "linear" => {
                        let factor = number("factor")?;
                        freqs.iter_mut().for_each(|f| *f /= factor);
                    }
                    "llama3" => {
                        let (factor, low, high, original) = (
                            number("factor")?,
                            number("low_freq_factor")?,
                            number("high_freq_factor")?,
                            number("original_max_position_embeddings")?,
                        );
                        for f in &mut freqs {
                            let wavelength = 2.0 * std::f32::consts::PI / *f;
                            let smooth = (original / wavelength - low) / (high - low);
                            *f = if wavelength < original / high {
                                *f
                            } else if wavelength > original / low {
                                *f / factor
                            } else {
                                (1.0 - smooth) * *f / factor + smooth * *f
                            };
                        }
                    }
                    _ => {
                        return Err(
                            self.missing("rope_scaling.rope_type", "default, linear or llama3")
                        );
                    }
                }
            }
            Self::Gguf(gguf, checkpoint) => {
                // Llama 3's scaling comes as one factor a frequency.
                if let Some(info) = checkpoint.find("rope_freqs.weight") {
                    let factors = checkpoint.read_f32(info)?;
                    if factors.len() != freqs.len() {
                        return Err(self.missing("rope_freqs.weight", "head_dim / 2 long"));
                    }
                    freqs.iter_mut().zip(factors).for_each(|(f, by)| *f /= by);
                }
                match gguf
                    .str(&Self::key(gguf, "rope.scaling.type"))
                    .unwrap_or("none")
                {
                    "none" => {}
                    "linear" => {
                        let factor = self.float("", "rope.scaling.factor").unwrap_or(1.0);
                        freqs.iter_mut().for_each(|f| *f /= factor);
                    }
                    _ => return Err(self.missing("rope.scaling.type", "none or linear")),
                }
            }
        }
        Ok(freqs)
    }

    /// Whether layer i attends locally: from the file's list or its pattern, "each n-th is global".
    pub fn is_local(&self, layer: usize, default_pattern: usize) -> bool {
        if let Some(types) = self.json("layer_types").and_then(Json::as_array) {
            return types.get(layer).and_then(Json::as_str) == Some("sliding_attention");
        }
        if let Self::Gguf(gguf, _) = self
            && let Some(Value::Array(Array::Bool(list))) =
                gguf.get(&Self::key(gguf, "attention.sliding_window_pattern"))
        {
            return list.get(layer).copied().unwrap_or(false);
        }
        let pattern = self
            .uint("sliding_window_pattern", "attention.sliding_window_pattern")
            .unwrap_or(default_pattern);
        !(layer + 1).is_multiple_of(pattern.max(1))
    }
}
