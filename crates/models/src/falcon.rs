//! Falcon 1 and 2: q, k and v of each group of heads in one tensor, attention and MLP side by side. Source:
//! `transformers/models/falcon`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{DECODER, Dense, Mlp, NAMES, Names, Order, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::rope::Rope;
use crate::{Result, blocks};

pub(crate) static FALCON: Architecture = Architecture {
    names: &["falcon"],
    gguf: Some("falcon"),
    model_type: "falcon",
    class: "FalconForCausalLM",
    defaults: Defaults {
        vocab_size: 65_024,
        hidden_size: 4544,
        intermediate_size: 0,
        n_layers: 32,
        n_heads: 71,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 2048,
        tied: true,
    },
    read: falcon,
    layer_names: &[
        ("ln_attn", "attn_norm_2"),
        ("ln_mlp", "attn_norm"),
        ("self_attention.query_key_value", "attn_qkv"),
        ("self_attention.dense", "attn_output"),
        ("mlp.dense_h_to_4h", "ffn_up"),
        ("mlp.dense_4h_to_h", "ffn_down"),
    ],
    top_names: &[
        ("model.embed_tokens", "transformer.word_embeddings"),
        ("model.norm", "transformer.ln_f"),
    ],
    ..DECODER
};

/// One norm for attention and MLP.
static ONE_NORM: Names = Names {
    layers: "transformer.h",
    attention: "self_attention",
    o: "dense",
    norms: ["input_layernorm", "", "input_layernorm", ""],
    ..NAMES
};

/// Of the larger models.
static TWO_NORMS: Names = Names {
    norms: ["ln_attn", "", "ln_mlp", ""],
    ..ONE_NORM
};

/// Attention, then the MLP.
static IN_TURN: Names = Names {
    norms: ["input_layernorm", "", "post_attention_layernorm", ""],
    ..ONE_NORM
};

const MLP: Mlp = Mlp {
    activation: Activation::Gelu,
    up: Stored::Apart(&["dense_h_to_4h"]),
    down: "dense_4h_to_h",
    is_gated: false,
};

fn falcon(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    source.off("alibi", "")?;
    let mut dims = Dense::sizes(source, &FALCON)?;
    let is_new = match source.is_gguf() {
        true => source.has_tensor("blk.0.attn_norm_2.weight"),
        false => source.flag("new_decoder_architecture", false)?,
    };
    if !source.is_gguf() {
        let of_one = source.flag("multi_query", true)?;
        let n_kv_heads = source.uint("num_kv_heads", "")?.unwrap_or(dims.n_heads);
        dims.n_kv_heads = match (is_new, of_one) {
            (true, _) => n_kv_heads,
            (false, true) => 1,
            (false, false) => dims.n_heads,
        };
        if dims.n_kv_heads == 0 || !dims.n_heads.is_multiple_of(dims.n_kv_heads) {
            return Err(source.wrong("num_kv_heads", "a divisor of the number of heads"));
        }
        let size = source.uint("ffn_hidden_size", "")?;
        dims.intermediate_size = size.unwrap_or(4 * dims.hidden_size);
    }
    let rope = Rope::read(source, &dims)?;
    let bias = source.flag("bias", false)?;
    let dense = Dense::like_llama(dims, &FALCON, vec![rope])
        .with_layer_norm(source, "layer_norm_epsilon", true)?
        .with_attention_biases(bias, bias)
        .with_mlp(source, MLP, bias)?;
    let activation = blocks::activation(source, "activation", MLP.activation)?;
    let n_norms = source.uint("num_ln_in_parallel_attn", "")?;
    let has_two_norms = is_new && n_norms.is_none_or(|n| n == 2);
    let is_parallel = source.flag("parallel_attn", true)?;
    let (order, names) = match (is_new || is_parallel, has_two_norms) {
        (true, true) => (Order::Parallel, &TWO_NORMS),
        (true, false) => (Order::Parallel, &ONE_NORM),
        (false, _) => (Order::Before, &IN_TURN),
    };
    Ok(Arc::new(Dense {
        order,
        names,
        mlp: Mlp { activation, ..MLP },
        qkv: match source.is_gguf() {
            true => Stored::Stacked("query_key_value"),
            false => Stored::ByHead("query_key_value"),
        },
        ..dense
    }))
}
