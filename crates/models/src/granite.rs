//! Granite 3: llama with four multipliers, and with experts. Source: `transformers/models/granite`, `granitemoe`.

use std::sync::Arc;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::llama;
use crate::moe::{self, Moe, Stored};

pub(crate) static GRANITE: Architecture = Architecture {
    names: &["granite"],
    gguf: Some("granite"),
    model_type: "granite",
    class: "GraniteForCausalLM",
    defaults: Defaults {
        vocab_size: 32_000,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 2048,
        tied: false,
    },
    read: granite,
    transform: llama::transform,
    ..DECODER
};

pub(crate) static GRANITE_MOE: Architecture = Architecture {
    names: &["granitemoe"],
    gguf: Some("granitemoe"),
    model_type: "granitemoe",
    class: "GraniteMoeForCausalLM",
    read: granite_moe,
    ..GRANITE
};

pub(crate) const EXPERTS: moe::Names = moe::Names {
    module: "block_sparse_moe",
    router: "router.layer",
    stored: Stored::Stacked(["input_linear", "output_linear"]),
    ..moe::NAMES
};

fn granite_moe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense = read(source, &GRANITE_MOE)?;
    let size = dense.dims.intermediate_size;
    dense.moe = Some(Moe::read(source, EXPERTS, [8, 2], size)?);
    dense.layers.iter_mut().for_each(|l| l.is_sparse = true);
    Ok(Arc::new(dense))
}

fn granite(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    Ok(Arc::new(read(source, &GRANITE)?))
}

/// Sizes, rope, activation, biases and the four multipliers.
pub(crate) fn read(source: &Source<'_>, arch: &'static Architecture) -> Result<Dense> {
    let bias = source.flag("attention_bias", false)?;
    let mlp_bias = source.flag("mlp_bias", false)?;
    let dense = Dense::read(source, arch, (10_000.0, None))?;
    let dense = dense
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, mlp_bias)?;
    // A GGUF file that leaves it out means the usual one.
    let scale = match source.is_gguf() {
        true => dense.attention_scale,
        false => 1.0,
    };
    Ok(Dense {
        attention_scale: source.positive("attention_multiplier", "attention.scale", scale)?,
        embedding_scale: source.positive("embedding_multiplier", "embedding_scale", 1.0)?,
        residual_scale: source.positive("residual_multiplier", "residual_scale", 1.0)?,
        logits_scale: 1.0 / source.positive("logits_scaling", "logit_scale", 1.0)?,
        ..dense
    })
}
