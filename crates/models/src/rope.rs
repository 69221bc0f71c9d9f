//! Frequencies of rotary embeddings: `1 / θ^(2i/d)` for each pair of dimensions, with the file's scaling applied.
//! Source: `transformers/modeling_rope_utils.py`; of transformers 4 and 5, whose keys differ, both are read.

use serde_json::{Map, Value as Json};

use crate::config::Source;
use crate::rope_scaling::{Table, Yarn};
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
    pub fn of(theta: f32, inv_freq: Vec<f32>) -> Self {
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
    pub fn read_both(source: &Source<'_>, dims: &Dims, thetas: [f32; 2]) -> Result<(Self, Self)> {
        Self::read_kinds(source, [dims, dims], thetas)
    }

    /// The same, with heads of another size in each kind of layers.
    pub fn read_kinds(
        source: &Source<'_>,
        dims: [&Dims; 2],
        [global, local]: [f32; 2],
    ) -> Result<(Self, Self)> {
        if source.is_gguf() {
            let theta = source.positive("", "rope.freq_base_swa", local)?;
            let inv_freq = plain(dims[1].head_dim, theta);
            return Ok((
                Self::of_gguf(source, dims[0], global, false)?,
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
        let global = Self::of_table(source, dims[0], label, &full, thetas[0], None)?;
        let label = "rope_parameters.sliding_attention";
        let local = Self::of_table(source, dims[1], label, &sliding, thetas[1], None)?;
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
        let table = Table::new(source, dims, label, table);
        let theta = table.number("rope_theta")?.unwrap_or(theta);
        if table.is_proportional() {
            return table.proportional(theta);
        }
        let found = table.number("partial_rotary_factor")?;
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
        let mut rope = Self::of(theta, plain(rotary_dim, theta));
        table.scale(&mut rope)?;
        table.finish()?;
        Ok(rope)
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
            "longrope" if source.has_tensor("rope_factors_short.weight") => {}
            "yarn" => {
                let yarn = Yarn {
                    factor,
                    original: original.unwrap_or(dims.context_length) as f32,
                    betas: [
                        source.positive("", "rope.scaling.yarn_beta_fast", 32.0)?,
                        source.positive("", "rope.scaling.yarn_beta_slow", 1.0)?,
                    ],
                    // gpt-oss is the only one of these that does not, which files do not say.
                    truncate: source.arch()? != "gpt-oss",
                };
                yarn.apply(&mut rope);
                // What `config.json` calls mscale_all_dim.
                let all = source.float("", "rope.scaling.yarn_log_multiplier")?;
                let all = all.map_or(1.0, |all| Yarn::scale(factor, all));
                // DeepSeek's files do not say what it calls mscale, which is the same in its models.
                if source.arch()? != "deepseek2" {
                    rope.scale *= Yarn::scale(factor, 1.0) / all;
                }
            }
            other => return Err(source.unsupported("rope.scaling.type", other)),
        }
        Ok(rope)
    }
}
