//! `adapter_config.json` as PEFT writes it (`peft/tuners/lora/config.py`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// The supported fields of `adapter_config.json`, under PEFT's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// Always `LORA`.
    pub peft_type: String,
    /// The model that the adapter was trained for.
    pub base_model_name_or_path: Option<String>,
    /// `CAUSAL_LM`, for PEFT.
    pub task_type: Option<String>,
    /// The rank, where no pattern sets another.
    pub r: usize,
    /// The low-rank product is multiplied by `lora_alpha / r`, or by `lora_alpha / √r` with `use_rslora`.
    pub lora_alpha: f32,
    /// The probability of dropout in training.
    #[serde(default)]
    pub lora_dropout: f32,
    /// Scales by the root of the rank (Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
    /// 2023).
    #[serde(default)]
    pub use_rslora: bool,
    /// Whether modules have magnitudes (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024).
    #[serde(default)]
    pub use_dora: bool,
    /// `none`: no biases are trained.
    #[serde(default = "no_bias")]
    pub bias: String,
    /// Whether weights are transposed; only `false` is supported.
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// Names of projections, or `all-linear`. Which are adapted follows from the tensors, whatever it states.
    #[serde(default)]
    pub target_modules: Json,
    /// Ranks of single modules, by the end of their names.
    #[serde(default)]
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of single modules, by the end of their names.
    #[serde(default)]
    pub alpha_pattern: BTreeMap<String, f32>,
    /// Modules that the adapter replaces as a whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Whether PEFT loads it frozen.
    #[serde(default)]
    pub inference_mode: bool,
    /// `true`, or how A and B were initialised; `pissa` and `olora` did so with parts of the base's weights.
    #[serde(default = "by_default")]
    pub init_lora_weights: Json,
}

fn no_bias() -> String {
    "none".into()
}

fn by_default() -> Json {
    true.into()
}

/// How an adapter was initialised, if with parts of the base's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initial {
    /// The largest singular values (Meng et al., "PiSSA", 2024).
    Pissa,
    /// The first columns of a QR decomposition (Büyükakyüz, "OLoRA", 2024).
    Olora,
}

/// Keys that do not affect what the adapter computes, or that the tensors state better.
const HARMLESS: [&str; 9] = [
    "auto_mapping",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

impl AdapterConfig {
    /// The configuration of a LoRA adapter of this rank and alpha, with defaults otherwise.
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
            target_modules: Json::Null,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: None,
            inference_mode: true,
            init_lora_weights: by_default(),
        }
    }

    /// What the low-rank product is multiplied by.
    pub fn scaling(&self) -> f32 {
        self.scaling_of(self.r, self.lora_alpha)
    }

    fn scaling_of(&self, r: usize, alpha: f32) -> f32 {
        let r = r as f32;
        alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Rank and scaling of a module, which patterns may set (`peft.utils.other.get_pattern_key`).
    pub(crate) fn of_module(&self, module: &str) -> (usize, f32) {
        let r = of_pattern(&self.rank_pattern, module).unwrap_or(self.r);
        let alpha = of_pattern(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        (r, self.scaling_of(r, alpha))
    }

    pub(crate) fn initial(&self) -> Option<Initial> {
        match self.init_lora_weights.as_str()? {
            "olora" => Some(Initial::Olora),
            // `pissa_niter_N` starts from a random approximation, which cannot be computed again.
            "pissa" => Some(Initial::Pissa),
            _ => None,
        }
    }

    /// Parses the file's text.
    ///
    /// # Errors
    /// A key that is not known and not off, or a value that is not supported.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let json: Map<String, Json> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        match json.get("peft_type").and_then(Json::as_str) {
            Some("LORA") => {}
            other => {
                let found = other.unwrap_or("missing");
                return Err(format!("`peft_type` is {found}, which is not supported"));
            }
        }
        let config: Self =
            serde_json::from_value(Json::Object(json.clone())).map_err(|e| e.to_string())?;
        let unsupported = |key: &str, value: &dyn std::fmt::Display| {
            Err(format!("`{key}` is {value}, which is not supported"))
        };
        if config.bias != "none" {
            return unsupported("bias", &config.bias);
        }
        if config.fan_in_fan_out {
            return unsupported("fan_in_fan_out", &true);
        }
        if config.r == 0 || config.rank_pattern.values().any(|r| *r == 0) {
            return unsupported("r", &0);
        }
        let alphas = config.alpha_pattern.values();
        for alpha in alphas.chain([&config.lora_alpha]) {
            if !alpha.is_finite() {
                return unsupported("lora_alpha", alpha);
            }
        }
        let patterns = config.rank_pattern.keys();
        for pattern in patterns.chain(config.alpha_pattern.keys()) {
            if pattern.contains(['*', '+', '?', '[', '(', '{', '|', '\\', '$']) {
                return unsupported("rank_pattern or alpha_pattern", &format!("`{pattern}`"));
            }
        }
        match &config.init_lora_weights {
            Json::Null | Json::Bool(_) => {}
            // These initialise A and B in other ways, and do not change the base.
            Json::String(name) if ["gaussian", "orthogonal", "eva"].contains(&name.as_str()) => {}
            Json::String(_) if config.initial().is_some() => {}
            other => return unsupported("init_lora_weights", other),
        }
        let known = serde_json::to_value(&config).unwrap_or_default();
        for (key, value) in &json {
            let is_off = match value {
                Json::Null | Json::Bool(false) => true,
                Json::Array(list) => list.is_empty(),
                Json::Object(map) => map.is_empty(),
                _ => false,
            };
            let is_known = known.get(key).is_some() || HARMLESS.contains(&key.as_str());
            if !is_off && !is_known {
                return unsupported(key, value);
            }
        }
        Ok(config)
    }
}

/// The value of the first pattern that matches the module's whole name or its end.
fn of_pattern<T: Copy>(patterns: &BTreeMap<String, T>, module: &str) -> Option<T> {
    let names = |pattern: &str| match pattern.strip_prefix('^') {
        Some(whole) => module == whole,
        None => module
            .strip_suffix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    };
    let mut found = patterns.iter().filter(|(pattern, _)| names(pattern));
    found.next().map(|(_, value)| *value)
}
