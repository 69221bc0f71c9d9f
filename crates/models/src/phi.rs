//! Phi 1 to 4: attention and MLP side by side after one layer norm; from Phi 3 on llama, with tensors of several
//! projections. Source: `transformers/models/phi`, `phi3`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp, NAMES, Names, Order, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static PHI: Architecture = Architecture {
    names: &["phi", "phi2"],
    gguf: Some("phi2"),
    model_type: "phi",
    class: "PhiForCausalLM",
    defaults: Defaults {
        vocab_size: 51_200,
        hidden_size: 2048,
        intermediate_size: 8192,
        n_layers: 24,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 2048,
        tied: false,
    },
    read: phi,
    layer_names: &[
        ("self_attn.dense", "attn_output"),
        ("mlp.fc1", "ffn_up"),
        ("mlp.fc2", "ffn_down"),
    ],
    top_names: &[("model.norm", "model.final_layernorm")],
    ..DECODER
};

pub(crate) static PHI3: Architecture = Architecture {
    names: &["phi3"],
    gguf: Some("phi3"),
    model_type: "phi3",
    class: "Phi3ForCausalLM",
    defaults: Defaults {
        vocab_size: 32_064,
        hidden_size: 3072,
        intermediate_size: 8192,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 4096,
        tied: false,
    },
    read: phi3,
    layer_names: &[
        ("self_attn.qkv_proj", "attn_qkv"),
        ("mlp.gate_up_proj", "ffn_up"),
    ],
    ..DECODER
};

static PHI_NAMES: Names = Names {
    o: "dense",
    norms: ["input_layernorm", "", "input_layernorm", ""],
    ..NAMES
};

const MLP: Mlp = Mlp {
    activation: Activation::GeluTanh,
    up: Stored::Apart(&["fc1"]),
    down: "fc2",
    is_gated: false,
};

const PHI3_MLP: Mlp = Mlp {
    up: Stored::Stacked("gate_up_proj"),
    ..GATED
};

fn phi(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    source.off("qk_layernorm", "")?;
    let dense = Dense::read(source, &PHI, (10_000.0, Some(0.5)))?
        .with_layer_norm(source, "layer_norm_eps", true)?
        .with_attention_biases(true, true)
        .with_mlp(source, MLP, true)?;
    Ok(Arc::new(Dense {
        order: Order::Parallel,
        names: &PHI_NAMES,
        head_bias: true,
        ..dense
    }))
}

fn phi3(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    // Of the longer rope, which is refused where the file asks for it.
    source.uint("original_max_position_embeddings", "")?;
    let mut dense =
        Dense::read(source, &PHI3, (10_000.0, Some(1.0)))?.with_mlp(source, PHI3_MLP, false)?;
    dense.qkv = Stored::Stacked("qkv_proj");
    let window = source
        .uint("sliding_window", "attention.sliding_window")?
        .filter(|w| *w > 0);
    for layer in &mut dense.layers {
        layer.window = window;
    }
    Ok(Arc::new(dense))
}
