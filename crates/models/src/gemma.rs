//! Gemma 1: llama with GeGLU, a scaled embedding and norms that multiply by 1 + w. Source: `transformers/models/gemma`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::{Dims, Result, Transform, blocks};

pub(crate) static GEMMA: Architecture = Architecture {
    names: &["gemma"],
    gguf: Some("gemma"),
    model_type: "gemma",
    class: "GemmaForCausalLM",
    defaults: Defaults {
        vocab_size: 256_000,
        hidden_size: 3072,
        intermediate_size: 24_576,
        n_layers: 28,
        n_heads: 16,
        n_kv_heads: Some(16),
        head_dim: Some(256),
        rms_norm_eps: 1e-6,
        context_length: 8192,
        tied: true,
    },
    read: gemma,
    transform,
    ..DECODER
};

const MLP: Mlp = Mlp {
    activation: Activation::GeluTanh,
    ..GATED
};

fn transform(InFile { tensor, gguf }: InFile<'_>, _: &Dims) -> Transform {
    match !gguf && tensor.ends_with("norm.weight") {
        true => Transform::AddOne,
        false => Transform::None,
    }
}

fn gemma(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    source.off("use_bidirectional_attention", "")?;
    let bias = source.flag("attention_bias", false)?;
    let mut dense =
        Dense::read(source, &GEMMA, (10_000.0, None))?.with_attention_biases(bias, bias);
    let activation = blocks::activation(source, "hidden_act", MLP.activation)?;
    if blocks::activation(source, "hidden_activation", activation)? != activation {
        return Err(source.unsupported("hidden_activation", "other than hidden_act"));
    }
    dense.mlp = Mlp { activation, ..MLP };
    dense.embedding_scale = (dense.dims.hidden_size as f32).sqrt();
    Ok(Arc::new(dense))
}
