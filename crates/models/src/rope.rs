//! Frequencies of rotary embeddings: `1 / θ^(2i/d)` for each pair of dimensions, with the file's scaling applied.
//! Source: `transformers/modeling_rope_utils.py`; of transformers 4 and 5, whose keys differ, both are read.

use serde_json::{Map, Value as Json};

use crate::config::Source;
use crate::{Dims, Result};

/// A base, and what scales its frequencies.
pub(crate) struct Rope {
    pub theta: f32,
    pub inv_freq: Vec<f32>,
}

/// `1 / θ^(2i/d)`.
pub(crate) fn plain(head_dim: usize, theta: f32) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| 1.0 / theta.powf(2.0 * i as f32 / head_dim as f32))
        .collect()
}

impl Rope {
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
            return Self::of_gguf(source, dims, theta);
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

    /// Of Gemma 3: global layers, and local ones, which no scaling in the older form is for.
    pub fn read_both(source: &Source<'_>, dims: &Dims) -> Result<(Self, Self)> {
        const GLOBAL: f32 = 1_000_000.0;
        const LOCAL: f32 = 10_000.0;
        if source.is_gguf() {
            let theta = source.positive("", "rope.freq_base_swa", LOCAL)?;
            let inv_freq = plain(dims.head_dim, theta);
            return Ok((
                Self::of_gguf(source, dims, GLOBAL)?,
                Self { theta, inv_freq },
            ));
        }
        let thetas = [
            source.positive("rope_theta", "", GLOBAL)?,
            source.positive("rope_local_base_freq", "", LOCAL)?,
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
            other => return Err(source.unsupported(&format!("{label}.rope_type"), other)),
        }
        let mut keys = table.iter();
        let unread = keys.find(|(k, v)| !known.contains(&k.as_str()) && !v.is_null());
        match unread {
            Some((key, value)) => Err(source.unsupported(&format!("{label}.{key}"), value)),
            None => Ok(Self { theta, inv_freq }),
        }
    }

    /// Of a GGUF file. Llama 3's scaling comes as one factor per frequency.
    fn of_gguf(source: &Source<'_>, dims: &Dims, default_theta: f32) -> Result<Self> {
        let theta = source.positive("", "rope.freq_base", default_theta)?;
        let mut inv_freq = plain(dims.head_dim, theta);
        if let Some(factors) = source.tensor("rope_freqs.weight")? {
            let sound = |f: &f32| f.is_finite() && *f > 0.0;
            if factors.len() != inv_freq.len() || !factors.iter().all(sound) {
                return Err(source.wrong("rope_freqs.weight", "head_dim / 2 numbers above 0"));
            }
            inv_freq
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
        let attention = source.float("", "rope.scaling.attn_factor")?;
        if attention.is_some_and(|f| f != 1.0) {
            return Err(source.unsupported("rope.scaling.attn_factor", "other than 1"));
        }
        match source.str("", "rope.scaling.type")?.unwrap_or("linear") {
            "none" => {}
            "linear" if factor > 0.0 => inv_freq.iter_mut().for_each(|f| *f /= factor),
            "linear" => return Err(source.wrong("rope.scaling.factor", "a number above 0")),
            other => return Err(source.unsupported("rope.scaling.type", other)),
        }
        Ok(Self { theta, inv_freq })
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
