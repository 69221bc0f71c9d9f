//! Qwen2-MoE and Qwen3-MoE: the Qwens with experts. Source: `transformers/models/qwen2_moe`, `qwen3_moe`.

use std::sync::Arc;

use crate::blocks::Biases;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, QkNorm};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::moe::{self, Moe, Shared};
use crate::{Result, layers};

pub(crate) static QWEN2_MOE: Architecture = Architecture {
    names: &["qwen2_moe", "qwen2moe"],
    gguf: Some("qwen2moe"),
    model_type: "qwen2_moe",
    class: "Qwen2MoeForCausalLM",
    defaults: Defaults {
        vocab_size: 151_936,
        hidden_size: 2048,
        intermediate_size: 5632,
        n_layers: 24,
        n_heads: 16,
        n_kv_heads: Some(16),
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 32_768,
        tied: false,
    },
    read: qwen2_moe,
    ..DECODER
};

pub(crate) static QWEN3_MOE: Architecture = Architecture {
    names: &["qwen3_moe", "qwen3moe"],
    gguf: Some("qwen3moe"),
    model_type: "qwen3_moe",
    class: "Qwen3MoeForCausalLM",
    defaults: Defaults {
        intermediate_size: 6144,
        n_heads: 32,
        n_kv_heads: Some(4),
        ..QWEN2_MOE.defaults
    },
    read: qwen3_moe,
    ..DECODER
};

/// The window where the file switches it on and does not say how long it is.
const WINDOW: usize = 4096;

fn qwen2_moe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let qkv = source.flag("qkv_bias", true)?;
    let dense = Dense::read(source, &QWEN2_MOE, (10_000.0, None))?;
    let mut dense = dense
        .with_attention_biases(qkv, false)
        .with_mlp(source, GATED, false)?;
    let size = Moe::size(source, "moe_intermediate_size", 1408)?;
    let shared = source.size(
        "shared_expert_intermediate_size",
        "expert_shared_feed_forward_length",
        Some(dense.dims.intermediate_size),
        1 << 20,
    )?;
    let moe = Moe {
        renormalise: source.flag("norm_topk_prob", false)?,
        shared: Some(Shared {
            size: shared,
            is_gated: true,
        }),
        ..Moe::read(source, moe::NAMES, [60, 4], size)?
    };
    dense = with_experts(dense, source, moe)?;
    let last = source.uint("max_window_layers", "")?.unwrap_or(28);
    // Every other layer of the first ones.
    with_windows(dense, source, |i| i.is_multiple_of(2) && i < last)
}

fn qwen3_moe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let biases = Biases::of_attention(source)?;
    let dense = Dense::read(source, &QWEN3_MOE, (10_000.0, None))?;
    let mut dense = dense
        .with_attention_biases(biases.qkv, biases.o)
        .with_mlp(source, GATED, false)?;
    dense.qk_norm = QkNorm::Heads;
    let size = Moe::size(source, "moe_intermediate_size", 768)?;
    let moe = Moe {
        // What reads GGUF files of it always does.
        renormalise: source.flag("norm_topk_prob", source.is_gguf())?,
        ..Moe::read(source, moe::NAMES, [128, 8], size)?
    };
    dense = with_experts(dense, source, moe)?;
    // In all layers, or in none.
    with_windows(dense, source, |_| true)
}

fn with_experts(mut dense: Dense, source: &Source<'_>, moe: Moe) -> Result<Dense> {
    let sparse = moe::sparse_layers(source, dense.dims.n_layers)?;
    for (layer, is_sparse) in dense.layers.iter_mut().zip(sparse) {
        layer.is_sparse = is_sparse;
    }
    dense.moe = Some(moe);
    Ok(dense)
}

fn with_windows(
    mut dense: Dense,
    source: &Source<'_>,
    is_local: impl Fn(usize) -> bool,
) -> Result<Arc<dyn Family>> {
    let is_on = source.flag("use_sliding_window", false)?;
    let window = source.uint("sliding_window", "")?.unwrap_or(WINDOW);
    let is_local = layers::is_local(source, dense.dims.n_layers, |i| is_on && is_local(i))?;
    for (layer, is_local) in dense.layers.iter_mut().zip(is_local) {
        layer.window = (is_local && window > 0).then_some(window);
    }
    Ok(Arc::new(dense))
}
