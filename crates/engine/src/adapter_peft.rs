//! LoRA adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`
//! (`peft/utils/save_and_load.py`, `peft/tuners/lora/config.py`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use siskin_formats::{TensorType, decode, read_regular, read_torch};

use crate::adapter::{EmbeddingLora, Replaced};
use crate::{Adapter, AdapterConfig, AdapterModule, Error, Result};

const PREFIX: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The most bytes of an adapter's file; one of rank 256 for a model of 70 billion parameters has 6.6 GB.
const MAX_BYTES: u64 = 16 << 30;
/// The weights as older versions of PEFT save them.
const TORCH: &str = "adapter_model.bin";
/// The ends of the names of a projection's tensors.
const PARTS: [&str; 3] = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"];

/// A, B and magnitudes of a module, where they were found.
type Parts = [Option<Vec<f32>>; 3];

/// The module that a tensor belongs to, and which of [`PARTS`] it is. PEFT's own state contains the adapter's name,
/// `default` unless it was given another one.
fn split_name(tensor: &str) -> Option<(&str, usize)> {
    PARTS.iter().enumerate().find_map(|(i, part)| {
        let named = |part: &str| tensor.strip_suffix(".default.weight")?.strip_suffix(part);
        let module = tensor
            .strip_suffix(part)
            .or_else(|| named(part.strip_suffix(".weight")?))
            .or_else(|| tensor.strip_suffix(".default")?.strip_suffix(part))?;
        Some((module, i))
    })
}

/// A tensor's name in a language model of its own, and whether it was one within a model for images, as transformers
/// 4 or 5 names it. Names of an adapter for a model without head lack the beginning.
fn plain_name(tensor: &str) -> (Cow<'_, str>, bool) {
    if let Some(inner) = tensor.strip_prefix("model.language_model.") {
        return (format!("model.{inner}").into(), true);
    }
    if let Some(inner) = tensor.strip_prefix("language_model.") {
        return (inner.into(), true);
    }
    match tensor.starts_with("layers.") || tensor.starts_with("embed_tokens.") {
        true => (format!("model.{tensor}").into(), false),
        false => (tensor.into(), false),
    }
}

/// Which of an embedding's A and B a tensor is.
fn embedding_part(tensor: &str) -> Option<usize> {
    let part = tensor.strip_prefix("model.embed_tokens.lora_embedding_")?;
    ["A", "B"]
        .iter()
        .position(|p| part.trim_end_matches(".default") == *p)
}

/// The weight that a tensor replaces, if its module is one of `modules_to_save`.
fn replaced_name(config: &AdapterConfig, tensor: &str) -> Option<String> {
    let module = tensor.strip_suffix(".weight")?;
    let module = module.trim_end_matches(".modules_to_save.default");
    let last = module.rsplit('.').next()?;
    let saved = config
        .modules_to_save
        .iter()
        .flatten()
        .any(|m| m == last || m == module);
    let known = ["lm_head", "model.embed_tokens"].contains(&module);
    (saved && known).then(|| format!("{module}.weight"))
}

impl Adapter {
    /// Reads a folder as PEFT saves it.
    ///
    /// # Errors
    /// If a file is missing or damaged, or its configuration is not supported.
    pub fn open(folder: &Path) -> Result<Self> {
        let name = folder.display().to_string();
        let read = |file: &str| {
            let path = folder.join(file);
            if !path.exists() {
                let what = "it is missing; an adapter is a folder as PEFT saves it";
                return Err(unreadable(&name, file, what.into()));
            }
            Ok(read_regular(&path, MAX_BYTES)?)
        };
        let config = read(CONFIG)?;
        if folder.join(TORCH).exists() && !folder.join(WEIGHTS).exists() {
            return Self::from_torch(&name, &config, &read(TORCH)?);
        }
        Self::from_peft(&name, &config, &read(WEIGHTS)?)
    }

    /// From the bytes of `adapter_config.json` and `adapter_model.safetensors`. `name` is for messages.
    ///
    /// # Errors
    /// If they are damaged, or their configuration is not supported.
    pub fn from_peft(name: &str, config: &[u8], weights: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(weights)
            .map_err(|e| unreadable(name, WEIGHTS, e.to_string()))?;
        let mut tensors = vec![];
        for (tensor, view) in file.tensors() {
            let values = values(&view).ok_or_else(|| {
                let what = format!("`{tensor}` is {:?}, which is not supported", view.dtype());
                unreadable(name, WEIGHTS, what)
            })?;
            tensors.push((tensor, view.shape().to_vec(), values));
        }
        Self::from_tensors(name, config, WEIGHTS, tensors)
    }

    /// From the bytes of `adapter_config.json` and `adapter_model.bin`, which older versions of PEFT write.
    ///
    /// # Errors
    /// As [`Self::from_peft`].
    pub fn from_torch(name: &str, config: &[u8], weights: &[u8]) -> Result<Self> {
        let file = read_torch(weights).map_err(|what| unreadable(name, TORCH, what))?;
        let tensors = file.into_iter().map(|(name, t)| (name, t.shape, t.values));
        Self::from_tensors(name, config, TORCH, tensors.collect())
    }

    fn from_tensors(
        name: &str,
        config: &[u8],
        weights: &str,
        tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    ) -> Result<Self> {
        let damaged = |file: &str, what: String| unreadable(name, file, what);
        let config = AdapterConfig::parse(config).map_err(|what| damaged(CONFIG, what))?;
        let mut found: BTreeMap<String, Parts> = BTreeMap::new();
        let (mut embedding, mut replaced) = ([None, None], vec![]);
        let mut within_vision = false;
        let unsupported = |tensor: &str| {
            let what = format!("`{tensor}` is not a supported part of a LoRA adapter");
            damaged(weights, what)
        };
        for (tensor, shape, values) in tensors {
            let inner = tensor.strip_prefix(PREFIX).unwrap_or(&tensor);
            let (inner, is_within) = plain_name(inner);
            within_vision |= is_within;
            let inner = inner.as_ref();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(damaged(
                    weights,
                    format!("`{tensor}` has values that are not finite"),
                ));
            }
            // The base's own weights, which PEFT saves beside an embedding or a head that is adapted.
            if inner.ends_with(".base_layer.weight") {
                continue;
            }
            if let Some(part) = embedding_part(inner) {
                if config.use_dora {
                    return Err(unsupported(&tensor));
                }
                embedding[part] = Some(values);
                continue;
            }
            if let Some(replacing) = replaced_name(&config, inner) {
                let [rows, _] = shape[..] else {
                    return Err(unsupported(&tensor));
                };
                replaced.push(Replaced {
                    tensor: replacing,
                    rows,
                    values,
                });
                continue;
            }
            let Some((module, which)) = split_name(inner) else {
                return Err(unsupported(&tensor));
            };
            let r = config.of_module(module).0;
            let fits = match which {
                2 => shape.len() == 1 && config.use_dora,
                _ => shape.len() == 2 && shape[which] == r,
            };
            if !fits {
                let kind = if config.use_dora { "DoRA" } else { "LoRA" };
                let what = format!("`{tensor}` is {shape:?} in a {kind} adapter of rank {r}");
                return Err(damaged(weights, what));
            }
            let before = found.entry(module.into()).or_default()[which].replace(values);
            if before.is_some() {
                return Err(damaged(weights, format!("it contains `{tensor}` twice")));
            }
        }
        let mut modules = vec![];
        for (name, parts) in found {
            let [Some(a), Some(b), m] = parts else {
                return Err(damaged(
                    weights,
                    format!("`{name}` has only one of A and B"),
                ));
            };
            let m = m.unwrap_or_default();
            let n = match config.use_dora {
                true => b.len() / config.of_module(&name).0,
                false => 0,
            };
            if m.len() != n {
                let what = format!("`{name}` has {} magnitudes, not {n}", m.len());
                return Err(damaged(weights, what));
            }
            modules.push(AdapterModule { name, a, b, m });
        }
        let embedding = match embedding {
            [Some(a), Some(b)] => Some(EmbeddingLora { a, b }),
            [None, None] => None,
            _ => {
                let what = "the embedding has only one of A and B";
                return Err(damaged(weights, what.into()));
            }
        };
        let is_varied = !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty();
        if embedding.is_some() && is_varied {
            let what =
                "it adapts the embedding with varying ranks or alphas, which is not supported";
            return Err(damaged(CONFIG, what.into()));
        }
        if modules.is_empty() {
            return Err(damaged(weights, "it does not adapt any linear".into()));
        }
        let adapter = Self {
            name: name.into(),
            config,
            strength: 1.0,
            modules,
            embedding,
            replaced,
            within_vision,
        };
        // Those that are initialised with parts of the base need their own ranks until its weights are read.
        Ok(match adapter.config.initial() {
            Some(_) => adapter,
            None => adapter.of_one_rank(),
        })
    }

    /// With one rank and one scaling for all modules: those of lower rank are padded with zeros, and their scalings
    /// are multiplied into B.
    fn of_one_rank(mut self) -> Self {
        let config = &self.config;
        if config.rank_pattern.is_empty() && config.alpha_pattern.is_empty() {
            return self;
        }
        let of = |m: &AdapterModule| config.of_module(&m.name);
        let r = self
            .modules
            .iter()
            .map(|m| of(m).0)
            .max()
            .unwrap_or(config.r);
        let modules = self.modules.iter().map(|m| {
            let (own, scaling) = of(m);
            let mut a = m.a.clone();
            a.resize(a.len() / own * r, 0.0);
            let row = |b: &[f32]| {
                let scaled = b.iter().map(|b| b * scaling);
                let mut row: Vec<f32> = scaled.collect();
                row.resize(r, 0.0);
                row
            };
            AdapterModule {
                a,
                b: m.b.chunks_exact(own).flat_map(row).collect(),
                ..m.clone()
            }
        });
        self.modules = modules.collect();
        self.config = AdapterConfig {
            r,
            lora_alpha: r as f32,
            use_rslora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            ..self.config
        };
        self
    }

    /// The names and bytes of both files, as PEFT saves them.
    ///
    /// # Errors
    /// For an adapter that replaces whole weights.
    pub fn to_peft(&self) -> Result<[(&'static str, Vec<u8>); 2]> {
        let failed = |what: String| Error::Adapter {
            name: self.name.clone(),
            what,
        };
        if self.replaces_weights() {
            return Err(failed(
                "it replaces whole weights, which are not written".into(),
            ));
        }
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = vec![];
        let r = self.config.r;
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect();
        for m in &self.modules {
            let (k, n) = (m.a.len() / r, m.b.len() / r);
            let shapes = [vec![r, k], vec![n, r], vec![n]];
            for ((part, shape), values) in PARTS.into_iter().zip(shapes).zip([&m.a, &m.b, &m.m]) {
                if !values.is_empty() {
                    let name = match m.name.strip_prefix("model.") {
                        Some(inner) if self.within_vision => {
                            format!("model.language_model.{inner}")
                        }
                        _ => m.name.clone(),
                    };
                    tensors.push((format!("{PREFIX}{name}{part}"), shape, bytes(values)));
                }
            }
        }
        let mut views = vec![];
        for (name, shape, bytes) in &tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map_err(|e| failed(e.to_string()))?;
            views.push((name, view));
        }
        let format = [("format".to_string(), "pt".to_string())].into();
        let weights =
            safetensors::serialize(views, Some(format)).map_err(|e| failed(e.to_string()))?;
        let mut config = self.config.clone();
        if config.target_modules.is_null() {
            // Otherwise PEFT would adapt its default modules, and omit others.
            config.target_modules = self.modules.iter().map(|m| m.name.clone()).collect();
        }
        let config = serde_json::to_vec_pretty(&config).map_err(|e| failed(e.to_string()))?;
        Ok([(CONFIG, config), (WEIGHTS, weights)])
    }
}

fn unreadable(name: &str, file: &str, what: String) -> Error {
    Error::Read {
        name: format!("{name}/{file}"),
        what,
    }
}

fn values(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let ty = match view.dtype() {
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::BF16 => TensorType::BF16,
        _ => return None,
    };
    let mut out = vec![0.0; view.shape().iter().product()];
    decode(ty, view.data(), &mut out);
    Some(out)
}
