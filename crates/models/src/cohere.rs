//! Command R and R7B: layer norms without biases, interleaved rope, attention and MLP side by side. Source:
//! `transformers/models/cohere`, `cohere2`.

use std::sync::Arc;

use siskin_graph::Pairs;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, NAMES, Names, Order};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::{Result, layers};

pub(crate) static COHERE: Architecture = Architecture {
    names: &["cohere", "command-r"],
    gguf: Some("command-r"),
    model_type: "cohere",
    class: "CohereForCausalLM",
    defaults: Defaults {
        vocab_size: 256_000,
        hidden_size: 8192,
        intermediate_size: 22_528,
        n_layers: 40,
        n_heads: 64,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 8192,
        tied: true,
    },
    read: cohere,
    ..DECODER
};

pub(crate) static COHERE2: Architecture = Architecture {
    names: &["cohere2"],
    gguf: Some("cohere2"),
    model_type: "cohere2",
    class: "Cohere2ForCausalLM",
    defaults: Defaults {
        vocab_size: 256_000,
        hidden_size: 8192,
        intermediate_size: 22_528,
        n_layers: 40,
        n_heads: 64,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 8192,
        tied: true,
    },
    read: cohere2,
    ..DECODER
};

static COHERE_NAMES: Names = Names {
    norms: ["input_layernorm", "", "input_layernorm", ""],
    ..NAMES
};

/// Each n-th layer of Command R7B is global, where the file does not say.
const PATTERN: usize = 4;

fn cohere(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    source.off("use_qk_norm", "")?;
    Ok(Arc::new(read(source, &COHERE, 500_000.0)?))
}

fn cohere2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense = read(source, &COHERE2, 10_000.0)?;
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    let window =
        window.or((!source.is_gguf() && !source.is_null("sliding_window")).then_some(4096));
    let pattern = source.uint("sliding_window_pattern", "")?;
    let pattern = pattern.unwrap_or(PATTERN).max(1);
    let is_local = layers::is_local(source, dense.dims.n_layers, |i| {
        !(i + 1).is_multiple_of(pattern)
    })?;
    for (layer, is_local) in dense.layers.iter_mut().zip(is_local) {
        layer.window = window.filter(|_| is_local);
        layer.rope = is_local.then_some(0);
    }
    Ok(Arc::new(dense))
}

fn read(source: &Source<'_>, arch: &'static Architecture, theta: f32) -> Result<Dense> {
    let bias = source.flag("attention_bias", false)?;
    let dense = Dense::read(source, arch, (theta, None))?
        .with_layer_norm(source, "layer_norm_eps", false)?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    Ok(Dense {
        pairs: Pairs::Interleaved,
        order: Order::Parallel,
        names: &COHERE_NAMES,
        logits_scale: source.positive("logit_scale", "logit_scale", 0.0625)?,
        ..dense
    })
}
