//! Nomic's BERT: rotary positions and a gated MLP in BERT's order. Source: `transformers/models/nomic_bert`, and the
//! configuration of nomic-embed-text, whose keys are GPT-2's.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::blocks;
use crate::config::Source;
use crate::dims::Defaults;
use crate::encoder::{Biases, ENCODER, Encoder, Layer, Names, Order, Places, rows};
use crate::families::{Architecture, Family};
use crate::rope::Rope;
use crate::{Dims, Result, gpt2};

pub(crate) static NOMIC_BERT: Architecture = Architecture {
    names: &["nomic_bert", "nomic-bert"],
    gguf: Some("nomic-bert"),
    model_type: "nomic_bert",
    class: "NomicBertModel",
    defaults: Defaults {
        vocab_size: 30_528,
        hidden_size: 768,
        intermediate_size: 3072,
        n_layers: 12,
        n_heads: 12,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-12,
        context_length: 2048,
        tied: false,
    },
    read,
    layer_names: &[
        ("attn.Wqkv", "attn_qkv"),
        ("attn.out_proj", "attn_output"),
        ("norm1", "attn_output_norm"),
        ("mlp.fc12", "ffn_gate"),
        ("mlp.fc11", "ffn_up"),
        ("mlp.fc2", "ffn_down"),
        ("norm2", "layer_output_norm"),
    ],
    top_names: &[
        ("model.embed_tokens", "embeddings.word_embeddings"),
        ("model.embed_kinds", "embeddings.token_type_embeddings"),
        ("model.embed_norm", "emb_ln"),
        ("model.layers", "encoder.layers"),
    ],
    ..ENCODER
};

static NAMES: Names = Names {
    qkv: &["attn.Wqkv"],
    o: "attn.out_proj",
    up: &["mlp.fc12", "mlp.fc11"],
    down: "mlp.fc2",
    norms: ["norm1", "norm2"],
};

/// What is refused unless it is off, as in all files of the family.
const OFF: [&str; 9] = [
    "causal",
    "mlp_fc1_bias",
    "mlp_fc2_bias",
    "parallel_block",
    "parallel_block_tied_norm",
    "prenorm",
    "qkv_proj_bias",
    "rotary_emb_interleaved",
    "use_rms_norm",
];

fn refuse_others(source: &Source<'_>) -> Result<()> {
    for key in OFF {
        source.off(key, "")?;
    }
    source.off("reorder_and_upcast_attn", "")?;
    gpt2::check_attention(source)?;
    for (key, only) in [("rotary_emb_fraction", 1.0), ("moe_every_n_layers", 0.0)] {
        if let Some(value) = source.float(key, key)?.filter(|v| *v != only) {
            return Err(source.unsupported(key, value));
        }
    }
    // Of training, and of other tasks; `rotary_scaling_factor` is for contexts beyond those of the training.
    for key in [
        "attention_probs_dropout_prob",
        "dense_seq_output",
        "fused_bias_fc",
        "fused_dropout_add_ln",
        "last_layer_subset",
        "max_trained_positions",
        "pad_vocab_size_multiple",
        "rotary_scaling_factor",
        "use_xentropy",
    ] {
        source.json_value(key);
    }
    Ok(())
}

fn read(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dims = Dims::read_any(source, &NOMIC_BERT.defaults)?;
    dims.rms_norm_eps = source.positive("layer_norm_eps", "attention.layer_norm_epsilon", 1e-12)?;
    refuse_others(source)?;
    if let Some(trained) = source.uint("max_trained_positions", "")? {
        dims.context_length = dims.context_length.min(trained);
    }
    let rope = Rope::read_with(source, &dims, 1000.0, None)?;
    dims.rope_theta = rope.theta;
    let layer = Layer {
        window: None,
        rope: Some(0),
    };
    Ok(Arc::new(Encoder {
        arch: &NOMIC_BERT,
        names: &NAMES,
        places: Places {
            positions: None,
            kinds: rows(source, "type_vocab_size", "token_types.weight", 2)?,
        },
        ropes: vec![rope],
        layers: vec![layer; dims.n_layers],
        order: Order::OfSums,
        activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
        is_gated: true,
        biases: Biases {
            attention: false,
            mlp: false,
            norms: true,
        },
        classifier: None,
        unused: &["pooler.", "cls.predictions."],
        dims,
    }))
}
