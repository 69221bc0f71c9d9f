//! Phi-3.5-MoE: Mixtral with layer norms, biases and a sparse mixer as its router. Source: `transformers/models/phimoe`.
//!
//! What reads GGUF files of it takes a softmax in the mixer's place, so these are not read.

use std::sync::Arc;

use siskin_graph::Score;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::mixtral::{MIXTRAL, NAMES};
use crate::moe::Moe;

pub(crate) static PHIMOE: Architecture = Architecture {
    names: &["phimoe"],
    gguf: None,
    model_type: "phimoe",
    class: "PhimoeForCausalLM",
    defaults: Defaults {
        vocab_size: 32_064,
        intermediate_size: 6400,
        ..MIXTRAL.defaults
    },
    read: phimoe,
    ..DECODER
};

fn phimoe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    // Of the longer rope, whose table says it again.
    source.uint("original_max_position_embeddings", "")?;
    source.float("input_jitter_noise", "")?;
    let bias = source.flag("attention_bias", false)?;
    let dense = Dense::read(source, &PHIMOE, (1_000_000.0, None))?;
    let mut dense = dense
        .with_layer_norm(source, "rms_norm_eps", true)?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    dense.head_bias = source.flag("lm_head_bias", false)?;
    let moe = Moe::read(source, NAMES, [16, 2], dense.dims.intermediate_size)?;
    if moe.n_used != 2 {
        return Err(source.unsupported("num_experts_per_tok", moe.n_used));
    }
    let jitter = source.float("router_jitter_noise", "")?.unwrap_or(0.01);
    dense.moe = Some(Moe {
        score: Score::SparseMixer { jitter },
        renormalise: false,
        ..moe
    });
    let window = source.uint("sliding_window", "")?.filter(|w| *w > 0);
    for layer in &mut dense.layers {
        layer.window = window;
        layer.is_sparse = true;
    }
    Ok(Arc::new(dense))
}
