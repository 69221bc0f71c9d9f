//! Scalings of rotary frequencies, for contexts longer than those of the training, as tables of `config.json` have them.
//! Source: `transformers/modeling_rope_utils.py`.

use std::cell::RefCell;

use serde_json::{Map, Value as Json};

use crate::config::Source;
use crate::rope::{Rope, plain};
use crate::{Dims, Result};

/// A table, and which of its keys were read.
pub(crate) struct Table<'a> {
    source: &'a Source<'a>,
    dims: &'a Dims,
    /// What messages call it.
    label: &'a str,
    table: &'a Map<String, Json>,
    read: RefCell<Vec<&'static str>>,
}

const ORIGINAL: &str = "original_max_position_embeddings";

impl<'a> Table<'a> {
    pub fn new(
        source: &'a Source<'a>,
        dims: &'a Dims,
        label: &'a str,
        table: &'a Map<String, Json>,
    ) -> Self {
        Self {
            source,
            dims,
            label,
            table,
            read: RefCell::default(),
        }
    }

    fn get(&self, key: &'static str) -> Option<&Json> {
        self.read.borrow_mut().push(key);
        self.table.get(key).filter(|v| !v.is_null())
    }

    fn label(&self, key: &str) -> String {
        format!("{}.{key}", self.label)
    }

    pub fn number(&self, key: &'static str) -> Result<Option<f32>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let value = value.as_f64().map(|v| v as f32);
        match value.filter(|v| v.is_finite() && *v > 0.0) {
            Some(value) => Ok(Some(value)),
            None => Err(self.source.wrong(&self.label(key), "a number above 0")),
        }
    }

    fn required(&self, key: &'static str) -> Result<f32> {
        let missing = || self.source.wrong(&self.label(key), "a number above 0");
        self.number(key)?.ok_or_else(missing)
    }

    fn factors(&self, key: &'static str, n: usize) -> Result<Vec<f32>> {
        let list = self.get(key).and_then(Json::as_array);
        let list: Option<Vec<f32>> = list.and_then(|list| {
            let numbers = list.iter().map(|v| v.as_f64().map(|v| v as f32));
            numbers.collect()
        });
        let sound = |list: &Vec<f32>| list.len() == n && list.iter().all(|f| *f > 0.0);
        list.filter(sound).ok_or_else(|| {
            let expected = "a number above 0 for each frequency";
            self.source.wrong(&self.label(key), expected)
        })
    }

    /// The context of the training, in tokens: here, above the table, or the model's own.
    fn original(&self) -> Result<f32> {
        let here = self.number(ORIGINAL)?;
        let above = self.source.uint(ORIGINAL, "")?.map(|n| n as f32);
        Ok(here.or(above).unwrap_or(self.dims.context_length as f32))
    }

    /// Changes plain frequencies as the table says.
    pub fn scale(&self, rope: &mut Rope) -> Result<()> {
        if self.source.has_vision || self.source.arch()?.starts_with("qwen3_5") {
            // Of images; the three positions of a token of text are the same.
            self.get("mrope_section");
            self.get("mrope_interleaved");
        }
        let kind = self.get("rope_type");
        let kind = self.get("type").filter(|_| kind.is_none()).or(kind);
        match kind.map_or(Some("default"), Json::as_str) {
            Some("default") => Ok(()),
            Some("linear") => self.linear(rope),
            Some("dynamic") => self.dynamic(rope),
            Some("llama3") => self.llama3(rope),
            Some("yarn") => self.yarn(rope),
            Some("longrope" | "su") => self.longrope(rope),
            Some(other) => {
                let key = self.label("rope_type");
                Err(self.source.unsupported(&key, other))
            }
            None => Err(self.source.wrong(&self.label("rope_type"), "a string")),
        }
    }

    pub fn is_proportional(&self) -> bool {
        let kind = self.table.get("rope_type").and_then(Json::as_str);
        kind == Some("proportional")
    }

    /// Of whole heads, of which only the first frequencies rotate anything.
    pub fn proportional(&self, theta: f32) -> Result<Rope> {
        self.get("rope_type");
        let part = self.number("partial_rotary_factor")?.unwrap_or(1.0);
        let factor = self.number("factor")?.unwrap_or(1.0);
        if part > 1.0 {
            let key = self.label("partial_rotary_factor");
            return Err(self.source.wrong(&key, "from above 0 to 1"));
        }
        let n = (self.dims.head_dim as f32 * part / 2.0) as usize;
        let mut inv_freq = plain(self.dims.head_dim, theta);
        inv_freq[n..].fill(0.0);
        inv_freq.iter_mut().for_each(|f| *f /= factor);
        self.finish()?;
        Ok(Rope::of(theta, inv_freq))
    }

    /// Refuses keys that were not read.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let mut keys = self.table.iter();
        let unread = keys.find(|(k, v)| !read.contains(&k.as_str()) && !v.is_null());
        match unread {
            Some((key, value)) => Err(self.source.unsupported(&self.label(key), value)),
            None => Ok(()),
        }
    }

    fn linear(&self, rope: &mut Rope) -> Result<()> {
        self.number(ORIGINAL)?;
        let factor = self.required("factor")?;
        rope.inv_freq.iter_mut().for_each(|f| *f /= factor);
        Ok(())
    }

    /// The base grows with the text once that is longer than the training's, which is not offered.
    fn dynamic(&self, rope: &mut Rope) -> Result<()> {
        self.required("factor")?;
        let original = self.original()? as usize;
        rope.context_length = Some(original).filter(|n| *n < self.dims.context_length);
        Ok(())
    }

    fn llama3(&self, rope: &mut Rope) -> Result<()> {
        let original = self.number(ORIGINAL)?;
        let (factor, low, high, original) = (
            self.required("factor")?,
            self.required("low_freq_factor")?,
            self.required("high_freq_factor")?,
            original.unwrap_or(self.dims.context_length as f32),
        );
        if high <= low {
            let key = self.label("high_freq_factor");
            return Err(self.source.wrong(&key, "above low_freq_factor"));
        }
        llama3(&mut rope.inv_freq, factor, low, high, original);
        Ok(())
    }

    fn yarn(&self, rope: &mut Rope) -> Result<()> {
        let original = self.original()?;
        let own = self.dims.context_length as f32 / original;
        let factor = self.number("factor")?.unwrap_or(own);
        let truncate = match self.get("truncate") {
            None => true,
            Some(Json::Bool(truncate)) => *truncate,
            Some(_) => return Err(self.source.wrong(&self.label("truncate"), "true or false")),
        };
        // Says again what is beside the table.
        self.number("max_position_embeddings")?;
        if self.number("llama_4_scaling_beta")?.is_some() {
            // Ministral 3's queries are scaled beyond that.
            rope.context_length = Some(original as usize).filter(|n| *n < self.dims.context_length);
        }
        let yarn = Yarn {
            factor,
            original,
            betas: [
                self.number("beta_fast")?.unwrap_or(32.0),
                self.number("beta_slow")?.unwrap_or(1.0),
            ],
            truncate,
        };
        yarn.apply(rope);
        let given = self.number("attention_factor")?;
        rope.scale = match (
            given,
            self.number("mscale")?,
            self.number("mscale_all_dim")?,
        ) {
            (Some(given), _, _) => given,
            (_, Some(m), Some(all)) => Yarn::scale(factor, m) / Yarn::scale(factor, all),
            _ => Yarn::scale(factor, 1.0),
        };
        Ok(())
    }

    /// LongRoPE (Ding et al., 2024) with its short factors: the long ones are for contexts beyond that of the training,
    /// which are not offered.
    fn longrope(&self, rope: &mut Rope) -> Result<()> {
        let original = self.original()?;
        let context = self.dims.context_length;
        let factor = self.number("factor")?.unwrap_or(context as f32 / original);
        let n = rope.inv_freq.len();
        let short = self.factors("short_factor", n)?;
        self.factors("long_factor", n)?;
        let frequencies = rope.inv_freq.iter_mut().zip(short);
        frequencies.for_each(|(f, by)| *f /= by);
        rope.context_length = Some(original as usize).filter(|n| *n < context);
        let grown = (1.0 + factor.ln() / original.ln()).sqrt();
        let default = if factor > 1.0 { grown } else { 1.0 };
        let given = self.number("attention_factor")?;
        // PhiMoE's own, for contexts up to the original one and beyond it.
        let own = self.number("short_mscale")?;
        self.number("long_mscale")?;
        rope.scale = own.or(given).unwrap_or(default);
        Ok(())
    }
}

/// YaRN (Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023), as
/// `_compute_yarn_parameters` has it: frequencies that turn often enough within the original context stay, those that
/// do not are divided by the factor, and those between are mixed.
pub(crate) struct Yarn {
    pub factor: f32,
    /// Tokens of the context before it was extended.
    pub original: f32,
    /// Turns within the original context from which on a frequency stays, and up to which it is divided.
    pub betas: [f32; 2],
    /// Whether the range between the two is widened to whole dimensions.
    pub truncate: bool,
}

impl Yarn {
    /// What rotated dimensions are multiplied by.
    pub fn scale(factor: f32, m: f32) -> f32 {
        match factor > 1.0 {
            true => 0.1 * m * factor.ln() + 1.0,
            false => 1.0,
        }
    }

    pub fn apply(&self, rope: &mut Rope) {
        let dim = 2.0 * rope.inv_freq.len() as f32;
        let [low, high] = self.betas.map(|turns| {
            let per_turn = turns * 2.0 * std::f32::consts::PI;
            dim * (self.original / per_turn).ln() / (2.0 * rope.theta.ln())
        });
        let (low, high) = match self.truncate {
            true => (low.floor(), high.ceil()),
            false => (low, high),
        };
        let (low, high) = (low.max(0.0), high.min(dim - 1.0));
        let width = if low == high { 0.001 } else { high - low };
        for (i, f) in rope.inv_freq.iter_mut().enumerate() {
            let divided = ((i as f32 - low) / width).clamp(0.0, 1.0);
            *f = *f / self.factor * divided + *f * (1.0 - divided);
        }
    }
}

/// Llama 3's scaling (`_compute_llama3_parameters`).
fn llama3(inv_freq: &mut [f32], factor: f32, low: f32, high: f32, original: f32) {
    for f in inv_freq {
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
