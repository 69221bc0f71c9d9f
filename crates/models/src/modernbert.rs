//! ModernBERT: rotary positions, layers with a window between global ones, a gated MLP, no biases. Source:
//! `transformers/models/modernbert`.

use std::sync::Arc;

use siskin_formats::Value;
use siskin_graph::{Activation, Map, Pooling};

use crate::blocks;
use crate::config::Source;
use crate::dims::Defaults;
use crate::encoder::{
    Biases, Classifier, ENCODER, Encoder, Layer, Names, Order, Places, is_classifier, is_logistic,
    labels,
};
use crate::families::{Architecture, Family};
use crate::rope::Rope;
use crate::{Dims, Result, layers};

pub(crate) static MODERNBERT: Architecture = Architecture {
    names: &["modernbert", "modern-bert"],
    gguf: Some("modern-bert"),
    model_type: "modernbert",
    class: "ModernBertModel",
    defaults: Defaults {
        vocab_size: 50_368,
        hidden_size: 768,
        intermediate_size: 1152,
        n_layers: 22,
        n_heads: 12,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 8192,
        tied: true,
    },
    read,
    layer_names: &[
        ("attn.Wqkv", "attn_qkv"),
        ("attn.Wo", "attn_output"),
        ("attn_norm", "attn_norm"),
        ("mlp.Wi", "ffn_up"),
        ("mlp.Wo", "ffn_down"),
        ("mlp_norm", "ffn_norm"),
    ],
    top_names: &[
        ("model.embed_tokens", "embeddings.tok_embeddings"),
        ("model.embed_norm", "embeddings.norm"),
        ("model.norm", "final_norm"),
        ("model.embed_tokens", "model.embeddings.tok_embeddings"),
        ("model.embed_norm", "model.embeddings.norm"),
        ("model.norm", "model.final_norm"),
        ("score.dense", "head.dense"),
        ("score.norm", "head.norm"),
        ("score.out", "classifier"),
    ],
    ..ENCODER
};

static NAMES: Names = Names {
    qkv: &["attn.Wqkv"],
    o: "attn.Wo",
    up: &["mlp.Wi"],
    down: "mlp.Wo",
    norms: ["attn_norm", "mlp_norm"],
};

/// Heads of other tasks.
const UNUSED: &[&str] = &["head.", "decoder.", "cls."];

/// Each n-th layer is global, from the first on, where the file does not say.
const PATTERN: usize = 3;

fn local_layers(source: &Source<'_>, n_layers: usize) -> Result<Vec<bool>> {
    let mut pattern = source.uint("global_attn_every_n_layers", "")?;
    if let Some(Value::Uint(n)) = source.gguf_value("attention.sliding_window_pattern") {
        pattern = usize::try_from(*n).ok();
    }
    let pattern = pattern.unwrap_or(PATTERN).max(1);
    layers::is_local(source, n_layers, |i| !i.is_multiple_of(pattern))
}

fn classifier(source: &Source<'_>) -> Result<Option<Classifier>> {
    let mut pooling = match source.str("classifier_pooling", "")? {
        None | Some("cls") => Pooling::First,
        Some("mean") => Pooling::Mean,
        Some(other) => return Err(source.unsupported("classifier_pooling", other)),
    };
    if source.is_gguf() {
        // llama.cpp takes the mean where a file does not say.
        const KEY: &str = "classifier.pooling_type";
        pooling = match source.uint("", KEY)? {
            None | Some(1) => Pooling::Mean,
            Some(2) => Pooling::First,
            Some(other) => return Err(source.unsupported(KEY, other)),
        };
    }
    let activation = blocks::activation(source, "classifier_activation", Activation::Gelu)?;
    let dense_bias = source.flag("classifier_bias", false)?;
    if !is_classifier(source) {
        return Ok(None);
    }
    Ok(Some(Classifier {
        pooling,
        map: Map::Activation(activation),
        dense_bias,
        norm: true,
        labels: labels(source)?,
        is_logistic: is_logistic(source)?,
    }))
}

fn read(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dims = Dims::read_any(source, &MODERNBERT.defaults)?;
    // Files of newer converters have the key of rms_norm.
    let eps = dims.rms_norm_eps;
    dims.rms_norm_eps = source.positive("norm_eps", "attention.layer_norm_epsilon", eps)?;
    // Of training, and of the masked language model.
    for key in [
        "decoder_bias",
        "deterministic_flash_attn",
        "initializer_cutoff_factor",
        "mlp_dropout",
        "reference_compile",
        "repad_logits_with_grad",
        "sparse_prediction",
        "sparse_pred_ignore_index",
        "cls_token_id",
        // Always so, whatever older files say.
        "position_embedding_type",
        "layer_norm_eps",
    ] {
        source.json_value(key);
    }
    // What files before transformers 5 call the bases.
    let thetas = [
        source.positive("global_rope_theta", "", 160_000.0)?,
        source.positive("local_rope_theta", "", 10_000.0)?,
    ];
    let (global, local) = Rope::read_both(source, &dims, thetas)?;
    dims.rope_theta = global.theta;
    let window = source.uint("local_attention", "attention.sliding_window")?;
    let default = (!source.is_gguf()).then_some(128);
    // Half of it to either side, and the token itself.
    let window = window.or(default).map(|n| n / 2 + 1);
    let is_local = local_layers(source, dims.n_layers)?;
    let layer = |is_local: &bool| Layer {
        window: window.filter(|_| *is_local),
        rope: Some(usize::from(*is_local)),
    };
    let activation = match source.str("", "hidden_activation")? {
        None => blocks::activation(source, "hidden_activation", Activation::Gelu)?,
        Some("gelu") => Activation::Gelu,
        Some("silu") => Activation::Silu,
        Some(other) => return Err(source.unsupported("hidden_activation", other)),
    };
    Ok(Arc::new(Encoder {
        arch: &MODERNBERT,
        names: &NAMES,
        places: Places::default(),
        ropes: vec![global, local],
        layers: is_local.iter().map(layer).collect(),
        order: Order::Before,
        activation,
        is_gated: true,
        biases: Biases {
            attention: source.flag("attention_bias", false)?,
            mlp: source.flag("mlp_bias", false)?,
            norms: source.flag("norm_bias", false)?,
        },
        classifier: classifier(source)?,
        unused: UNUSED,
        dims,
    }))
}
