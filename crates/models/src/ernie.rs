//! ERNIE 4.5, dense and with experts, and Helium: llama with interleaved rope. Source: `transformers/models/ernie4_5`,
//! `ernie4_5_moe`, `helium`.

use std::sync::Arc;

use siskin_graph::Pairs;

use crate::Result;
use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::moe::{self, Moe, Shared};

pub(crate) static ERNIE4_5: Architecture = Architecture {
    names: &["ernie4_5"],
    gguf: Some("ernie4_5"),
    model_type: "ernie4_5",
    class: "Ernie4_5ForCausalLM",
    defaults: Defaults {
        vocab_size: 103_424,
        hidden_size: 1024,
        intermediate_size: 3072,
        n_layers: 18,
        n_heads: 16,
        n_kv_heads: Some(2),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        context_length: 131_072,
        tied: true,
    },
    read: ernie4_5,
    ..DECODER
};

pub(crate) static ERNIE4_5_MOE: Architecture = Architecture {
    names: &["ernie4_5_moe", "ernie4_5-moe"],
    gguf: Some("ernie4_5-moe"),
    model_type: "ernie4_5_moe",
    class: "Ernie4_5_MoeForCausalLM",
    defaults: Defaults {
        hidden_size: 2560,
        intermediate_size: 12_288,
        n_layers: 28,
        n_heads: 20,
        n_kv_heads: Some(4),
        head_dim: None,
        ..ERNIE4_5.defaults
    },
    read: ernie4_5_moe,
    ..DECODER
};

const NAMES: moe::Names = moe::Names {
    choice: "moe_statics.e_score_correction_bias",
    shared: "shared_experts",
    ..moe::NAMES
};

pub(crate) static HELIUM: Architecture = Architecture {
    names: &["helium"],
    gguf: None,
    model_type: "helium",
    class: "HeliumForCausalLM",
    defaults: Defaults {
        vocab_size: 48_000,
        hidden_size: 2560,
        intermediate_size: 7040,
        n_layers: 24,
        n_heads: 20,
        n_kv_heads: Some(20),
        head_dim: Some(128),
        rms_norm_eps: 1e-8,
        context_length: 4096,
        tied: false,
    },
    read: helium,
    ..DECODER
};

fn ernie4_5(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("use_bias", false)?;
    let mut dense = Dense::read(source, &ERNIE4_5, (500_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, bias)?;
    dense.pairs = Pairs::Interleaved;
    Ok(Arc::new(dense))
}

fn ernie4_5_moe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("use_bias", false)?;
    let mut dense = Dense::read(source, &ERNIE4_5_MOE, (500_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, bias)?;
    if bias {
        return Err(source.unsupported("use_bias", true));
    }
    dense.pairs = Pairs::Interleaved;
    let of = |json: &str, gguf: &str, default: usize, most: usize| {
        let default = (!source.is_gguf()).then_some(default);
        source.size(json, gguf, default, most)
    };
    let n_experts = of("moe_num_experts", "expert_count", 64, 1024)?;
    let n_used = of("moe_k", "expert_used_count", 6, n_experts)?;
    let size = Moe::size(source, "moe_intermediate_size", 1536)?;
    let n_shared = source.uint("moe_num_shared_experts", "expert_shared_count")?;
    let n_shared = n_shared.unwrap_or(if source.is_gguf() { 0 } else { 2 });
    // Converters write a number that is right by chance; the tensors' shapes say it.
    source.uint("", "expert_shared_feed_forward_length")?;
    // A sum of softmax's values is never so small that this bound matters.
    if source.positive("moe_norm_min", "", 1e-12)? > 1e-6 {
        return Err(source.wrong("moe_norm_min", "up to 1e-6"));
    }
    // About training; and the only choice there is.
    source.float("moe_capacity", "")?;
    source.bool("moe_use_aux_free", "")?;
    if let Some(other) = source.str("moe_gate", "")?.filter(|g| *g != "topk") {
        return Err(source.unsupported("moe_gate", other));
    }
    dense.moe = Some(Moe {
        has_choice_bias: true,
        shared: (n_shared > 0).then_some(Shared {
            size: n_shared * size,
            is_gated: false,
        }),
        ..Moe::of(source, NAMES, [n_experts, n_used], size)?
    });
    let n = dense.dims.n_layers;
    let first = source.uint("moe_layer_start_index", "leading_dense_block_count")?;
    let last = source
        .float("moe_layer_end_index", "")?
        .filter(|l| *l >= 0.0);
    let step = of("moe_layer_interval", "interleave_moe_layer_step", 1, n)?;
    for (i, layer) in dense.layers.iter_mut().enumerate() {
        let within = i >= first.unwrap_or(1) && last.is_none_or(|last| i as f32 <= last);
        layer.is_sparse = within && (i + 1).is_multiple_of(step);
    }
    Ok(Arc::new(dense))
}

fn helium(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let mlp_bias = source.flag("mlp_bias", false)?;
    let mut dense = Dense::read(source, &HELIUM, (100_000.0, None))?
        .with_attention_biases(bias, false)
        .with_mlp(source, GATED, mlp_bias)?;
    dense.pairs = Pairs::Interleaved;
    Ok(Arc::new(dense))
}
