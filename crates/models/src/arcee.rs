//! Arcee and Nemotron: MLPs without a gate, of ReLU squared. Source: `transformers/models/arcee`, `nemotron`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::llama;
use crate::{Dims, Result, Transform};

pub(crate) static ARCEE: Architecture = Architecture {
    names: &["arcee"],
    gguf: Some("arcee"),
    model_type: "arcee",
    class: "ArceeForCausalLM",
    defaults: Defaults {
        vocab_size: 32_000,
        hidden_size: 2560,
        intermediate_size: 18_432,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 4096,
        tied: false,
    },
    read: arcee,
    transform: llama::transform,
    ..DECODER
};

pub(crate) static NEMOTRON: Architecture = Architecture {
    names: &["nemotron"],
    gguf: Some("nemotron"),
    model_type: "nemotron",
    class: "NemotronForCausalLM",
    defaults: Defaults {
        vocab_size: 256_000,
        hidden_size: 6144,
        intermediate_size: 24_576,
        n_layers: 32,
        n_heads: 48,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 4096,
        tied: false,
    },
    read: nemotron,
    transform: nemotron_transform,
    ..DECODER
};

const MLP: Mlp = Mlp {
    activation: Activation::Relu2,
    up: Stored::Apart(&["up_proj"]),
    is_gated: false,
    ..GATED
};

/// Nemotron's norms multiply by 1 + w; GGUF files have the sum.
fn nemotron_transform(InFile { tensor, gguf }: InFile<'_>, _: &Dims) -> Transform {
    match !gguf && tensor.ends_with("norm.weight") {
        true => Transform::AddOne,
        false => Transform::None,
    }
}

fn arcee(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let mlp_bias = source.flag("mlp_bias", false)?;
    let dense = Dense::read(source, &ARCEE, (10_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, MLP, mlp_bias)?;
    Ok(Arc::new(dense))
}

fn nemotron(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let mlp_bias = source.flag("mlp_bias", false)?;
    let dense = Dense::read(source, &NEMOTRON, (10_000.0, Some(0.5)))?
        .with_layer_norm(source, "norm_eps", true)?
        .with_attention_biases(bias, bias)
        .with_mlp(source, MLP, mlp_bias)?;
    Ok(Arc::new(dense))
}
