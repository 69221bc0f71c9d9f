//! BERT (MiniLM, BGE, E5) and RoBERTa (XLM-R, bge-m3, multilingual E5). Learned positions, norms of sums, biases
//! everywhere. Sources: `transformers/models/bert`, `roberta`, `xlm_roberta`.

use std::sync::Arc;

use siskin_graph::{Activation, Map, Pooling};

use crate::blocks;
use crate::config::Source;
use crate::dims::Defaults;
use crate::encoder::{
    Biases, Classifier, ENCODER, Encoder, Layer, Names, Order, Places, is_classifier, is_logistic,
    labels, rows,
};
use crate::families::{Architecture, Family};
use crate::{Dims, Error, Result};

const DEFAULTS: Defaults = Defaults {
    vocab_size: 30_522,
    hidden_size: 768,
    intermediate_size: 3072,
    n_layers: 12,
    n_heads: 12,
    n_kv_heads: None,
    head_dim: None,
    rms_norm_eps: 1e-12,
    context_length: 512,
    tied: false,
};

pub(crate) static BERT: Architecture = Architecture {
    names: &["bert"],
    gguf: Some("bert"),
    model_type: "bert",
    class: "BertModel",
    defaults: DEFAULTS,
    read: |source| read(source, &BERT, false),
    layer_names: &LAYER_NAMES,
    top_names: &[
        ("model.embed_tokens", "embeddings.word_embeddings"),
        ("model.embed_positions", "embeddings.position_embeddings"),
        ("model.embed_kinds", "embeddings.token_type_embeddings"),
        ("model.embed_norm", "embeddings.LayerNorm"),
        ("model.layers", "encoder.layer"),
        ("model.embed_tokens", "bert.embeddings.word_embeddings"),
        (
            "model.embed_positions",
            "bert.embeddings.position_embeddings",
        ),
        ("model.embed_kinds", "bert.embeddings.token_type_embeddings"),
        ("model.embed_norm", "bert.embeddings.LayerNorm"),
        ("model.layers", "bert.encoder.layer"),
        ("score.dense", "bert.pooler.dense"),
        ("score.out", "classifier"),
    ],
    ..ENCODER
};

pub(crate) static ROBERTA: Architecture = Architecture {
    names: &["roberta", "camembert"],
    model_type: "roberta",
    class: "RobertaModel",
    read: |source| read(source, &ROBERTA, true),
    ..XLM_ROBERTA_LIKE
};

pub(crate) static XLM_ROBERTA: Architecture = Architecture {
    read: |source| read(source, &XLM_ROBERTA, true),
    ..XLM_ROBERTA_LIKE
};

const XLM_ROBERTA_LIKE: Architecture = Architecture {
    names: &["xlm-roberta"],
    gguf: None,
    model_type: "xlm-roberta",
    class: "XLMRobertaModel",
    defaults: Defaults {
        vocab_size: 30_522,
        ..DEFAULTS
    },
    layer_names: &LAYER_NAMES,
    top_names: &[
        ("model.embed_tokens", "embeddings.word_embeddings"),
        ("model.embed_positions", "embeddings.position_embeddings"),
        ("model.embed_kinds", "embeddings.token_type_embeddings"),
        ("model.embed_norm", "embeddings.LayerNorm"),
        ("model.layers", "encoder.layer"),
        ("model.embed_tokens", "roberta.embeddings.word_embeddings"),
        (
            "model.embed_positions",
            "roberta.embeddings.position_embeddings",
        ),
        (
            "model.embed_kinds",
            "roberta.embeddings.token_type_embeddings",
        ),
        ("model.embed_norm", "roberta.embeddings.LayerNorm"),
        ("model.layers", "roberta.encoder.layer"),
        ("score.dense", "classifier.dense"),
        ("score.out", "classifier.out_proj"),
    ],
    ..ENCODER
};

const LAYER_NAMES: [(&str, &str); 8] = [
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

static NAMES: Names = Names {
    qkv: &[
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    ],
    o: "attention.output.dense",
    up: &["intermediate.dense"],
    down: "output.dense",
    norms: ["attention.output.LayerNorm", "output.LayerNorm"],
};

/// Heads of other tasks, and BERT's pooler, which is a part of its classifier.
const UNUSED: &[&str] = &[
    "pooler.",
    "bert.pooler.",
    "cls.predictions.",
    "cls.seq_relationship.",
    "lm_head.",
];

/// `is_roberta`: positions begin after that of the padding.
fn read(
    source: &Source<'_>,
    arch: &'static Architecture,
    is_roberta: bool,
) -> Result<Arc<dyn Family>> {
    let mut dims = Dims::read_any(source, &arch.defaults)?;
    dims.rms_norm_eps = source.positive("layer_norm_eps", "attention.layer_norm_epsilon", 1e-12)?;
    match source.str("position_embedding_type", "")? {
        None | Some("absolute") => {}
        Some(other) => return Err(source.unsupported("position_embedding_type", other)),
    }
    source.off("is_decoder", "")?;
    if source.bool("", "attention.causal")? == Some(true) {
        return Err(source.unsupported("attention.causal", true));
    }
    // What only training reads.
    source.json_value("attention_probs_dropout_prob");
    source.json_value("output_past");
    let padding = source.uint("pad_token_id", "")?.unwrap_or(1);
    // The converter of GGUF files leaves out the rows before that of position 0.
    let offset = if is_roberta { padding + 1 } else { 0 };
    let n = rows(
        source,
        "max_position_embeddings",
        "position_embd.weight",
        dims.context_length,
    )?;
    dims.context_length = n.saturating_sub(offset);
    if dims.context_length == 0 {
        return Err(source.wrong(
            "max_position_embeddings",
            "more than the padding's position",
        ));
    }
    let classifier = match is_classifier(source) {
        // Such a file cannot give the model's scores.
        true if source.is_gguf() && !source.has_tensor("cls.weight") => {
            return Err(Error::NoPooler(source.name()));
        }
        true => Some(Classifier {
            pooling: Pooling::First,
            map: Map::SoftCap(1.0),
            dense_bias: true,
            norm: false,
            labels: labels(source)?,
            is_logistic: is_logistic(source)?,
        }),
        false => None,
    };
    Ok(Arc::new(Encoder {
        arch,
        names: &NAMES,
        places: Places {
            positions: Some((n, offset)),
            kinds: rows(source, "type_vocab_size", "token_types.weight", 2)?,
        },
        ropes: vec![],
        layers: vec![
            Layer {
                window: None,
                rope: None
            };
            dims.n_layers
        ],
        order: Order::OfSums,
        activation: blocks::activation(source, "hidden_act", Activation::Gelu)?,
        is_gated: false,
        biases: Biases {
            attention: true,
            mlp: true,
            norms: true,
        },
        classifier,
        unused: UNUSED,
        dims,
    }))
}
