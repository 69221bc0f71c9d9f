//! Configurations, read from `config.json` or GGUF metadata. A family reads each key that it knows; what nobody
//! read when it is done is refused, unless it is on the list of harmless keys.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use siskin_formats::{Array, Checkpoint, Gguf, SideFiles, Value};

use crate::{Error, Result, gpt2, harmless};

/// Where a configuration is read from, and which of its keys were.
pub(crate) struct Source<'a> {
    from: From<'a>,
    read: RefCell<BTreeSet<String>>,
    /// Whether a model for images, too, of which this is the part for text.
    pub has_vision: bool,
}

enum From<'a> {
    Json(Map<String, Json>),
    Gguf(&'a Gguf, &'a Checkpoint),
}

/// The folder's `config.json`.
pub(crate) fn read_json(side: &SideFiles) -> Result<Json> {
    let error = |what: String| Error::Config {
        path: format!("{}/config.json", side.folder),
        what,
    };
    let text = side
        .get("config.json")
        .ok_or_else(|| error("it is not there, and a Hugging Face folder needs it".into()))?;
    serde_json::from_str(text).map_err(|e| error(e.to_string()))
}

/// The language part of a configuration for several kinds of input: its own object, and what is above for what that
/// does not say. Whether the head is tied is said above only.
pub(crate) fn text_part(mut config: Map<String, Json>) -> Map<String, Json> {
    const TIED: &str = "tie_word_embeddings";
    let Some(Json::Object(mut text)) = config.remove("text_config") else {
        return config;
    };
    text.shift_remove(TIED);
    if let Some(kind) = config.get("model_type").and_then(Json::as_str) {
        text.entry("model_type")
            .or_insert(format!("{kind}_text").into());
    }
    for (key, value) in config {
        text.entry(key).or_insert(value);
    }
    text
}

impl<'a> Source<'a> {
    pub fn gguf(gguf: &'a Gguf, checkpoint: &'a Checkpoint) -> Self {
        Self {
            from: From::Gguf(gguf, checkpoint),
            read: RefCell::default(),
            has_vision: false,
        }
    }

    /// # Errors
    /// If the configuration is not an object.
    pub fn json(config: Json) -> Result<Self> {
        let Json::Object(mut config) = config else {
            return Err(Error::Config {
                path: "config.json".into(),
                what: "it is not an object".into(),
            });
        };
        let has_vision = config.get("text_config").is_some_and(Json::is_object);
        if has_vision {
            config = text_part(config);
        }
        let config = gpt2::renamed(config);
        Ok(Self {
            from: From::Json(config),
            read: RefCell::default(),
            has_vision,
        })
    }

    pub fn is_gguf(&self) -> bool {
        matches!(self.from, From::Gguf(..))
    }

    pub fn name(&self) -> String {
        match &self.from {
            From::Json(_) => "config.json".into(),
            From::Gguf(gguf, _) => gguf.name.clone(),
        }
    }

    /// The error for a key that is missing or not what it should be.
    pub fn wrong(&self, key: &str, expected: &'static str) -> Error {
        Error::Key {
            name: self.name(),
            key: key.into(),
            expected,
        }
    }

    /// The error for a key whose value is understood but not supported.
    pub fn unsupported(&self, key: &str, value: impl std::fmt::Display) -> Error {
        Error::Unsupported {
            name: self.name(),
            key: key.into(),
            value: shortened(value.to_string()),
        }
    }

    pub fn arch(&self) -> Result<String> {
        let (key, arch) = match &self.from {
            From::Json(_) => ("model_type", self.json_value("model_type")),
            From::Gguf(gguf, _) => {
                let arch = gguf.str("general.architecture").map(String::from);
                return arch.ok_or_else(|| self.wrong("general.architecture", "a string"));
            }
        };
        let arch = arch.and_then(Json::as_str).map(String::from);
        arch.ok_or_else(|| self.wrong(key, "a string"))
    }

    /// A key of `config.json`, even if it is null; `None` for GGUF files.
    pub fn json_value(&self, key: &str) -> Option<&Json> {
        let From::Json(json) = &self.from else {
            return None;
        };
        self.read.borrow_mut().insert(key.into());
        json.get(key)
    }

    /// A key of the GGUF metadata, which carries the architecture's name before it.
    pub fn gguf_value(&self, key: &str) -> Option<&Value> {
        let From::Gguf(gguf, _) = &self.from else {
            return None;
        };
        let key = Self::full(gguf, key);
        let value = gguf.get(&key);
        self.read.borrow_mut().insert(key);
        value
    }

    fn full(gguf: &Gguf, key: &str) -> String {
        let arch = gguf.str("general.architecture").unwrap_or_default();
        format!("{arch}.{key}")
    }

    /// What messages call a key.
    fn label(&self, json_key: &str, gguf_key: &str) -> String {
        match &self.from {
            From::Json(_) => json_key.into(),
            From::Gguf(gguf, _) => Self::full(gguf, gguf_key),
        }
    }

    pub fn is_null(&self, key: &str) -> bool {
        self.json_value(key).is_some_and(Json::is_null)
    }

    /// An integer by its name in `config.json` and in GGUF; `None` where it is missing or null.
    pub fn uint(&self, json_key: &str, gguf_key: &str) -> Result<Option<usize>> {
        let json = self.json_value(json_key).filter(|v| !v.is_null());
        let found = match (json, self.gguf_value(gguf_key)) {
            (Some(v), _) => Some(as_uint(v)),
            (_, Some(v)) => Some(match v {
                Value::Uint(v) => Some(*v),
                Value::Int(v) => u64::try_from(*v).ok(),
                // One number per layer.
                Value::Array(Array::Int(list)) => {
                    let first = list.first().copied();
                    if list.iter().any(|v| Some(*v) != first) {
                        let key = self.label(json_key, gguf_key);
                        return Err(self.unsupported(&key, "different in each layer"));
                    }
                    first.and_then(|v| u64::try_from(v).ok())
                }
                _ => None,
            }),
            _ => None,
        };
        match found {
            None => Ok(None),
            Some(v) => match v.and_then(|v| usize::try_from(v).ok()) {
                Some(v) => Ok(Some(v)),
                None => Err(self.wrong(&self.label(json_key, gguf_key), "an integer")),
            },
        }
    }

    /// Of a GGUF file: one number for each layer, where they are not all the same.
    pub fn by_layer(&self, gguf_key: &str, n_layers: usize) -> Result<Option<Vec<usize>>> {
        let Some(Value::Array(Array::Int(list))) = self.gguf_value(gguf_key) else {
            return Ok(None);
        };
        if list.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(None);
        }
        let numbers: Option<Vec<usize>> = list.iter().map(|v| usize::try_from(*v).ok()).collect();
        numbers
            .filter(|numbers| numbers.len() == n_layers)
            .map(Some)
            .ok_or_else(|| self.wrong(&self.label("", gguf_key), "a number for each layer"))
    }

    /// A number that is finite; `None` where it is missing or null.
    pub fn float(&self, json_key: &str, gguf_key: &str) -> Result<Option<f32>> {
        let json = self.json_value(json_key).filter(|v| !v.is_null());
        let found = match (json, self.gguf_value(gguf_key)) {
            (Some(v), _) => Some(v.as_f64()),
            (_, Some(v)) => Some(match v {
                Value::Float(v) => Some(*v),
                Value::Uint(v) => Some(*v as f64),
                Value::Int(v) => Some(*v as f64),
                _ => None,
            }),
            _ => None,
        };
        match found {
            None => Ok(None),
            Some(v) => match v.map(|v| v as f32).filter(|v| v.is_finite()) {
                Some(v) => Ok(Some(v)),
                None => Err(self.wrong(&self.label(json_key, gguf_key), "a finite number")),
            },
        }
    }

    /// A number above 0; the default where it is missing or null.
    pub fn positive(&self, json_key: &str, gguf_key: &str, default: f32) -> Result<f32> {
        let value = self.float(json_key, gguf_key)?.unwrap_or(default);
        if value > 0.0 {
            return Ok(value);
        }
        Err(self.wrong(&self.label(json_key, gguf_key), "a number above 0"))
    }

    pub fn bool(&self, json_key: &str, gguf_key: &str) -> Result<Option<bool>> {
        let json = self.json_value(json_key).filter(|v| !v.is_null());
        let found = match (json, self.gguf_value(gguf_key)) {
            (Some(v), _) => Some(v.as_bool()),
            (_, Some(Value::Bool(v))) => Some(Some(*v)),
            (_, Some(_)) => Some(None),
            _ => None,
        };
        match found {
            None => Ok(None),
            Some(Some(v)) => Ok(Some(v)),
            Some(None) => Err(self.wrong(&self.label(json_key, gguf_key), "true or false")),
        }
    }

    pub fn str(&self, json_key: &str, gguf_key: &str) -> Result<Option<&str>> {
        let json = self.json_value(json_key).filter(|v| !v.is_null());
        let found = match (json, self.gguf_value(gguf_key)) {
            (Some(v), _) => Some(v.as_str()),
            (_, Some(Value::String(v))) => Some(Some(v.as_str())),
            (_, Some(_)) => Some(None),
            _ => None,
        };
        match found {
            None => Ok(None),
            Some(Some(v)) => Ok(Some(v)),
            Some(None) => Err(self.wrong(&self.label(json_key, gguf_key), "a string")),
        }
    }

    /// A size of at least 1; `default` where it is missing.
    pub fn size(
        &self,
        json_key: &str,
        gguf_key: &str,
        default: Option<usize>,
        max: usize,
    ) -> Result<usize> {
        let value = self.uint(json_key, gguf_key)?.or(default);
        value.filter(|v| (1..=max).contains(v)).ok_or_else(|| {
            let key = self.label(json_key, gguf_key);
            self.wrong(&key, "a positive number within limits")
        })
    }

    /// A switch of `config.json`; `default` where it is missing or null.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.bool(key, "")?.unwrap_or(default))
    }

    /// Refuses a switch that is on.
    pub fn off(&self, json_key: &str, gguf_key: &str) -> Result<()> {
        match self.bool(json_key, gguf_key)? {
            Some(true) => Err(self.unsupported(&self.label(json_key, gguf_key), true)),
            _ => Ok(()),
        }
    }

    /// A table of `config.json`; `None` where it is missing or null.
    pub fn table(&self, key: &str) -> Result<Option<&Map<String, Json>>> {
        match self.json_value(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// Of a GGUF file: the numbers of a key that has no architecture's name before it.
    pub fn gguf_floats(&self, key: &str) -> Option<Vec<f32>> {
        let From::Gguf(gguf, _) = &self.from else {
            return None;
        };
        match gguf.get(key)? {
            Value::Array(Array::Float(list)) => Some(list.clone()),
            _ => None,
        }
    }

    /// Of a GGUF file: whether it has a tensor.
    pub fn has_tensor(&self, name: &str) -> bool {
        match &self.from {
            From::Json(_) => false,
            From::Gguf(_, checkpoint) => checkpoint.find(name).is_some(),
        }
    }

    /// Of a GGUF file: the values of a tensor, where there is one.
    pub fn tensor(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let From::Gguf(_, checkpoint) = &self.from else {
            return Ok(None);
        };
        let info = checkpoint.find(name);
        Ok(info.map(|info| checkpoint.read_f32(info)).transpose()?)
    }

    /// Of a GGUF file: the rows of a tensor, where there is one.
    pub fn rows_of(&self, name: &str) -> Option<usize> {
        let From::Gguf(_, checkpoint) = &self.from else {
            return None;
        };
        checkpoint.find(name)?.shape.first().copied()
    }

    /// The rows of a GGUF file's embedding: files name their vocabulary's size only sometimes.
    pub fn embedding_rows(&self) -> Result<Option<usize>> {
        match &self.from {
            From::Json(_) => Ok(None),
            From::Gguf(_, checkpoint) => Ok(Some(checkpoint.get("token_embd.weight")?.shape[0])),
        }
    }

    /// Refuses a configuration with keys that were not read.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        match &self.from {
            From::Json(json) => {
                let mut keys = json.iter();
                let unknown = keys.find(|(k, v)| !read.contains(*k) && !harmless::json_key(k, v));
                unknown.map_or(Ok(()), |(key, value)| Err(self.unsupported(key, value)))
            }
            From::Gguf(gguf, _) => {
                let prefix = Self::full(gguf, "");
                let mut unknown: Vec<&String> = vec![];
                for (key, value) in &gguf.header.metadata {
                    let Some(inner) = key.strip_prefix(&prefix) else {
                        continue;
                    };
                    if !read.contains(key) && !is_off(value) && !harmless::gguf_key(inner) {
                        unknown.push(key);
                    }
                }
                let first = unknown.into_iter().min().map(|key| (key, gguf.get(key)));
                first.map_or(Ok(()), |(key, value)| {
                    Err(self.unsupported(key, value.map_or(String::new(), shown)))
                })
            }
        }
    }
}

/// Enough of a value to know it by.
fn shortened(value: String) -> String {
    match value.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value,
    }
}

/// An integer, even if it is written `1e6`.
fn as_uint(v: &Json) -> Option<u64> {
    let whole = |v: &f64| *v >= 0.0 && v.fract() == 0.0 && *v < 9e15;
    v.as_u64()
        .or_else(|| v.as_f64().filter(whole).map(|v| v as u64))
}

/// Zero and false are how GGUF files say that they do without something.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Int(v) => *v == 0,
        Value::Uint(v) => *v == 0,
        Value::Float(v) => *v == 0.0,
        Value::Bool(v) => !*v,
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Int(v) => v.to_string(),
        Value::Uint(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::String(v) => v.clone(),
        Value::Array(_) => "a list".into(),
    }
}

/// Refuses weights that were quantised in a way whose tensors are not read. Where `siskin-formats` reads the
/// configuration itself, a folder was refused when it was opened.
pub(crate) fn check_quantisation(source: &Source<'_>) -> Result<()> {
    const KEY: &str = "quantization_config";
    let Some(table) = source.table(KEY)? else {
        return Ok(());
    };
    let text = |key: &str| table.get(key).and_then(Json::as_str);
    match text("quant_method") {
        Some("bitsandbytes") if table.get("load_in_8bit") != Some(&Json::Bool(true)) => {
            match text("bnb_4bit_quant_type") {
                Some("nf4") => Ok(()),
                other => {
                    let key = format!("{KEY}.bnb_4bit_quant_type");
                    Err(source.unsupported(&key, other.unwrap_or("fp4")))
                }
            }
        }
        // A tensor's own type says how; parts of the model that are left as they are have theirs.
        Some("bitsandbytes" | "mxfp4" | "gptq" | "awq" | "compressed-tensors" | "torchao") => {
            Ok(())
        }
        // Activations stay as they are, where transformers rounds them on some devices.
        Some("fp8") => match text("activation_scheme") {
            None | Some("dynamic") => Ok(()),
            Some(other) => Err(source.unsupported(&format!("{KEY}.activation_scheme"), other)),
        },
        other => {
            let key = format!("{KEY}.quant_method");
            Err(source.unsupported(&key, other.unwrap_or("missing")))
        }
    }
}
