//! Seed-OSS: llama with biases of its own. Source: `transformers/models/seed_oss`.

use std::sync::Arc;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static SEED_OSS: Architecture = Architecture {
    names: &["seed_oss"],
    gguf: Some("seed_oss"),
    model_type: "seed_oss",
    class: "SeedOssForCausalLM",
    defaults: Defaults {
        vocab_size: 155_136,
        hidden_size: 4096,
        intermediate_size: 27_648,
        n_layers: 64,
        n_heads: 80,
        n_kv_heads: Some(8),
        head_dim: Some(128),
        rms_norm_eps: 1e-6,
        context_length: 524_288,
        tied: false,
    },
    read: seed_oss,
    layer_names: &[("post_attention_layernorm", "post_attention_norm")],
    ..DECODER
};

fn seed_oss(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let qkv = source.flag("attention_bias", true)?;
    let o = source.flag("attention_out_bias", false)?;
    let mlp = source.flag("mlp_bias", false)?;
    let dense = Dense::read(source, &SEED_OSS, (10_000.0, None))?
        .with_attention_biases(qkv, o)
        .with_mlp(source, GATED, mlp)?;
    Ok(Arc::new(dense))
}
