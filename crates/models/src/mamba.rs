//! Mamba and Mamba 2: layers of one state space mixer each, without attention and MLP. Source:
//! `transformers/models/mamba`, `mamba2`. Also how other families' Mamba 2 layers are read.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_graph::ScanSpec;

use crate::config::Source;
use crate::dense::{DECODER, Dense, NAMES, Names, Parts};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::mixers::{GatedNorm, Mamba, Mamba2, Mixer};
use crate::{Dims, Result, Transform};

pub(crate) static MAMBA: Architecture = Architecture {
    read: |source| mamba(source, &MAMBA, None),
    ..MAMBA_LIKE
};

const MAMBA_LIKE: Architecture = Architecture {
    names: &["mamba"],
    gguf: Some("mamba"),
    model_type: "mamba",
    class: "MambaForCausalLM",
    defaults: Defaults {
        vocab_size: 50_280,
        hidden_size: 768,
        intermediate_size: 0,
        n_layers: 32,
        n_heads: 0,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        // States do not grow: what llama.cpp's converter writes.
        context_length: 1 << 20,
        tied: true,
    },
    layer_names: LAYER_NAMES,
    transform,
    top_names: BACKBONE,
    ..DECODER
};

/// Its GGUF files are those of Mamba with a switch.
pub(crate) static FALCON_MAMBA: Architecture = Architecture {
    names: &["falcon_mamba"],
    model_type: "falcon_mamba",
    class: "FalconMambaForCausalLM",
    read: |source| {
        let eps = source.positive("mixer_rms_eps", "", 1e-6)?;
        mamba(source, &FALCON_MAMBA, Some(eps))
    },
    ..MAMBA_LIKE
};

pub(crate) static MAMBA2: Architecture = Architecture {
    names: &["mamba2"],
    gguf: Some("mamba2"),
    model_type: "mamba2",
    class: "Mamba2ForCausalLM",
    defaults: Defaults {
        vocab_size: 32_768,
        hidden_size: 4096,
        n_layers: 64,
        tied: false,
        ..MAMBA_LIKE.defaults
    },
    read: mamba2,
    ..MAMBA_LIKE
};

pub(crate) const BACKBONE: &[(&str, &str)] = &[
    ("model.embed_tokens", "backbone.embeddings"),
    ("model.norm", "backbone.norm_f"),
];

const LAYER_NAMES: &[(&str, &str)] = &[
    ("norm", "attn_norm"),
    ("mixer.in_proj", "ssm_in"),
    ("mixer.conv1d", "ssm_conv1d"),
    ("mixer.x_proj", "ssm_x"),
    ("mixer.dt_proj", "ssm_dt"),
    ("mixer.dt_bias", "ssm_dt.bias"),
    ("mixer.A_log", "ssm_a"),
    ("mixer.D", "ssm_d"),
    ("mixer.norm", "ssm_norm"),
    ("mixer.out_proj", "ssm_out"),
];

const MAMBA_NAMES: Names = Names {
    layers: "backbone.layers",
    mixer: "mixer",
    norms: ["norm", "", "", ""],
    ..NAMES
};

/// GGUF files have −exp(A_log).
pub(crate) fn transform(InFile { tensor, gguf }: InFile<'_>, _: &Dims) -> Transform {
    match !gguf && tensor.ends_with(".A_log") {
        true => Transform::NegExp,
        false => Transform::None,
    }
}

fn dense(source: &Source<'_>, arch: &'static Architecture, mixer: Mixer, dims: Dims) -> Dense {
    let mut dense = Dense::like_llama(dims, arch, vec![]);
    dense.names = &MAMBA_NAMES;
    for layer in &mut dense.layers {
        layer.mixer = mixer;
        layer.parts = Parts::Mixer;
    }
    // The type of the sum of a layer and its input, which is f32 here.
    source.json_value("residual_in_fp32");
    dense
}

/// `norm_eps`: of a folder's norms within the mixer.
fn mamba(
    source: &Source<'_>,
    arch: &'static Architecture,
    norm_eps: Option<f32>,
) -> Result<Arc<dyn Family>> {
    let dims = Dims::without_heads(source, &arch.defaults)?;
    let d = dims.hidden_size;
    check_silu(source, "hidden_act")?;
    let step_rank = match source.json_value("time_step_rank") {
        Some(Json::String(auto)) if auto == "auto" => d.div_ceil(16),
        _ => size(
            source,
            "time_step_rank",
            "ssm.time_step_rank",
            d.div_ceil(16),
        )?,
    };
    let mixer = Mamba {
        kernel: size(source, "conv_kernel", "ssm.conv_kernel", 4)?,
        inner: inner(source, d)?,
        state_dim: size(source, "state_size", "ssm.state_size", 16)?,
        step_rank,
        conv_bias: bias(source, "use_conv_bias", "ssm_conv1d", true)?,
        bias: bias(source, "use_bias", "ssm_in", false)?,
        norm_eps: match source.bool("", "ssm.dt_b_c_rms")? {
            Some(true) => Some(dims.rms_norm_eps),
            _ => norm_eps,
        },
    };
    Ok(Arc::new(dense(source, arch, Mixer::Mamba(mixer), dims)))
}

fn mamba2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let dims = Dims::without_heads(source, &MAMBA2.defaults)?;
    check_silu(source, "hidden_act")?;
    const KEYS: Mamba2Keys = Mamba2Keys {
        n_heads: ("num_heads", 128),
        head_dim: "head_dim",
        n_groups: ("n_groups", 8),
        state_dim: ("state_size", 128),
        kernel: "conv_kernel",
        conv_bias: "use_conv_bias",
        bias: "use_bias",
    };
    // Of the first Mamba only.
    source.json_value("time_step_rank");
    let inner = inner(source, dims.hidden_size)?;
    let mixer = KEYS.read(source, inner, dims.rms_norm_eps)?;
    Ok(Arc::new(dense(source, &MAMBA2, Mixer::Mamba2(mixer), dims)))
}

fn size(source: &Source<'_>, json: &str, gguf: &str, default: usize) -> Result<usize> {
    let default = (!source.is_gguf()).then_some(default);
    source.size(json, gguf, default, 1 << 20)
}

fn inner(source: &Source<'_>, hidden_size: usize) -> Result<usize> {
    let expand = source.positive("expand", "", 2.0)?;
    // transformers 5 writes the product, too.
    let found = source.uint("intermediate_size", "ssm.inner_size")?;
    Ok(found.unwrap_or((expand * hidden_size as f32) as usize))
}

/// A switch of a configuration; of a GGUF file, whether a layer has such a bias.
fn bias(source: &Source<'_>, key: &str, tensor: &str, default: bool) -> Result<bool> {
    if !source.is_gguf() {
        return source.flag(key, default);
    }
    let n_layers = source.uint("", "block_count")?.unwrap_or(0);
    Ok((0..n_layers).any(|i| source.has_tensor(&format!("blk.{i}.{tensor}.bias"))))
}

/// # Errors
/// If the activation of the convolution is another one.
pub(crate) fn check_silu(source: &Source<'_>, key: &str) -> Result<()> {
    match source.str(key, "")? {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(source.unsupported(key, other)),
    }
}

/// What a family's `config.json` calls the sizes of its Mamba 2 layers, and its class's defaults.
pub(crate) struct Mamba2Keys {
    pub n_heads: (&'static str, usize),
    /// A number, or `auto`.
    pub head_dim: &'static str,
    pub n_groups: (&'static str, usize),
    pub state_dim: (&'static str, usize),
    pub kernel: &'static str,
    pub conv_bias: &'static str,
    pub bias: &'static str,
}

impl Mamba2Keys {
    /// A mixer of `inner` columns with a norm after its gate.
    pub fn read(&self, source: &Source<'_>, inner: usize, eps: f32) -> Result<Mamba2> {
        let n_heads = size(source, self.n_heads.0, "ssm.time_step_rank", self.n_heads.1)?;
        let head_dim = match source.json_value(self.head_dim) {
            Some(Json::String(auto)) if auto == "auto" => inner / n_heads,
            _ => source.uint(self.head_dim, "")?.unwrap_or(inner / n_heads),
        };
        if head_dim * n_heads != inner {
            return Err(source.wrong(self.n_heads.0, "the inner size divided by the heads' size"));
        }
        let spec = ScanSpec {
            n_heads,
            head_dim,
            n_groups: size(source, self.n_groups.0, "ssm.group_count", self.n_groups.1)?,
            state_dim: size(source, self.state_dim.0, "ssm.state_size", self.state_dim.1)?,
            step_limits: step_limits(source)?,
        };
        let has_bias = bias(source, self.bias, "ssm_in", false)?;
        Ok(Mamba2 {
            kernel: size(source, self.kernel, "ssm.conv_kernel", 4)?,
            spec,
            conv_bias: bias(source, self.conv_bias, "ssm_conv1d", true)?,
            in_bias: has_bias,
            out_bias: has_bias,
            norm: Some(GatedNorm {
                eps,
                before_gate: false,
                by_group: source.is_gguf(),
            }),
            scales: [1.0; 5],
        })
    }
}

/// The least and the largest step size.
fn step_limits(source: &Source<'_>) -> Result<[f32; 2]> {
    const KEY: &str = "time_step_limit";
    let number = |v: &Json| match v {
        // As transformers 5 writes what JSON does not have.
        Json::Object(o) => match o.get("__float__").and_then(Json::as_str) {
            Some("Infinity") => Some(f32::INFINITY),
            _ => None,
        },
        v => v.as_f64().map(|v| v as f32),
    };
    match source.json_value(KEY) {
        None | Some(Json::Null) => Ok([0.0, f32::INFINITY]),
        Some(Json::Array(list)) => match list.iter().map(number).collect::<Option<Vec<_>>>() {
            Some(limits) if limits.len() == 2 && limits[0] <= limits[1] => {
                Ok([limits[0], limits[1]])
            }
            _ => Err(source.wrong(KEY, "two numbers, the lower one first")),
        },
        Some(_) => Err(source.wrong(KEY, "two numbers, the lower one first")),
    }
}
