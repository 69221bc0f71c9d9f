//! Another scaling of rotary frequencies than a model's own, for a longer context: as if its file said so.

use std::str::FromStr;

use serde_json::{Map, Value as Json};
use siskin_formats::{Checkpoint, Value};

use crate::config;
use crate::{Error, Result};

/// How frequencies are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeScalingKind {
    /// Not at all.
    None,
    /// All are divided by the factor (S. Chen et al., "Extending Context Window of Large Language Models via Positional
    /// Interpolation", 2023).
    Linear,
    /// YaRN (B. Peng et al., 2023).
    Yarn,
}

impl RopeScalingKind {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Linear => "linear",
            Self::Yarn => "yarn",
        }
    }
}

impl FromStr for RopeScalingKind {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let all = [Self::None, Self::Linear, Self::Yarn];
        let found = all.into_iter().find(|k| k.name() == s);
        found.ok_or_else(|| "use none, linear or yarn".into())
    }
}

/// A scaling in place of a model's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeScaling {
    /// How.
    pub kind: RopeScalingKind,
    /// How many times longer the context gets.
    pub factor: f32,
    /// The context that the model was trained for without scaling, in tokens; by default what the file says.
    pub original_context: Option<usize>,
}

impl RopeScaling {
    /// Changes what the model's file says. A GGUF file's factors for single frequencies (`rope_freqs.weight`) stay.
    ///
    /// # Errors
    /// If the file's configuration cannot be read, or the factor is not a number from 1 on.
    pub fn apply(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        let is_none = self.kind == RopeScalingKind::None;
        if !self.factor.is_finite() || self.factor < 1.0 || is_none && self.factor != 1.0 {
            return Err(Error::Config {
                path: checkpoint.name.clone(),
                what: format!(
                    "a rope scaling of {} by {} is not possible; the factor must be at least 1, and 1 for none",
                    self.kind.name(),
                    self.factor
                ),
            });
        }
        match checkpoint.gguf.is_some() {
            true => self.apply_to_gguf(checkpoint),
            false => self.apply_to_json(checkpoint),
        }
    }

    fn extended(&self, original: usize) -> usize {
        (original as f32 * self.factor) as usize
    }

    fn apply_to_gguf(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        let Some(gguf) = &mut checkpoint.gguf else {
            return Ok(());
        };
        let arch = gguf.str("general.architecture").unwrap_or_default();
        let key = |name: &str| format!("{arch}.{name}");
        let scaling = key("rope.scaling.");
        let [context, linear] = [key("context_length"), key("rope.scale_linear")];
        let [kind, factor, original_key] =
            ["type", "factor", "original_context_length"].map(|name| format!("{scaling}{name}"));
        let metadata = &mut gguf.header.metadata;
        let number = |key: &str| match metadata.get(key) {
            Some(Value::Uint(n)) => Some(*n as usize),
            Some(Value::Int(n)) => usize::try_from(*n).ok(),
            _ => None,
        };
        let original = (self.original_context)
            .or(number(&original_key))
            .or(number(&context));
        metadata.retain(|k, _| !k.starts_with(&scaling) && *k != linear);
        metadata.insert(kind, Value::String(self.kind.name().into()));
        metadata.insert(factor, Value::Float(self.factor.into()));
        if let Some(original) = original {
            metadata.insert(context, Value::Uint(self.extended(original) as u64));
            metadata.insert(original_key, Value::Uint(original as u64));
        }
        Ok(())
    }

    fn apply_to_json(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        const CONTEXT: &str = "max_position_embeddings";
        let mut config = config::read_json(&checkpoint.side)?;
        // The language part of a model for images.
        let text = match config.get("text_config") {
            Some(Json::Object(_)) => &mut config["text_config"],
            _ => &mut config,
        };
        let Some(text) = text.as_object_mut() else {
            return Ok(());
        };
        let old = text.remove("rope_scaling");
        let tables = [old.as_ref(), text.get("rope_parameters")];
        let number = |table: Option<&Json>| Some(table?.get(ORIGINAL)?.as_u64()? as usize);
        let given = self.original_context;
        let given = given.or(tables.into_iter().find_map(number));
        let above = |key: &str| text.get(key).and_then(Json::as_u64).map(|n| n as usize);
        let original = given.or(above(ORIGINAL)).or(above(CONTEXT));
        // Tables of transformers 5 hold more than the scaling, and may be one for each kind of layers, of which those with a
        // window are not scaled.
        let mut older = Map::new();
        let table = match text.get_mut("rope_parameters") {
            Some(Json::Object(kinds)) if kinds.contains_key("full_attention") => kinds
                .get_mut("full_attention")
                .and_then(Json::as_object_mut),
            Some(Json::Object(table)) => Some(table),
            _ => None,
        };
        let table = table.unwrap_or(&mut older);
        table.retain(|k, _| ["rope_theta", "partial_rotary_factor"].contains(&k.as_str()));
        if self.kind != RopeScalingKind::None {
            table.insert("rope_type".into(), self.kind.name().into());
            table.insert("factor".into(), self.factor.into());
            if let Some(original) = original {
                table.insert(ORIGINAL.into(), original.into());
            }
        }
        if !older.is_empty() {
            text.insert("rope_scaling".into(), Json::Object(older));
        }
        if let Some(original) = original {
            text.insert(CONTEXT.into(), self.extended(original).into());
        }
        checkpoint.side.add("config.json", config.to_string());
        Ok(())
    }
}
