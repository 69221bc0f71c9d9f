//! Mixtral: mistral with experts. Its GGUF files are called llama. Source: `transformers/models/mixtral`.

use std::sync::Arc;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::llama;
use crate::moe::{self, Moe, Stored};

pub(crate) static MIXTRAL: Architecture = Architecture {
    names: &["mixtral"],
    gguf: Some("llama"),
    model_type: "mixtral",
    class: "MixtralForCausalLM",
    defaults: Defaults {
        vocab_size: 32_000,
        hidden_size: 4096,
        intermediate_size: 14_336,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(8),
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 131_072,
        tied: false,
    },
    read: mixtral,
    transform: llama::transform,
    ..DECODER
};

const NAMES: moe::Names = moe::Names {
    module: "block_sparse_moe",
    stored: Stored::Apart(["w1", "w3", "w2"]),
    ..moe::NAMES
};

pub(crate) fn mixtral(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let dense = Dense::read(source, &MIXTRAL, (1_000_000.0, None))?;
    let mut dense = dense.with_mlp(source, GATED, false)?;
    let size = dense.dims.intermediate_size;
    dense.moe = Some(Moe::read(source, NAMES, [8, 2], size)?);
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    for layer in &mut dense.layers {
        layer.window = window.filter(|w| *w > 0);
        layer.is_sparse = true;
    }
    Ok(Arc::new(dense))
}
