//! Qwen3-Next and Qwen3.5, with and without experts: three of four layers have a gated delta net in place of attention,
//! and attention has a gate. Source: `transformers/models/qwen3_next`, `qwen3_5`, `qwen3_5_moe`.

use std::sync::Arc;

use siskin_graph::DeltaSpec;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, NAMES, Names, QkNorm};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::mixers::{DeltaNet, Gates, Mixer};
use crate::moe::{self, Moe, Shared};
use crate::{Dims, Result, Transform, layers};

pub(crate) static QWEN3_5: Architecture = Architecture {
    names: &["qwen3_5_text", "qwen35"],
    gguf: Some("qwen35"),
    model_type: "qwen3_5_text",
    class: "Qwen3_5ForCausalLM",
    defaults: Defaults {
        vocab_size: 248_320,
        hidden_size: 4096,
        intermediate_size: 12_288,
        n_layers: 32,
        n_heads: 16,
        n_kv_heads: Some(4),
        head_dim: Some(256),
        rms_norm_eps: 1e-6,
        context_length: 32_768,
        tied: false,
    },
    read: qwen3_5,
    layer_names: LAYER_NAMES,
    transform,
    ..DECODER
};

pub(crate) static QWEN3_5_MOE: Architecture = Architecture {
    names: &["qwen3_5_moe_text", "qwen35moe"],
    gguf: Some("qwen35moe"),
    model_type: "qwen3_5_moe_text",
    class: "Qwen3_5MoeForCausalLM",
    defaults: Defaults {
        hidden_size: 2048,
        intermediate_size: 512,
        n_layers: 40,
        n_kv_heads: Some(2),
        ..QWEN3_5.defaults
    },
    read: qwen3_5_moe,
    ..QWEN3_5
};

pub(crate) static QWEN3_NEXT: Architecture = Architecture {
    names: &["qwen3_next", "qwen3next"],
    gguf: Some("qwen3next"),
    model_type: "qwen3_next",
    class: "Qwen3NextForCausalLM",
    defaults: Defaults {
        vocab_size: 151_936,
        intermediate_size: 5632,
        n_layers: 48,
        ..QWEN3_5_MOE.defaults
    },
    read: qwen3_next,
    ..QWEN3_5
};

const LAYER_NAMES: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("linear_attn.in_proj_qkv", "attn_qkv"),
    ("linear_attn.in_proj_z", "attn_gate"),
    ("linear_attn.in_proj_ba", "ssm_ba"),
    ("linear_attn.in_proj_b", "ssm_beta"),
    ("linear_attn.in_proj_a", "ssm_alpha"),
    ("linear_attn.conv1d", "ssm_conv1d"),
    ("linear_attn.A_log", "ssm_a"),
    ("linear_attn.dt_bias", "ssm_dt.bias"),
    ("linear_attn.norm", "ssm_norm"),
    ("linear_attn.out_proj", "ssm_out"),
];

const QWEN3_5_NAMES: Names = Names {
    mixer: "linear_attn",
    ..NAMES
};

/// Each n-th layer has attention, where the file does not say.
const INTERVAL: usize = 4;

/// Norms multiply by 1 + w, but for the gated one; GGUF files have the sum, and −exp(A_log).
fn transform(InFile { tensor, gguf }: InFile<'_>, _: &Dims) -> Transform {
    match tensor {
        _ if gguf => Transform::None,
        _ if tensor.ends_with("linear_attn.A_log") => Transform::NegExp,
        _ if tensor.ends_with("linear_attn.norm.weight") => Transform::None,
        _ if tensor.ends_with("norm.weight") => Transform::AddOne,
        _ => Transform::None,
    }
}

fn qwen3_5(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    Ok(Arc::new(read(source, &QWEN3_5, Gates::Apart)?))
}

fn qwen3_5_moe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let dense = read(source, &QWEN3_5_MOE, Gates::Apart)?;
    with_experts(dense, source, [256, 8])
}

fn qwen3_next(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let gates = match source.is_gguf() {
        true => Gates::Together,
        false => Gates::WithAll,
    };
    let dense = read(source, &QWEN3_NEXT, gates)?;
    with_experts(dense, source, [512, 10])
}

/// Experts, and one that is shared, in each layer but those of a list.
fn with_experts(
    mut dense: Dense,
    source: &Source<'_>,
    counts: [usize; 2],
) -> Result<Arc<dyn Family>> {
    let size = Moe::size(source, "moe_intermediate_size", 512)?;
    let keys = (
        "shared_expert_intermediate_size",
        "expert_shared_feed_forward_length",
    );
    let shared = source.size(keys.0, keys.1, Some(512), 1 << 20)?;
    let moe = Moe::read(source, moe::NAMES, counts, size)?;
    dense.moe = Some(Moe {
        renormalise: source.flag("norm_topk_prob", true)?,
        shared: Some(Shared {
            size: shared,
            is_gated: true,
        }),
        ..moe
    });
    let sparse = moe::sparse_layers(source, dense.dims.n_layers)?;
    for (layer, is_sparse) in dense.layers.iter_mut().zip(sparse) {
        layer.is_sparse = is_sparse;
    }
    Ok(Arc::new(dense))
}

fn read(source: &Source<'_>, arch: &'static Architecture, gates: Gates) -> Result<Dense> {
    let bias = source.flag("attention_bias", false)?;
    if !source.flag("attn_output_gate", true)? {
        return Err(source.unsupported("attn_output_gate", false));
    }
    let mut dense = Dense::read(source, arch, (10_000.0, Some(0.25)))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    dense.names = &QWEN3_5_NAMES;
    dense.qk_norm = QkNorm::Heads;
    dense.has_attention_gate = true;
    let net = Mixer::DeltaNet(delta_net(source, dense.dims.rms_norm_eps, gates)?);
    let interval = source.uint("full_attention_interval", "full_attention_interval")?;
    let interval = interval.unwrap_or(INTERVAL).max(1);
    let n_layers = dense.dims.n_layers;
    let is_recurrent = match layers::flags(source, n_layers, "attention.recurrent_layers")? {
        Some(list) => list,
        None => layers::kinds(source, n_layers, layers::RECURRENT, |i| {
            !(i + 1).is_multiple_of(interval)
        })?,
    };
    for (layer, is_recurrent) in dense.layers.iter_mut().zip(is_recurrent) {
        if is_recurrent {
            layer.mixer = net;
        }
    }
    // Of text, the three positions of each token are the same.
    source.gguf_value("rope.dimension_sections");
    Ok(dense)
}

fn delta_net(source: &Source<'_>, eps: f32, gates: Gates) -> Result<DeltaNet> {
    const MAX: usize = 1 << 12;
    let size = |json: &str, gguf: &str, default: usize| {
        let default = (!source.is_gguf()).then_some(default);
        source.size(json, gguf, default, MAX)
    };
    let n_v_heads = size("linear_num_value_heads", "ssm.time_step_rank", 32)?;
    let v_dim = match source.is_gguf() {
        true => source.size("", "ssm.inner_size", None, 1 << 20)? / n_v_heads,
        false => size("linear_value_head_dim", "", 128)?,
    };
    let k_dim = size("linear_key_head_dim", "ssm.state_size", 128)?;
    Ok(DeltaNet {
        kernel: size("linear_conv_kernel_dim", "ssm.conv_kernel", 4)?,
        spec: DeltaSpec {
            n_k_heads: size("linear_num_key_heads", "ssm.group_count", 16)?,
            n_v_heads,
            k_dim,
            v_dim,
            scale: 1.0 / (k_dim as f32).sqrt(),
            // GGUF files of Qwen3.5 have them so.
            tiled: source.is_gguf() && gates == Gates::Apart,
        },
        eps,
        gates,
    })
}
