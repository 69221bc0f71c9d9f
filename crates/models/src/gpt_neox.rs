//! GPT-NeoX: Pythia. Layer norms, q, k and v of each head in one tensor, attention and MLP side by side. Source:
//! `transformers/models/gpt_neox`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, Mlp, NAMES, Names, Order, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};

pub(crate) static GPT_NEOX: Architecture = Architecture {
    names: &["gpt_neox", "gptneox"],
    gguf: Some("gptneox"),
    model_type: "gpt_neox",
    class: "GPTNeoXForCausalLM",
    defaults: Defaults {
        vocab_size: 50_432,
        hidden_size: 6144,
        intermediate_size: 24_576,
        n_layers: 44,
        n_heads: 64,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 2048,
        tied: false,
    },
    read: gpt_neox,
    layer_names: &[
        ("attention.query_key_value", "attn_qkv"),
        ("attention.dense", "attn_output"),
        ("mlp.dense_h_to_4h", "ffn_up"),
        ("mlp.dense_4h_to_h", "ffn_down"),
    ],
    top_names: &[
        ("model.embed_tokens", "gpt_neox.embed_in"),
        ("model.norm", "gpt_neox.final_layer_norm"),
        ("lm_head", "embed_out"),
    ],
    ..DECODER
};

static NEOX_NAMES: Names = Names {
    layers: "gpt_neox.layers",
    attention: "attention",
    o: "dense",
    ..NAMES
};

const MLP: Mlp = Mlp {
    activation: Activation::Gelu,
    up: Stored::Apart(&["dense_h_to_4h"]),
    down: "dense_4h_to_h",
    is_gated: false,
};

fn gpt_neox(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", true)?;
    // What transformers 4 calls them.
    let part = source.float("rotary_pct", "")?.unwrap_or(0.25);
    let theta = source.positive("rotary_emb_base", "", 10_000.0)?;
    let dense = Dense::read(source, &GPT_NEOX, (theta, Some(part)))?
        .with_layer_norm(source, "layer_norm_eps", true)?
        .with_attention_biases(bias, bias)
        .with_mlp(source, MLP, true)?;
    let is_parallel = source.bool("use_parallel_residual", "use_parallel_residual")?;
    let order = match is_parallel.unwrap_or(true) {
        true => Order::Parallel,
        false => Order::Before,
    };
    Ok(Arc::new(Dense {
        order,
        names: &NEOX_NAMES,
        // GGUF files have all of q above all of k.
        qkv: match source.is_gguf() {
            true => Stored::Stacked("query_key_value"),
            false => Stored::ByHead("query_key_value"),
        },
        ..dense
    }))
}
