//! Frequencies of rotary embeddings: `1 / θ^(2i/d)` for each pair of dimensions, with the file's scaling applied.
//! Source: `transformers/modeling_rope_utils.py`; of transformers 4 and 5, whose keys differ, both are read.

use serde_json::{Map, Value as Json};

use crate::config::Source;
use crate::{Dims, Result};

/// A base, and what scales its frequencies.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    pub theta: f32,
    pub inv_freq: Vec<f32>,
    /// What rotated dimensions are multiplied by.
    pub scale: f32,
    /// The longest context that the frequencies are for, where it is not the model's.
    pub context_length: Option<usize>,
}

/// `1 / θ^(2i/d)`.
pub(crate) fn plain(head_dim: usize, theta: f32) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| 1.0 / theta.powf(2.0 * i as f32 / head_dim as f32))
        .collect()
}

impl Rope {
    fn of(theta: f32, inv_freq: Vec<f32>) -> Self {
        Self {
            theta,
            inv_freq,
            scale: 1.0,
            context_length: None,
        }
    }

    /// Of a family whose layers all have the same, and whose heads are rotated whole.
    pub fn read(source: &Source<'_>, dims: &Dims) -> Result<Self> {
        Self::read_with(source, dims, 10_000.0, None)
    }

    /// With another base where the file does not give one; and, of a family that may rotate a part of each head only,
    /// how much of it where the file does not say.
    pub fn read_with(
        source: &Source<'_>,
        dims: &Dims,
        theta: f32,
        partial: Option<f32>,
    ) -> Result<Self> {
        if source.is_gguf() {
            return Self::of_gguf(source, dims, theta, partial.is_some());
        }
        let theta = source.positive("rope_theta", "", theta)?;
        // transformers 5 takes the older of the two where both are there.
        let (old, new) = (
            source.table("rope_scaling")?,
            source.table("rope_parameters")?,
        );
        let empty = Map::new();
        let (label, table) = match (old, new) {
            (Some(t), _) => ("rope_scaling", t),
            (None, Some(t)) => ("rope_parameters", t),
            (None, None) => ("rope_parameters", &empty),
        };
        Self::of_table(source, dims, label, table, theta, partial)
    }

    /// Of a family whose layers with a window have a rope of their own: of global layers, and of local ones, which no
    /// scaling in the older form is for.
    pub fn read_both(
        source: &Source<'_>,
        dims: &Dims,
        [global, local]: [f32; 2],
    ) -> Result<(Self, Self)> {
        if source.is_gguf() {
            let theta = source.positive("", "rope.freq_base_swa", local)?;
            let inv_freq = plain(dims.head_dim, theta);
            return Ok((
                Self::of_gguf(source, dims, global, false)?,
                Self::of(theta, inv_freq),
            ));
        }
        let thetas = [
            source.positive("rope_theta", "", global)?,
            source.positive("rope_local_base_freq", "", local)?,
        ];
        let kinds = source.table("rope_parameters")?;
        if let Some(key) = kinds
            .into_iter()
            .flat_map(|k| k.keys())
            .find(|k| !["full_attention", "sliding_attention"].contains(&k.as_str()))
        {
            let key = format!("rope_parameters.{key}");
            return Err(source.wrong(&key, "one of full_attention and sliding_attention"));
        }
        let of = |kind: &str| -> Result<Map<String, Json>> {
            match kinds.and_then(|k| k.get(kind)) {
                None | Some(Json::Null) => Ok(Map::new()),
                Some(Json::Object(t)) => Ok(t.clone()),
                Some(_) => {
                    let key = format!("rope_parameters.{kind}");
                    Err(source.wrong(&key, "an object"))
                }
            }
        };
        let (mut full, sliding) = (of("full_attention")?, of("sliding_attention")?);
        if let Some(scaling) = source.table("rope_scaling")? {
            full.extend(scaling.clone());
        }
        let label = "rope_parameters.full_attention";
        let global = Self::of_table(source, dims, label, &full, thetas[0], None)?;
        let label = "rope_parameters.sliding_attention";
        let local = Self::of_table(source, dims, label, &sliding, thetas[1], None)?;
        Ok((global, local))
    }

    fn of_table(
        source: &Source<'_>,
        dims: &Dims,
        label: &str,
        table: &Map<String, Json>,
        theta: f32,
        partial: Option<f32>,
    ) -> Result<Self> {
        let number = |key: &str| -> Result<Option<f32>> {
            match table.get(key) {
                None | Some(Json::Null) => Ok(None),
                Some(v) => {
                    let v = v.as_f64().map(|v| v as f32);
                    let positive = v.filter(|v| v.is_finite() && *v > 0.0);
                    let key = format!("{label}.{key}");
                    positive
                        .map(Some)
                        .ok_or_else(|| source.wrong(&key, "a number above 0"))
                }
            }
        };
        let required = |key: &str| {
            number(key)?.ok_or_else(|| source.wrong(&format!("{label}.{key}"), "a number above 0"))
        };
        let kind = table
            .get("rope_type")
            .filter(|v| !v.is_null())
            .or(table.get("type"));
        let kind = match kind {
            None | Some(Json::Null) => "default",
            Some(Json::String(kind)) => kind,
            Some(_) => return Err(source.wrong(&format!("{label}.rope_type"), "a string")),
        };
        let theta = number("rope_theta")?.unwrap_or(theta);
        let found = number("partial_rotary_factor")?;
        let found = found.or(source.float("partial_rotary_factor", "")?);
        let part = match (partial, found) {
            (None, Some(part)) if part != 1.0 => {
                return Err(source.unsupported("partial_rotary_factor", part));
            }
            (None, _) => 1.0,
            (Some(default), found) => found.unwrap_or(default),
        };
        let rotary_dim = (dims.head_dim as f32 * part) as usize;
        if rotary_dim < 2 || rotary_dim > dims.head_dim {
            return Err(source.wrong("partial_rotary_factor", "from above 0 to 1"));
        }
        let mut known = vec!["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        let mut inv_freq = plain(rotary_dim, theta);
        let (mut scale, mut context_length) = (1.0, None);
        let trained = || -> Result<f32> {
            let here = number(ORIGINAL)?;
            let above = source.uint(ORIGINAL, "")?.map(|n| n as f32);
            Ok(here.or(above).unwrap_or(dims.context_length as f32))
        };
        match kind {
            "default" => {}
            "linear" => {
                known.extend(["factor", "original_max_position_embeddings"]);
                let factor = required("factor")?;
                inv_freq.iter_mut().for_each(|f| *f /= factor);
            }
            "llama3" => {
                known.extend([
                    "factor",
                    "low_freq_factor",
                    "high_freq_factor",
                    "original_max_position_embeddings",
                ]);
                let original = number("original_max_position_embeddings")?;
                let (factor, low, high, original) = (
                    required("factor")?,
                    required("low_freq_factor")?,
                    required("high_freq_factor")?,
                    original.unwrap_or(dims.context_length as f32),
                );
                if high <= low {
                    let key = format!("{label}.high_freq_factor");
                    return Err(source.wrong(&key, "above low_freq_factor"));
                }
                llama3(&mut inv_freq, factor, low, high, original);
            }
            "yarn" => {
                known.extend([
                    "factor",
                    "attention_factor",
                    "mscale",
                    "mscale_all_dim",
                    "beta_fast",
                    "beta_slow",
                    "truncate",
                    ORIGINAL,
                ]);
                let original = trained()?;
                let factor = number("factor")?.unwrap_or(dims.context_length as f32 / original);
                let yarn = Yarn {
                    factor,
                    original,
                    betas: [
                        number("beta_fast")?.unwrap_or(32.0),
                        number("beta_slow")?.unwrap_or(1.0),
                    ],
                    truncate: table
                        .get("truncate")
                        .and_then(Json::as_bool)
                        .unwrap_or(true),
                };
                yarn.apply(&mut inv_freq, theta);
                scale = match (
                    number("attention_factor")?,
                    number("mscale")?,
                    number("mscale_all_dim")?,
                ) {
                    (Some(given), _, _) => given,
                    (_, Some(m), Some(all)) => yarn_scale(factor, m) / yarn_scale(factor, all),
                    _ => yarn_scale(factor, 1.0),
                };
            }
            "longrope" | "su" => {
                known.extend([
                    "short_factor",
                    "long_factor",
                    "factor",
                    "attention_factor",
                    ORIGINAL,
                ]);
                let original = trained()?;
                let factor = number("factor")?.unwrap_or(dims.context_length as f32 / original);
                let factors = |key: &str| -> Result<Vec<f32>> {
                    let list = table.get(key).and_then(Json::as_array);
                    let list: Option<Vec<f32>> = list.and_then(|list| {
                        let numbers = list.iter().map(|v| v.as_f64().map(|v| v as f32));
                        numbers.collect::<Option<_>>()
                    });
                    list.filter(|l| l.len() == inv_freq.len() && l.iter().all(|f| *f > 0.0))
                        .ok_or_else(|| {
                            let key = format!("{label}.{key}");
                            source.wrong(&key, "a number above 0 for each frequency")
                        })
                };
                // The long factors are for contexts beyond those of the training, which are not offered.
                let short = factors("short_factor")?;
                factors("long_factor")?;
                inv_freq.iter_mut().zip(short).for_each(|(f, by)| *f /= by);
                context_length = Some(original as usize).filter(|n| *n < dims.context_length);
                let grown = (1.0 + factor.ln() / original.ln()).sqrt();
                let default = if factor > 1.0 { grown } else { 1.0 };
                scale = number("attention_factor")?.unwrap_or(default);
            }
            other => return Err(source.unsupported(&format!("{label}.rope_type"), other)),
        }
        let mut keys = table.iter();
        let unread = keys.find(|(k, v)| !known.contains(&k.as_str()) && !v.is_null());
        match unread {
            Some((key, value)) => Err(source.unsupported(&format!("{label}.{key}"), value)),
            None => Ok(Self {
                scale,
                context_length,
                ..Self::of(theta, inv_freq)
            }),
        }
    }

    /// Of a GGUF file. Llama 3's scaling comes as one factor per frequency.
    fn of_gguf(
        source: &Source<'_>,
        dims: &Dims,
        default_theta: f32,
        partial: bool,
    ) -> Result<Self> {
        let theta = source.positive("", "rope.freq_base", default_theta)?;
        const COUNT: &str = "rope.dimension_count";
        let rotary_dim = source.uint("", COUNT)?.unwrap_or(dims.head_dim);
        if rotary_dim != dims.head_dim && (!partial || rotary_dim < 2 || rotary_dim > dims.head_dim)
        {
            return Err(source.unsupported(COUNT, "rope on part of each head"));
        }
        let mut rope = Self::of(theta, plain(rotary_dim, theta));
        for tensor in ["rope_freqs.weight", "rope_factors_short.weight"] {
            let Some(factors) = source.tensor(tensor)? else {
                continue;
            };
            let sound = |f: &f32| f.is_finite() && *f > 0.0;
            if factors.len() != rope.inv_freq.len() || !factors.iter().all(sound) {
                return Err(source.wrong(tensor, "a number above 0 for each frequency"));
            }
            rope.inv_freq
                .iter_mut()
                .zip(factors)
                .for_each(|(f, by)| *f /= by);
        }
        let factor = match source.float("", "rope.scaling.factor")? {
            None => source.float("", "rope.scale_linear")?,
            some => some,
        };
        // A file without either has 0, or nothing.
        let factor = factor.filter(|f| *f != 0.0).unwrap_or(1.0);
        if factor < 0.0 {
            return Err(source.wrong("rope.scaling.factor", "a number above 0"));
        }
        rope.scale = source.positive("", "rope.scaling.attn_factor", 1.0)?;
        let original = source.uint("", "rope.scaling.original_context_length")?;
        if source.has_tensor("rope_factors_long.weight") {
            // The long factors are for contexts beyond those of the training, which are not offered.
            rope.context_length = original.filter(|n| *n < dims.context_length);
        }
        match source.str("", "rope.scaling.type")?.unwrap_or("linear") {
            "none" => {}
            "linear" => rope.inv_freq.iter_mut().for_each(|f| *f /= factor),
            "longrope" => {}
            "yarn" => {
                let yarn = Yarn {
                    factor,
                    original: original.unwrap_or(dims.context_length) as f32,
                    betas: [
                        source.positive("", "rope.scaling.yarn_beta_fast", 32.0)?,
                        source.positive("", "rope.scaling.yarn_beta_slow", 1.0)?,
                    ],
                    truncate: true,
                };
                yarn.apply(&mut rope.inv_freq, theta);
                rope.scale *= yarn_scale(factor, 1.0);
            }
            other => return Err(source.unsupported("rope.scaling.type", other)),
        }
        Ok(rope)
    }
}

const ORIGINAL: &str = "original_max_position_embeddings";

/// YaRN (Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023), as
/// `_compute_yarn_parameters` has it: frequencies that turn often enough within the original context stay, those that
/// do not are divided by the factor, and those between are mixed.
struct Yarn {
    factor: f32,
    /// Tokens of the context before it was extended.
    original: f32,
    /// Turns within the original context from which on a frequency stays, and up to which it is divided.
    betas: [f32; 2],
    /// Whether the range between the two is widened to whole dimensions.
    truncate: bool,
}

/// What YaRN multiplies rotated dimensions by.
fn yarn_scale(factor: f32, m: f32) -> f32 {
    match factor > 1.0 {
        true => 0.1 * m * factor.ln() + 1.0,
        false => 1.0,
    }
}

impl Yarn {
    fn apply(&self, inv_freq: &mut [f32], theta: f32) {
        let dim = 2.0 * inv_freq.len() as f32;
        let [low, high] = self.betas.map(|turns| {
            let per_turn = turns * 2.0 * std::f32::consts::PI;
            dim * (self.original / per_turn).ln() / (2.0 * theta.ln())
        });
        let (low, high) = match self.truncate {
            true => (low.floor(), high.ceil()),
            false => (low, high),
        };
        let (low, high) = (low.max(0.0), high.min(dim - 1.0));
        let width = if low == high { 0.001 } else { high - low };
        for (i, f) in inv_freq.iter_mut().enumerate() {
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
