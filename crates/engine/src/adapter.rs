//! LoRA adapters as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`
//! (`peft/utils/save_and_load.py`, `peft/tuners/lora/config.py`).

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use siskin_formats::{TensorType, decode};
use siskin_graph::{Graph, LoraSpec, Op};

use crate::{Error, Result};

const PREFIX: &str = "base_model.model.";
pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

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

/// One projection's A `[r, k]` and B `[n, r]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterModule {
    /// `model.layers.0.self_attn.q_proj`.
    pub name: String,
    pub a: Vec<f32>,
    pub b: Vec<f32>,
}

/// An adapter in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// For people.
    pub name: String,
    pub config: AdapterConfig,
    /// Times the adapter's own scaling: 1 applies it as it was trained.
    pub strength: f32,
    pub modules: Vec<AdapterModule>,
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
            (config.use_dora, "it uses DoRA".into()),
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
        let mut found: BTreeMap<String, [Option<Vec<f32>>; 2]> = BTreeMap::new();
        for (tensor, view) in file.tensors() {
            let inner = tensor.strip_prefix(PREFIX).unwrap_or(&tensor);
            let split = inner
                .strip_suffix(".lora_A.weight")
                .map(|m| (m, 0))
                .or_else(|| inner.strip_suffix(".lora_B.weight").map(|m| (m, 1)));
            let Some((module, which)) = split else {
                return Err(damaged(
                    WEIGHTS,
                    format!("`{tensor}` is no part of a LoRA adapter"),
                ));
            };
            let rank = view.shape().get(which).copied();
            if view.shape().len() != 2 || rank != Some(config.r) {
                let (shape, r) = (view.shape(), config.r);
                let what = format!("`{tensor}` is {shape:?} where the rank is {r}");
                return Err(damaged(WEIGHTS, what));
            }
            let values = values(&view)
                .ok_or_else(|| damaged(WEIGHTS, format!("`{tensor}` is {:?}", view.dtype())))?;
            found.entry(module.into()).or_default()[which] = Some(values);
        }
        let mut modules = vec![];
        for (name, pair) in found {
            let [Some(a), Some(b)] = pair else {
                return Err(damaged(
                    WEIGHTS,
                    format!("`{name}` has only one of A and B"),
                ));
            };
            modules.push(AdapterModule { name, a, b });
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
            let name = |part: &str| format!("{PREFIX}{}.lora_{part}.weight", m.name);
            tensors.push((name("A"), vec![r, m.a.len() / r], bytes(&m.a)));
            tensors.push((name("B"), vec![m.b.len() / r, r], bytes(&m.b)));
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

    fn misfit(&self, what: String) -> Error {
        Error::Adapter {
            name: self.name.clone(),
            what,
        }
    }

    /// How a graph is to be rewritten; every module's shapes are compared with the graph's.
    pub fn spec(&self, graph: &Graph) -> Result<LoraSpec> {
        let projections = projections(graph);
        let r = self.config.r;
        for m in &self.modules {
            let Some((_, [n, k])) = projections.iter().find(|p| p.0 == m.name) else {
                return Err(self.misfit(format!("the model has no linear `{}`", m.name)));
            };
            let found = [m.b.len() / r, m.a.len() / r];
            if found != [*n, *k] {
                return Err(self.misfit(format!(
                    "it adapts `{}` as {found:?}, the model's is {:?}",
                    m.name,
                    [n, k]
                )));
            }
        }
        Ok(LoraSpec {
            rank: r,
            scale: self.config.scaling() * self.strength,
            dropout: 0.0,
            modules: self.modules.iter().map(|m| m.name.clone()).collect(),
        })
    }

    /// The parameters in the order of a graph that [`Self::spec`] rewrote.
    pub(crate) fn params(&self, graph: &Graph) -> Result<Vec<f32>> {
        let mut params = vec![0.0; graph.params_len()];
        for (span, a, b) in graph.loras.iter().flat_map(|l| l.parts()) {
            let found = self.modules.iter().find(|m| m.name == span.module);
            let m = found.ok_or_else(|| self.misfit(format!("`{}` is missing", span.module)))?;
            params[a..a + m.a.len()].copy_from_slice(&m.a);
            params[b..b + m.b.len()].copy_from_slice(&m.b);
        }
        Ok(params)
    }

    /// The adapter with new values, out of a graph's parameters.
    pub(crate) fn with_params(&self, graph: &Graph, params: &[f32]) -> Self {
        let mut out = self.clone();
        for (span, a, b) in graph.loras.iter().flat_map(|l| l.parts()) {
            for m in out.modules.iter_mut().filter(|m| m.name == span.module) {
                let (a_len, b_len) = (m.a.len(), m.b.len());
                m.a.copy_from_slice(&params[a..a + a_len]);
                m.b.copy_from_slice(&params[b..b + b_len]);
            }
        }
        out
    }

    /// A new adapter for the projections of a graph whose last name is one of `targets` (or all, for
    /// `all-linear`), initialised as PEFT does: A uniform within ±1/√k, B zero.
    ///
    /// # Errors
    /// If a target names no projection.
    pub fn new(
        name: &str,
        graph: &Graph,
        targets: &[String],
        config: AdapterConfig,
        seed: u64,
    ) -> Result<Self> {
        let all = targets.iter().any(|t| t == "all-linear");
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
        let projections: Vec<_> = projections(graph)
            .into_iter()
            .filter(|p| p.0.starts_with("model.layers."))
            .collect();
        let mut known: Vec<String> = projections.iter().map(|p| last(&p.0)).collect();
        known.sort();
        known.dedup();
        if let Some(wrong) = targets
            .iter()
            .find(|t| *t != "all-linear" && !known.contains(t))
        {
            return Err(Error::Adapter {
                name: name.into(),
                what: format!(
                    "there is no projection `{wrong}`; give all-linear or some of {}",
                    known.join(", ")
                ),
            });
        }
        let r = config.r;
        let mut noise = siskin_graph::Noise::new(seed);
        let chosen = projections
            .into_iter()
            .filter(|p| all || targets.contains(&last(&p.0)));
        let mut modules: Vec<_> = chosen
            .map(|(name, [n, k])| {
                let bound = 1.0 / (k as f32).sqrt();
                let a = (0..r * k).map(|_| bound * (2.0 * noise.uniform() - 1.0));
                AdapterModule {
                    name,
                    a: a.collect(),
                    b: vec![0.0; n * r],
                }
            })
            .collect();
        // As they come out of a file.
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            name: name.into(),
            modules,
            config,
            strength: 1.0,
        })
    }
}

/// Each linear projection of a graph with its shape `[n, k]`.
pub(crate) fn projections(graph: &Graph) -> Vec<(String, [usize; 2])> {
    let linears = graph.nodes.iter().filter_map(|n| match n.op {
        Op::Linear { weight, .. } => Some(graph.weight(weight)),
        _ => None,
    });
    linears
        .flat_map(|w| w.parts.iter().map(|p| (p, w.cols)))
        .map(|(p, cols)| (p.tensor.trim_end_matches(".weight").into(), [p.rows, cols]))
        .collect()
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
