//! StableLM: llama with layer norms and rope on a part of each head. Source: `transformers/models/stablelm`.

use std::sync::Arc;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, NAMES, Names, Order};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static STABLELM: Architecture = Architecture {
    names: &["stablelm"],
    gguf: Some("stablelm"),
    model_type: "stablelm",
    class: "StableLmForCausalLM",
    defaults: Defaults {
        vocab_size: 50_304,
        hidden_size: 2560,
        intermediate_size: 6912,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(32),
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 4096,
        tied: false,
    },
    read: stablelm,
    ..DECODER
};

static PARALLEL: Names = Names {
    norms: ["input_layernorm", "", "input_layernorm", ""],
    ..NAMES
};

fn stablelm(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    source.off("qk_layernorm", "")?;
    let bias = source.flag("use_qkv_bias", false)?;
    let mut dense = Dense::read(source, &STABLELM, (10_000.0, Some(0.25)))?
        .with_layer_norm(source, "layer_norm_eps", true)?
        .with_attention_biases(bias, false)
        .with_mlp(source, GATED, false)?;
    if source
        .bool("use_parallel_residual", "use_parallel_residual")?
        .unwrap_or(false)
    {
        dense.order = Order::Parallel;
        dense.names = &PARALLEL;
    }
    Ok(Arc::new(dense))
}
