//! Arcee and Nemotron: MLPs without a gate, of ReLU squared. Source: `transformers/models/arcee`, `nemotron`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{Dense, GATED, Mlp, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::llama::{self, LLAMA};
use crate::{Dims, Result, Transform};

pub(crate) static ARCEE: Architecture = Architecture {
    names: &["arcee"],
    gguf: "arcee",
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
        context_length: 4096,
        tied: false,
    },
    read: arcee,
    transform: llama::transform,
    can_have: &[],
    has_rope_factors: false,
    ..LLAMA
};

pub(crate) static NEMOTRON: Architecture = Architecture {
    names: &["nemotron"],
    gguf: "nemotron",
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
        context_length: 4096,
        tied: false,
    },
    read: nemotron,
    transform: nemotron_transform,
    can_have: &[],
    has_rope_factors: false,
    ..LLAMA
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
    let mut dense = Dense::read(source, &ARCEE, (10_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, MLP, mlp_bias)?;
    dense.dims.rms_norm_eps = source.positive("rms_norm_eps", "", 1e-5)?;
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
