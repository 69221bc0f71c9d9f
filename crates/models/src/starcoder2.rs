//! StarCoder 2: layer norms, an MLP without a gate, biases. Source: `transformers/models/starcoder2`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, Mlp, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static STARCODER2: Architecture = Architecture {
    names: &["starcoder2"],
    gguf: Some("starcoder2"),
    model_type: "starcoder2",
    class: "Starcoder2ForCausalLM",
    defaults: Defaults {
        vocab_size: 49_152,
        hidden_size: 3072,
        intermediate_size: 12_288,
        n_layers: 30,
        n_heads: 24,
        n_kv_heads: Some(2),
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 4096,
        tied: true,
    },
    read: starcoder2,
    layer_names: &[("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down")],
    ..DECODER
};

const MLP: Mlp = Mlp {
    activation: Activation::GeluTanh,
    up: Stored::Apart(&["c_fc"]),
    down: "c_proj",
    is_gated: false,
};

fn starcoder2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("use_bias", true)?;
    let mut dense = Dense::read(source, &STARCODER2, (10_000.0, None))?
        .with_layer_norm(source, "norm_epsilon", true)?
        .with_attention_biases(bias, bias)
        .with_mlp(source, MLP, bias)?;
    let window = source
        .uint("sliding_window", "attention.sliding_window")?
        .filter(|w| *w > 0);
    for layer in &mut dense.layers {
        layer.window = window;
    }
    Ok(Arc::new(dense))
}
