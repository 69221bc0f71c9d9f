//! Gemma 2: Gemma with norms around both blocks, a window in every other layer, and soft caps of scores and logits.
//! Source: `transformers/models/gemma2`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{Dense, GATED, Mlp, NAMES, Names, Order};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::gemma::GEMMA;
use crate::{Result, blocks, layers};

pub(crate) static GEMMA2: Architecture = Architecture {
    names: &["gemma2"],
    gguf: Some("gemma2"),
    model_type: "gemma2",
    class: "Gemma2ForCausalLM",
    defaults: Defaults {
        vocab_size: 256_000,
        hidden_size: 2304,
        intermediate_size: 9216,
        n_layers: 26,
        n_heads: 8,
        n_kv_heads: Some(4),
        head_dim: Some(256),
        rms_norm_eps: 1e-6,
        context_length: 8192,
        tied: true,
    },
    read: gemma2,
    // Norms are around both blocks.
    layer_names: &[("post_attention_layernorm", "post_attention_norm")],
    ..GEMMA
};

static NAMES_AROUND: Names = Names {
    norms: [
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ],
    ..NAMES
};

/// The layers of the 27B model, whose scale no GGUF file says: of its heads' share of the hidden size.
const LAYERS_27B: usize = 46;

fn gemma2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    source.off("use_bidirectional_attention", "")?;
    let bias = source.flag("attention_bias", false)?;
    let dense = Dense::read(source, &GEMMA2, (10_000.0, None))?;
    let mut dense = dense.with_attention_biases(bias, bias);
    let activation = blocks::activation(source, "hidden_activation", Activation::GeluTanh)?;
    if blocks::activation(source, "hidden_act", activation)? != activation {
        return Err(source.unsupported("hidden_act", "other than hidden_activation"));
    }
    dense.mlp = Mlp {
        activation,
        ..GATED
    };
    let dims = &dense.dims;
    let query = match source.is_gguf() {
        true if dims.n_layers == LAYERS_27B => (dims.hidden_size / dims.n_heads) as f32,
        true => dims.head_dim as f32,
        false => source.positive("query_pre_attn_scalar", "", 256.0)?,
    };
    dense.attention_scale = 1.0 / query.sqrt();
    dense.embedding_scale = (dims.hidden_size as f32).sqrt();
    dense.order = Order::Around;
    dense.names = &NAMES_AROUND;
    let cap = |json: &str, gguf: &str, default: f32| -> Result<Option<f32>> {
        let default = (!source.is_null(json)).then_some(default);
        Ok(source.float(json, gguf)?.or(default).filter(|c| *c > 0.0))
    };
    dense.soft_cap = cap("attn_logit_softcapping", "attn_logit_softcapping", 50.0)?;
    dense.logits_cap = cap("final_logit_softcapping", "final_logit_softcapping", 30.0)?;
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    let window = window.or((!source.is_null("sliding_window")).then_some(4096));
    let is_local = layers::is_local(source, dense.dims.n_layers, |i| i.is_multiple_of(2))?;
    for (layer, is_local) in dense.layers.iter_mut().zip(is_local) {
        layer.window = window.filter(|w| is_local && *w > 0);
    }
    Ok(Arc::new(dense))
}
