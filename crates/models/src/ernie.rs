//! ERNIE 4.5 and Helium: llama with interleaved rope. Source: `transformers/models/ernie4_5`, `helium`.

use std::sync::Arc;

use siskin_graph::Pairs;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static ERNIE4_5: Architecture = Architecture {
    names: &["ernie4_5"],
    gguf: Some("ernie4_5"),
    model_type: "ernie4_5",
    class: "Ernie4_5ForCausalLM",
    defaults: Defaults {
        vocab_size: 103_424,
        hidden_size: 1024,
        intermediate_size: 3072,
        n_layers: 18,
        n_heads: 16,
        n_kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        context_length: 131_072,
        tied: true,
    },
    read: ernie4_5,
    ..DECODER
};

pub(crate) static HELIUM: Architecture = Architecture {
    names: &["helium"],
    gguf: None,
    model_type: "helium",
    class: "HeliumForCausalLM",
    defaults: Defaults {
        vocab_size: 48_000,
        hidden_size: 2560,
        intermediate_size: 7040,
        n_layers: 24,
        n_heads: 20,
        n_kv_heads: Some(20),
        head_dim: Some(128),
        rms_norm_eps: 1e-8,
        context_length: 4096,
        tied: false,
    },
    read: helium,
    ..DECODER
};

fn ernie4_5(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("use_bias", false)?;
    let mut dense = Dense::read(source, &ERNIE4_5, (500_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, bias)?;
    dense.pairs = Pairs::Interleaved;
    Ok(Arc::new(dense))
}

fn helium(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let mlp_bias = source.flag("mlp_bias", false)?;
    let mut dense = Dense::read(source, &HELIUM, (100_000.0, None))?
        .with_attention_biases(bias, false)
        .with_mlp(source, GATED, mlp_bias)?;
    dense.pairs = Pairs::Interleaved;
    Ok(Arc::new(dense))
}
