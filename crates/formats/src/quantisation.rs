//! What a folder's `config.json` says about how its weights were quantised (`quantization_config`), where their tensors
//! alone do not say it.

use serde_json::Value;

use crate::{Error, Result, SideFiles};

const KEY: &str = "quantization_config";

/// Methods of which the tensors themselves say all there is to know, or a model's family reads the rest.
const BY_TENSORS: [&str; 2] = ["fp8", "mxfp4"];

/// How a folder's weights were quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// To matrices of integers, whose parts the configuration explains.
    Integers(Scheme),
    /// By torchao: the metadata of the files has the class of each tensor.
    Torchao,
}

/// How a folder's matrices of integers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// GPTQModel's and AutoGPTQ's: `qweight`, `qzeros`, `scales`, `g_idx`.
    Gptq {
        bits: u32,
        /// Columns that share a scale; `None` for a whole row.
        group: Option<usize>,
        /// Whether zero points are stored minus one, as in the first of the two formats.
        minus_one: bool,
        /// Whether groups are of columns that are apart, so that each has the scale that `g_idx` names.
        act_order: bool,
    },
    /// AutoAWQ's `gemm`: `qweight`, `qzeros`, `scales`.
    Awq { group: Option<usize> },
    /// compressed-tensors: `weight_packed` or `weight`, `weight_scale`, and what goes with them.
    Compressed {
        /// Bits of packed codes, if there are any.
        packed: Option<u32>,
        /// Whether there are zero points.
        has_zeros: bool,
    },
    /// bitsandbytes' LLM.int8(): `weight`, `SCB`.
    Int8,
}

/// An object of a configuration, with its name for error messages.
pub(crate) struct Table<'a> {
    pub file: &'a str,
    pub name: String,
    pub json: &'a Value,
}

impl<'a> Table<'a> {
    pub fn get(&self, key: &str) -> &'a Value {
        &self.json[key]
    }

    pub fn within(&self, key: &str) -> Self {
        Self {
            file: self.file,
            name: format!("{}.{key}", self.name),
            json: &self.json[key],
        }
    }

    /// The first of these keys that is there.
    fn first(&self, keys: &[&'static str]) -> (&'static str, &'a Value) {
        let found = keys.iter().find(|k| !self.get(k).is_null());
        let key = found.copied().unwrap_or(keys[0]);
        (key, self.get(key))
    }

    pub fn refused(&self, key: &str, supported: &str) -> Error {
        let value = match self.get(key) {
            Value::Null => "missing".into(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Error::Quantisation {
            name: self.file.into(),
            key: format!("{}.{key}", self.name),
            value: value.chars().take(80).collect(),
            supported: supported.into(),
        }
    }

    /// That there is no such key, or that it is null, false or empty.
    fn without(&self, keys: &[&str]) -> Result<()> {
        let is_off = |v: &Value| match v {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        match keys.iter().find(|key| !is_off(self.get(key))) {
            Some(key) => Err(self.refused(key, "none")),
            None => Ok(()),
        }
    }

    /// One of the texts, or the first, if there is none.
    fn one_of(&self, keys: &[&'static str], texts: &[&'static str]) -> Result<&'static str> {
        let (key, value) = self.first(keys);
        let lower = value.as_str().map(str::to_lowercase);
        match (value, lower) {
            (Value::Null, _) => Ok(texts[0]),
            (_, Some(text)) if texts.contains(&&*text) => {
                Ok(texts.iter().find(|t| **t == text).unwrap_or(&texts[0]))
            }
            _ => Err(self.refused(key, &texts.join(", "))),
        }
    }

    fn bits(&self, keys: &[&'static str], known: &[u32]) -> Result<u32> {
        let (key, value) = self.first(keys);
        let found = value.as_u64().and_then(|v| u32::try_from(v).ok());
        found.filter(|bits| known.contains(bits)).ok_or_else(|| {
            let known: Vec<_> = known.iter().map(u32::to_string).collect();
            self.refused(key, &known.join(", "))
        })
    }

    /// Columns of a group, which is whole blocks.
    fn group(&self, keys: &[&'static str]) -> Result<Option<usize>> {
        let (key, value) = self.first(keys);
        match value.as_i64() {
            Some(-1) => Ok(None),
            Some(n) if n > 0 && n % 32 == 0 => Ok(Some(n as usize)),
            _ => Err(self.refused(key, "-1 and multiples of 32")),
        }
    }
}

impl Method {
    /// Of a folder; `None` where its weights are not quantised, or their tensors say how.
    ///
    /// # Errors
    /// If the configuration has a method or an option that is not supported. One that is not JSON is none here: a model
    /// is refused with it.
    pub fn of(side: &SideFiles) -> Result<Option<Self>> {
        let text = side.get("config.json").unwrap_or_default();
        let Ok(config) = serde_json::from_str::<Value>(text) else {
            return Ok(None);
        };
        let inner = &config["text_config"];
        let holder = if inner[KEY].is_object() {
            inner
        } else {
            &config
        };
        if !holder[KEY].is_object() {
            return Ok(None);
        }
        let file = match side.folder.as_str() {
            "" => "config.json".into(),
            folder => format!("{folder}/config.json"),
        };
        let table = Table {
            file: &file,
            name: KEY.into(),
            json: &holder[KEY],
        };
        let integers = |scheme| Some(Self::Integers(scheme));
        match table.get("quant_method").as_str() {
            Some("gptq") => Scheme::gptq(&table).map(integers),
            Some("awq") => Scheme::awq(&table).map(integers),
            Some("compressed-tensors") => Scheme::compressed(&table).map(integers),
            Some("torchao") => Ok(Some(Self::Torchao)),
            Some("bitsandbytes") => {
                let eight = table.get("load_in_8bit") == &Value::Bool(true);
                Ok(eight.then_some(Self::Integers(Scheme::Int8)))
            }
            Some(method) if BY_TENSORS.contains(&method) => Ok(None),
            _ => Err(table.refused(
                "quant_method",
                "awq, bitsandbytes, compressed-tensors, fp8, gptq, mxfp4, torchao, and the model as it was before it was quantised",
            )),
        }
    }

    /// That some tensors are quantised, but the configuration does not say how.
    pub fn missing(side: &SideFiles) -> Error {
        Error::Quantisation {
            name: format!("{}/config.json", side.folder),
            key: KEY.into(),
            value: "missing".into(),
            supported: "awq, compressed-tensors, gptq".into(),
        }
    }
}

impl Scheme {
    fn gptq(table: &Table<'_>) -> Result<Self> {
        table.without(&["is_marlin_format", "rotation", "adapter"])?;
        no_overrides(table)?;
        table.one_of(&["pack_dtype"], &["int32"])?;
        let format = table.one_of(&["checkpoint_format", "format"], &["gptq", "gptq_v2"])?;
        let group = table.group(&["group_size"])?;
        Ok(Self::Gptq {
            bits: table.bits(&["bits"], &[4, 8])?,
            group,
            minus_one: format == "gptq",
            // With one group there is no order.
            act_order: group.is_some() && table.get("desc_act") == &Value::Bool(true),
        })
    }

    fn awq(table: &Table<'_>) -> Result<Self> {
        table.without(&["rotation", "adapter"])?;
        no_overrides(table)?;
        table.bits(&["bits", "w_bit"], &[4])?;
        table.one_of(&["version", "format", "checkpoint_format"], &["gemm"])?;
        table.one_of(&["pack_dtype"], &["int32"])?;
        if table.get("backend") == "llm-awq" {
            return Err(table.refused("backend", "autoawq"));
        }
        let group = table.group(&["group_size", "q_group_size"])?;
        Ok(Self::Awq { group })
    }

    fn compressed(table: &Table<'_>) -> Result<Self> {
        const FORMATS: [&str; 4] = [
            "pack-quantized",
            "int-quantized",
            "float-quantized",
            "naive-quantized",
        ];
        table.without(&["kv_cache_scheme", "transform_config", "moe_sparsity_config"])?;
        let sparsity = table.within("sparsity_config");
        if !sparsity.json.is_null() && sparsity.json != &serde_json::json!({}) {
            sparsity.one_of(&["format"], &["dense"])?;
        }
        if table.get("format") != "mixed-precision" {
            table.one_of(&["format"], &FORMATS)?;
        }
        let groups = table.within("config_groups");
        let names = groups.json.as_object().filter(|g| !g.is_empty());
        let names = names.ok_or_else(|| table.refused("config_groups", "an object"))?;
        let (mut packed, mut has_zeros) = (None, false);
        for name in names.keys() {
            let group = groups.within(name);
            // Which modules a group is for, their tensors say.
            let from = if group.get("format").is_null() {
                table
            } else {
                &group
            };
            if from.get("format").is_null() {
                return Err(from.refused("format", &FORMATS.join(", ")));
            }
            let format = from.one_of(&["format"], &FORMATS)?;
            group.without(&["output_activations"])?;
            let input = group.within("input_activations");
            // Activations stay as they are, where others round each token's.
            if !input.json.is_null() && input.get("dynamic") != &Value::Bool(true) {
                return Err(input.refused("dynamic", "true"));
            }
            let weights = group.within("weights");
            let kind = weights.one_of(&["type"], &["int", "float"])?;
            match (format, kind) {
                ("pack-quantized", "int") => {
                    let bits = weights.bits(&["num_bits"], &[4, 8])?;
                    if packed.is_some_and(|other| other != bits) {
                        return Err(weights.refused("num_bits", "the same for all groups"));
                    }
                    packed = Some(bits);
                    weights.one_of(&["strategy"], &["tensor", "channel", "group"])?;
                }
                ("int-quantized" | "naive-quantized", "int") => {
                    weights.one_of(&["strategy"], &["tensor", "channel", "group"])?;
                }
                ("float-quantized" | "naive-quantized", "float") => {
                    weights.bits(&["num_bits"], &[8])?;
                    weights.one_of(&["strategy"], &["tensor", "channel", "block"])?;
                    if weights.get("symmetric") == &Value::Bool(false) {
                        return Err(weights.refused("symmetric", "true"));
                    }
                }
                _ => return Err(weights.refused("type", "what the format says")),
            }
            has_zeros |= kind == "int" && weights.get("symmetric") == &Value::Bool(false);
        }
        Ok(Self::Compressed { packed, has_zeros })
    }
}

/// GPTQModel's options of single modules: those that leave modules as they are have a name that begins with `-:`.
fn no_overrides(table: &Table<'_>) -> Result<()> {
    let rules = table.get("dynamic").as_object();
    match rules.is_some_and(|rules| rules.keys().any(|name| !name.starts_with("-:"))) {
        true => Err(table.refused("dynamic", "modules that are left as they are (`-:`)")),
        false => Ok(()),
    }
}
