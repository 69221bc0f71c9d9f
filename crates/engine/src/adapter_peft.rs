//! LoRA adapters as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`
//! (`peft/utils/save_and_load.py`, `peft/tuners/lora/config.py`).

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use siskin_formats::{TensorType, decode};

use crate::{Adapter, AdapterModule, Error, Result};

const PREFIX: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What a projection's tensors are called.
const PARTS: [&str; 3] = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"];

/// The fields of `adapter_config.json` that matter, under PEFT's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    pub peft_type: String,
    pub base_model_name_or_path: Option<String>,
    pub task_type: Option<String>,
    pub r: usize,
    pub lora_alpha: f32,
    #[serde(default)]
    pub lora_dropout: f32,
    #[serde(default)]
    pub use_rslora: bool,
    #[serde(default)]
    pub use_dora: bool,
    #[serde(default = "no_bias")]
    pub bias: String,
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// Names of projections, or `all-linear`; the tensors tell anyway.
    #[serde(default)]
    pub target_modules: serde_json::Value,
    #[serde(default)]
    pub rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    pub alpha_pattern: BTreeMap<String, f32>,
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    pub inference_mode: bool,
}

fn no_bias() -> String {
    "none".into()
}

impl AdapterConfig {
    /// Of an adapter of which nothing more is known.
    pub fn plain(r: usize, lora_alpha: f32) -> Self {
        Self {
            peft_type: "LORA".into(),
            base_model_name_or_path: None,
            task_type: Some("CAUSAL_LM".into()),
            r,
            lora_alpha,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            bias: no_bias(),
            fan_in_fan_out: false,
            target_modules: serde_json::Value::Null,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: None,
            inference_mode: true,
        }
    }

    /// What the low-rank product is multiplied by.
    pub fn scaling(&self) -> f32 {
        let r = self.r as f32;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }
}

impl Adapter {
    /// Reads a folder as PEFT saves it.
    pub fn open(folder: &Path) -> Result<Self> {
        let name = folder.display().to_string();
        let read = |file: &str| {
            std::fs::read(folder.join(file)).map_err(|e| Error::Read {
                name: format!("{name}/{file}"),
                what: match e.kind() {
                    std::io::ErrorKind::NotFound => {
                        "it is not there; an adapter is a folder as PEFT saves it".into()
                    }
                    _ => e.to_string(),
                },
            })
        };
        Self::from_peft(&name, &read(CONFIG)?, &read(WEIGHTS)?)
    }

    /// From the bytes of both files.
    ///
    /// # Errors
    /// If they are damaged, or ask for what is not supported.
    pub fn from_peft(name: &str, config: &[u8], weights: &[u8]) -> Result<Self> {
        let damaged = |file: &str, what: String| Error::Read {
            name: format!("{name}/{file}"),
            what,
        };
        let config: AdapterConfig =
            serde_json::from_slice(config).map_err(|e| damaged(CONFIG, e.to_string()))?;
        let unsupported = [
            (
                config.peft_type != "LORA",
                format!("its type is {}", config.peft_type),
            ),
            (config.bias != "none", "it trains biases".into()),
            (config.fan_in_fan_out, "its weights are transposed".into()),
            (
                !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty(),
                "its projections have different ranks or alphas".into(),
            ),
            (
                config
                    .modules_to_save
                    .as_ref()
                    .is_some_and(|m| !m.is_empty()),
                "it replaces whole modules".into(),
            ),
            (config.r == 0, "its rank is 0".into()),
        ];
        if let Some((_, what)) = unsupported.into_iter().find(|u| u.0) {
            return Err(damaged(CONFIG, format!("{what}, which is not supported")));
        }
        let file =
            SafeTensors::deserialize(weights).map_err(|e| damaged(WEIGHTS, e.to_string()))?;
        let mut found: BTreeMap<String, [Option<Vec<f32>>; 3]> = BTreeMap::new();
        for (tensor, view) in file.tensors() {
            let inner = tensor.strip_prefix(PREFIX).unwrap_or(&tensor);
            let split = |(i, part): (usize, &&str)| Some((inner.strip_suffix(*part)?, i));
            let Some((module, which)) = PARTS.iter().enumerate().find_map(split) else {
                return Err(damaged(
                    WEIGHTS,
                    format!("`{tensor}` is no part of a LoRA adapter"),
                ));
            };
            let shape = view.shape();
            let fits = match which {
                2 => shape.len() == 1 && config.use_dora,
                _ => shape.len() == 2 && shape[which] == config.r,
            };
            if !fits {
                let (r, kind) = (config.r, if config.use_dora { "DoRA" } else { "LoRA" });
                let what = format!("`{tensor}` is {shape:?} in a {kind} adapter of rank {r}");
                return Err(damaged(WEIGHTS, what));
            }
            let values = values(&view)
                .ok_or_else(|| damaged(WEIGHTS, format!("`{tensor}` is {:?}", view.dtype())))?;
            found.entry(module.into()).or_default()[which] = Some(values);
        }
        let mut modules = vec![];
        for (name, parts) in found {
            let [Some(a), Some(b), m] = parts else {
                return Err(damaged(
                    WEIGHTS,
                    format!("`{name}` has only one of A and B"),
                ));
            };
            let m = m.unwrap_or_default();
            let n = if config.use_dora {
                b.len() / config.r
            } else {
                0
            };
            if m.len() != n {
                let what = format!("`{name}` has {} magnitudes, not {n}", m.len());
                return Err(damaged(WEIGHTS, what));
            }
            modules.push(AdapterModule { name, a, b, m });
        }
        if modules.is_empty() {
            return Err(damaged(WEIGHTS, "it adapts nothing".into()));
        }
        Ok(Self {
            name: name.into(),
            config,
            strength: 1.0,
            modules,
        })
    }

    /// Both files' bytes, as PEFT saves them.
    pub fn to_peft(&self) -> Result<[(&'static str, Vec<u8>); 2]> {
        let failed = |what: String| Error::Read {
            name: self.name.clone(),
            what,
        };
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = vec![];
        let r = self.config.r;
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect();
        for m in &self.modules {
            let (k, n) = (m.a.len() / r, m.b.len() / r);
            let shapes = [vec![r, k], vec![n, r], vec![n]];
            for ((part, shape), values) in PARTS.into_iter().zip(shapes).zip([&m.a, &m.b, &m.m]) {
                if !values.is_empty() {
                    tensors.push((format!("{PREFIX}{}{part}", m.name), shape, bytes(values)));
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
        let config = serde_json::to_vec_pretty(&self.config).map_err(|e| failed(e.to_string()))?;
        Ok([(CONFIG, config), (WEIGHTS, weights)])
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
