//! GLM 4: interleaved rope on half of each head, gate and up in one tensor; the later ones with norms after attention
//! and MLP, too. Source: `transformers/models/glm`, `glm4`.

use std::sync::Arc;

use siskin_graph::Pairs;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp, NAMES, Names, Order, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static GLM: Architecture = Architecture {
    names: &["glm", "chatglm"],
    gguf: Some("chatglm"),
    model_type: "glm",
    class: "GlmForCausalLM",
    defaults: Defaults {
        vocab_size: 151_552,
        hidden_size: 4096,
        intermediate_size: 13_696,
        n_layers: 40,
        n_heads: 32,
        n_kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1.5625e-7,
        context_length: 131_072,
        tied: false,
    },
    read: |source| read(source, &GLM, Order::Before),
    layer_names: &[
        ("self_attn.qkv_proj", "attn_qkv"),
        ("mlp.gate_up_proj", "ffn_up"),
    ],
    ..DECODER
};

pub(crate) static GLM4: Architecture = Architecture {
    names: &["glm4"],
    gguf: Some("glm4"),
    model_type: "glm4",
    class: "Glm4ForCausalLM",
    defaults: Defaults {
        vocab_size: 151_552,
        hidden_size: 4096,
        intermediate_size: 13_696,
        n_layers: 40,
        n_heads: 32,
        n_kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1.5625e-7,
        context_length: 131_072,
        tied: false,
    },
    read: |source| read(source, &GLM4, Order::Around),
    layer_names: &[
        ("post_self_attn_layernorm", "post_attention_norm"),
        ("post_mlp_layernorm", "post_ffw_norm"),
        ("mlp.gate_up_proj", "ffn_up"),
    ],
    ..DECODER
};

static GLM_NAMES: Names = Names {
    norms: [
        "input_layernorm",
        "post_self_attn_layernorm",
        "post_attention_layernorm",
        "post_mlp_layernorm",
    ],
    ..NAMES
};

const MLP: Mlp = Mlp {
    up: Stored::Stacked("gate_up_proj"),
    ..GATED
};

fn read(source: &Source<'_>, arch: &'static Architecture, order: Order) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", true)?;
    let mut dense = Dense::read(source, arch, (10_000.0, Some(0.5)))?
        .with_attention_biases(bias, false)
        .with_mlp(source, MLP, false)?;
    dense.pairs = Pairs::Interleaved;
    // Of files that were made from the first form of these models.
    if source.has_tensor("blk.0.attn_qkv.weight") {
        dense.qkv = Stored::Stacked("qkv_proj");
    }
    dense.order = order;
    dense.names = &GLM_NAMES;
    Ok(Arc::new(dense))
}
