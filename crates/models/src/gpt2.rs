//! GPT-2: learned positions, layer norms, matrices that folders store transposed. Source: `transformers/models/gpt2`.

use std::sync::Arc;

use serde_json::{Map, Value as Json};
use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{DECODER, Dense, Mlp, NAMES, Names, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::{Result, Transform};

pub(crate) static GPT2: Architecture = Architecture {
    names: &["gpt2"],
    gguf: Some("gpt2"),
    model_type: "gpt2",
    class: "GPT2LMHeadModel",
    defaults: Defaults {
        vocab_size: 50_257,
        hidden_size: 768,
        intermediate_size: 0,
        n_layers: 12,
        n_heads: 12,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 1024,
        tied: true,
    },
    read: gpt2,
    layer_names: &[
        ("ln_1", "attn_norm"),
        ("attn.c_attn", "attn_qkv"),
        ("attn.c_proj", "attn_output"),
        ("ln_2", "ffn_norm"),
        ("mlp.c_fc", "ffn_up"),
        ("mlp.c_proj", "ffn_down"),
    ],
    // Files of the base model leave out the first name.
    top_names: &[
        ("model.embed_tokens", "transformer.wte"),
        ("model.embed_positions", "transformer.wpe"),
        ("model.norm", "transformer.ln_f"),
        ("transformer.h", "transformer.h"),
        ("model.embed_tokens", "wte"),
        ("model.embed_positions", "wpe"),
        ("model.norm", "ln_f"),
        ("transformer.h", "h"),
    ],
    transform: |file, _| {
        let is_matrix = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
        match !file.gguf && is_matrix.iter().any(|end| file.tensor.ends_with(end)) {
            true => Transform::Transpose,
            false => Transform::None,
        }
    },
    ..DECODER
};

static GPT2_NAMES: Names = Names {
    layers: "transformer.h",
    attention: "attn",
    o: "c_proj",
    norms: ["ln_1", "", "ln_2", ""],
    ..NAMES
};

const MLP: Mlp = Mlp {
    activation: Activation::GeluTanh,
    up: Stored::Apart(&["c_fc"]),
    down: "c_proj",
    is_gated: false,
};

/// GPT-2's names of keys, and those that later configurations have for them.
const RENAMED: [(&str, &str); 8] = [
    ("n_embd", "hidden_size"),
    ("n_inner", "intermediate_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_positions", "max_position_embeddings"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("rotary_emb_base", "rope_theta"),
    ("activation_function", "hidden_act"),
];

/// A configuration with the later names of its keys.
pub(crate) fn renamed(config: Map<String, Json>) -> Map<String, Json> {
    let kind = config.get("model_type").and_then(Json::as_str);
    if !matches!(kind, Some("gpt2" | "nomic_bert")) {
        return config;
    }
    let rename = |(key, value): (String, Json)| match RENAMED.iter().find(|(old, _)| *old == key) {
        // Of nomic_bert.
        Some((_, "hidden_act")) if value == "swiglu" => ("hidden_act".into(), "silu".into()),
        Some((_, new)) => ((*new).into(), value),
        None => (key, value),
    };
    config.into_iter().map(rename).collect()
}

/// Keys of a configuration like GPT-2's that other tasks read.
const OTHER_TASKS: [&str; 5] = [
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// Refuses scales of attention other than that of the heads' size.
pub(crate) fn check_attention(source: &Source<'_>) -> Result<()> {
    for key in OTHER_TASKS {
        source.json_value(key);
    }
    source.off("scale_attn_by_inverse_layer_idx", "")?;
    if !source.flag("scale_attn_weights", true)? {
        return Err(source.unsupported("scale_attn_weights", false));
    }
    Ok(())
}

fn gpt2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dims = Dense::sizes(source, &GPT2)?;
    if !source.is_gguf() {
        let size = source.uint("intermediate_size", "")?;
        dims.intermediate_size = size.unwrap_or(4 * dims.hidden_size);
    }
    check_attention(source)?;
    // The order in which products are scaled, and an old name of the context's length.
    source.json_value("reorder_and_upcast_attn");
    source.json_value("n_ctx");
    let positions = dims.context_length;
    let mut dense = Dense::like_llama(dims, &GPT2, vec![])
        .with_layer_norm(source, "layer_norm_eps", true)?
        .with_attention_biases(true, true)
        .with_mlp(source, MLP, true)?;
    for layer in &mut dense.layers {
        layer.rope = None;
    }
    Ok(Arc::new(Dense {
        names: &GPT2_NAMES,
        qkv: Stored::Stacked("c_attn"),
        positions: Some(positions),
        ..dense
    }))
}
