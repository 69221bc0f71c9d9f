//! Nemotron-H: each layer is Mamba 2, attention without rope, an MLP, or experts without gates. Source:
//! `transformers/models/nemotron_h`.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_graph::{Activation, Score};

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Layer, Mlp, NAMES, Names, Parts, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::mamba::{self, Mamba2Keys};
use crate::mixers::{Mamba2, Mixer};
use crate::moe::{Moe, Shared};
use crate::{Dims, Result, blocks, moe};

pub(crate) static NEMOTRON_H: Architecture = Architecture {
    names: &["nemotron_h", "nemotron_h_moe"],
    gguf: Some("nemotron_h"),
    model_type: "nemotron_h",
    class: "NemotronHForCausalLM",
    defaults: Defaults {
        vocab_size: 131_072,
        hidden_size: 4096,
        intermediate_size: 21_504,
        n_layers: 4,
        n_heads: 32,
        n_kv_heads: Some(8),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        context_length: 4096,
        tied: false,
    },
    read: nemotron_h,
    layer_names: LAYER_NAMES,
    transform: mamba::transform,
    top_names: &[
        ("model.embed_tokens", "backbone.embeddings"),
        ("model.norm", "backbone.norm_f"),
    ],
    ..DECODER
};

const LAYER_NAMES: &[(&str, &str)] = &[
    ("norm", "attn_norm"),
    ("mixer.in_proj", "ssm_in"),
    ("mixer.conv1d", "ssm_conv1d"),
    ("mixer.dt_bias", "ssm_dt.bias"),
    ("mixer.A_log", "ssm_a"),
    ("mixer.D", "ssm_d"),
    ("mixer.norm", "ssm_norm"),
    ("mixer.out_proj", "ssm_out"),
    ("mixer.q_proj", "attn_q"),
    ("mixer.k_proj", "attn_k"),
    ("mixer.v_proj", "attn_v"),
    ("mixer.o_proj", "attn_output"),
    ("mixer.up_proj", "ffn_up"),
    ("mixer.down_proj", "ffn_down"),
];

const NEMOTRON_H_NAMES: Names = Names {
    layers: "backbone.layers",
    attention: "mixer",
    mixer: "mixer",
    mlp: "mixer",
    norms: ["norm", "", "", ""],
    ..NAMES
};

/// How a folder stores experts; the first of the projections is of those with a gate.
const EXPERTS: moe::Names = moe::Names {
    module: "mixer",
    choice: "gate.e_score_correction_bias",
    stored: moe::Stored::Apart(["", "up_proj", "down_proj"]),
    shared: "shared_experts",
    ..moe::NAMES
};

/// Keys of experts that a file without experts has too, and of what only training reads.
const NOT_READ: [&str; 12] = [
    "moe_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "moe_shared_expert_overlap",
    "mtp_layers_block_type",
    "n_routed_experts",
    "n_shared_experts",
    "norm_topk_prob",
    "num_experts_per_tok",
    "num_nextn_predict_layers",
    "routed_scaling_factor",
    "mamba_proj_bias",
    "expand",
];

/// What a layer may be.
#[derive(Clone, Copy)]
enum Kind {
    Mamba,
    Attention,
    Mlp,
    Experts,
}

impl Kind {
    fn layer(self, mamba: Mamba2) -> Layer {
        let (mixer, parts) = match self {
            Self::Mamba => (Mixer::Mamba2(mamba), Parts::Mixer),
            Self::Attention => (Mixer::Attention, Parts::Mixer),
            Self::Mlp | Self::Experts => (Mixer::Attention, Parts::Mlp),
        };
        Layer {
            mixer,
            parts,
            is_sparse: matches!(self, Self::Experts),
            window: None,
            rope: None,
        }
    }
}

fn nemotron_h(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let kinds = kinds(source)?;
    let mut dims = Dense::sizes(source, &NEMOTRON_H)?;
    let n = dims.n_layers;
    if kinds.as_ref().is_some_and(|kinds| kinds.len() != n) && !source.is_null("num_hidden_layers")
    {
        let found = source.uint("num_hidden_layers", "")?;
        if found.is_some() {
            return Err(source.wrong("num_hidden_layers", "as many as layers_block_type has"));
        }
    }
    if let Some(kinds) = &kinds {
        dims.n_layers = kinds.len();
    }
    // GGUF files have it by either name.
    let eps = source.positive("layer_norm_epsilon", "attention.layer_norm_epsilon", 1e-5)?;
    dims.rms_norm_eps = source.positive("", "attention.layer_norm_rms_epsilon", eps)?;
    // Nothing is rotated.
    source.gguf_value("rope.dimension_count");
    let kinds = match kinds {
        Some(kinds) => kinds,
        None => (0..dims.n_layers)
            .map(|i| of_gguf(source, &dims, i))
            .collect::<Vec<_>>(),
    };
    let mixer = mixer(source, &dims)?;
    let bias = source.flag("attention_bias", false)?;
    if bias {
        return Err(source.unsupported("attention_bias", true));
    }
    let mut dense = Dense::like_llama(dims, &NEMOTRON_H, vec![]);
    dense.names = &NEMOTRON_H_NAMES;
    dense.mlp = Mlp {
        activation: blocks::activation(source, "mlp_hidden_act", Activation::Relu2)?,
        up: Stored::Apart(&["up_proj"]),
        is_gated: false,
        ..GATED
    };
    let mlp_bias = source.flag("mlp_bias", false)?;
    dense.biases.gate_up = mlp_bias;
    dense.biases.down = mlp_bias;
    if kinds.iter().any(|kind| matches!(kind, Kind::Experts)) {
        dense.moe = Some(experts(source, dense.mlp.activation)?);
    }
    dense.layers = kinds.into_iter().map(|kind| kind.layer(mixer)).collect();
    source.json_value("residual_in_fp32");
    if source.uint("sliding_window", "")?.is_some() {
        return Err(source.unsupported("sliding_window", "a window"));
    }
    for (key, only) in [("n_group", 1), ("topk_group", 1)] {
        if let Some(n) = source.uint(key, "")?.filter(|n| *n != only) {
            return Err(source.unsupported(key, n));
        }
    }
    for key in NOT_READ {
        source.json_value(key);
    }
    Ok(Arc::new(dense))
}

/// Experts without gates, and one that all tokens pass.
fn experts(source: &Source<'_>, activation: Activation) -> Result<Moe> {
    for key in ["expert_group_count", "expert_group_used_count"] {
        if let Some(n) = source.uint("", key)?.filter(|n| *n > 1) {
            return Err(source.unsupported(key, n));
        }
    }
    if let Some(n) = source.uint("moe_latent_size", "moe_latent_size")? {
        return Err(source.unsupported("moe_latent_size", n));
    }
    let size = |json, gguf, default| {
        let default = (!source.is_gguf()).then_some(default);
        source.size(json, gguf, default, 1 << 20)
    };
    let counts = [
        size("n_routed_experts", "expert_count", 8)?,
        size("num_experts_per_tok", "expert_used_count", 2)?,
    ];
    let shared = size(
        "moe_shared_expert_intermediate_size",
        "expert_shared_feed_forward_length",
        7688,
    )?;
    // Their sizes have a key of their own.
    if source
        .uint("n_shared_experts", "expert_shared_count")?
        .is_some_and(|n| n != 1)
    {
        return Err(source.unsupported("n_shared_experts", "other than 1"));
    }
    let renormalise = source.bool("norm_topk_prob", "expert_weights_norm")?;
    let scale = source.float("routed_scaling_factor", "expert_weights_scale")?;
    let columns = Moe::size(source, "moe_intermediate_size", 7688)?;
    Ok(Moe {
        is_gated: false,
        activation,
        score: Score::Sigmoid,
        has_choice_bias: true,
        renormalise: renormalise.unwrap_or(true),
        eps: 1e-20,
        scale: scale.unwrap_or(1.0),
        shared: Some(Shared {
            size: shared,
            is_gated: false,
        }),
        ..Moe::of(source, EXPERTS, counts, columns)?
    })
}

/// Of a GGUF file: layers with neither keys nor an MLP are Mamba 2.
fn of_gguf(source: &Source<'_>, dims: &Dims, i: usize) -> Kind {
    let layer = dims.layer(i);
    if source.has_tensor(&format!("blk.{i}.ffn_gate_inp.weight")) {
        return Kind::Experts;
    }
    match (layer.n_kv_heads, layer.intermediate_size) {
        (0, 0) => Kind::Mamba,
        (0, _) => Kind::Mlp,
        _ => Kind::Attention,
    }
}

/// From a configuration's list, or its older pattern; `None` for GGUF files.
fn kinds(source: &Source<'_>) -> Result<Option<Vec<Kind>>> {
    const KEY: &str = "layers_block_type";
    const PATTERN: &str = "hybrid_override_pattern";
    if let Some(pattern) = source.str(PATTERN, "")? {
        let kind = |c| match c {
            'M' => Ok(Kind::Mamba),
            '*' => Ok(Kind::Attention),
            '-' => Ok(Kind::Mlp),
            'E' => Ok(Kind::Experts),
            other => Err(source.unsupported(PATTERN, other)),
        };
        return pattern.chars().map(kind).collect::<Result<_>>().map(Some);
    }
    let listed = [KEY, "layer_types"].map(|key| source.json_value(key));
    let Some(Json::Array(list)) = listed.into_iter().flatten().next() else {
        return match source.is_gguf() {
            true => Ok(None),
            false => Err(source.wrong(KEY, "a list with one kind for each layer")),
        };
    };
    let kind = |kind: &Json| match kind.as_str() {
        Some("linear_attention" | "mamba") => Ok(Kind::Mamba),
        Some("full_attention" | "attention") => Ok(Kind::Attention),
        Some("mlp") => Ok(Kind::Mlp),
        Some("moe") => Ok(Kind::Experts),
        _ => Err(source.unsupported(KEY, kind)),
    };
    list.iter().map(kind).collect::<Result<_>>().map(Some)
}

fn mixer(source: &Source<'_>, dims: &Dims) -> Result<Mamba2> {
    const KEYS: Mamba2Keys = Mamba2Keys {
        n_heads: ("mamba_num_heads", 128),
        head_dim: "mamba_head_dim",
        n_groups: ("n_groups", 8),
        state_dim: ("ssm_state_size", 128),
        kernel: "conv_kernel",
        conv_bias: "use_conv_bias",
        bias: "use_bias",
    };
    mamba::check_silu(source, "mamba_hidden_act")?;
    let head_dim = source.uint("mamba_head_dim", "")?.unwrap_or(64);
    let n_heads = source.uint("mamba_num_heads", "")?.unwrap_or(128);
    let inner = source
        .uint("", "ssm.inner_size")?
        .unwrap_or(n_heads * head_dim);
    let mut mixer = KEYS.read(source, inner, dims.rms_norm_eps)?;
    if !source.is_gguf() {
        let least = source.float("time_step_min", "")?.unwrap_or(0.001);
        mixer.spec.step_limits = [least, f32::INFINITY];
    }
    Ok(mixer)
}
