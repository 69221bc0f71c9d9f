//! OLMo 1 to 3 and OLMoE: llama without weights in its norms; with norms after attention and MLP, and on all of q and k;
//! with windows; with experts. Source: `transformers/models/olmo`, `olmo2`, `olmo3`, `olmoe`.

use std::sync::Arc;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, NAMES, Names, Norm, Order, QkNorm};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::llama;
use crate::moe::{self, Moe};
use crate::rope::Rope;
use crate::{Result, layers};

pub(crate) static OLMO: Architecture = Architecture {
    names: &["olmo"],
    gguf: Some("olmo"),
    model_type: "olmo",
    class: "OlmoForCausalLM",
    defaults: Defaults {
        vocab_size: 50_304,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 2048,
        tied: false,
    },
    read: olmo,
    transform: llama::transform,
    ..DECODER
};

pub(crate) static OLMO2: Architecture = Architecture {
    names: &["olmo2"],
    gguf: Some("olmo2"),
    model_type: "olmo2",
    class: "Olmo2ForCausalLM",
    defaults: Defaults {
        vocab_size: 50_304,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 2048,
        tied: false,
    },
    read: olmo2,
    layer_names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ],
    ..DECODER
};

pub(crate) static OLMO3: Architecture = Architecture {
    names: &["olmo3"],
    gguf: Some("olmo2"),
    model_type: "olmo3",
    class: "Olmo3ForCausalLM",
    defaults: Defaults {
        vocab_size: 50_304,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 2048,
        tied: false,
    },
    read: olmo3,
    layer_names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ],
    ..DECODER
};

pub(crate) static OLMOE: Architecture = Architecture {
    names: &["olmoe"],
    gguf: Some("olmoe"),
    model_type: "olmoe",
    class: "OlmoeForCausalLM",
    defaults: Defaults {
        vocab_size: 50_304,
        hidden_size: 2048,
        intermediate_size: 2048,
        n_layers: 16,
        n_heads: 16,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 4096,
        tied: false,
    },
    read: olmoe,
    ..DECODER
};

static NAMES_AFTER: Names = Names {
    norms: [
        "",
        "post_attention_layernorm",
        "",
        "post_feedforward_layernorm",
    ],
    ..NAMES
};

/// Each n-th layer of OLMo 3 is global, where the file does not say.
const PATTERN: usize = 4;

fn refuse_clips(source: &Source<'_>) -> Result<()> {
    match source.float("clip_qkv", "attention.clamp_kqv")? {
        Some(clip) => Err(source.unsupported("clip_qkv", clip)),
        None => Ok(()),
    }
}

fn olmoe(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    refuse_clips(source)?;
    let bias = source.flag("attention_bias", false)?;
    let mut dense = Dense::read(source, &OLMOE, (10_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    dense.qk_norm = QkNorm::All;
    let size = dense.dims.intermediate_size;
    dense.moe = Some(Moe {
        renormalise: source.flag("norm_topk_prob", false)?,
        ..Moe::read(source, moe::NAMES, [64, 8], size)?
    });
    dense.layers.iter_mut().for_each(|l| l.is_sparse = true);
    Ok(Arc::new(dense))
}

fn olmo(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    refuse_clips(source)?;
    let bias = source.flag("attention_bias", false)?;
    let mut dense = Dense::read(source, &OLMO, (10_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    dense.norm = Norm::Plain;
    // No configuration says it.
    dense.dims.rms_norm_eps = source.positive("", "attention.layer_norm_epsilon", 1e-5)?;
    Ok(Arc::new(dense))
}

fn olmo2(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    // GGUF files call both the same.
    if source.uint("", "attention.sliding_window")?.is_some() {
        return olmo3(source);
    }
    let dense = Dense::read(source, &OLMO2, (10_000.0, None))?;
    Ok(Arc::new(with_norms_after(dense, source)?))
}

fn olmo3(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let dims = Dense::sizes(source, &OLMO3)?;
    let (global, local) = Rope::read_both(source, &dims, [500_000.0; 2])?;
    let dense = Dense::like_llama(dims, &OLMO3, vec![global, local]);
    let mut dense = with_norms_after(dense, source)?;
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    let window =
        window.or((!source.is_gguf() && !source.is_null("sliding_window")).then_some(4096));
    let is_local = layers::is_local(source, dense.dims.n_layers, |i| {
        !(i + 1).is_multiple_of(PATTERN)
    })?;
    for (layer, is_local) in dense.layers.iter_mut().zip(is_local) {
        layer.window = window.filter(|w| is_local && *w > 0);
        layer.rope = Some(usize::from(is_local));
    }
    Ok(Arc::new(dense))
}

fn with_norms_after(dense: Dense, source: &Source<'_>) -> Result<Dense> {
    let bias = source.flag("attention_bias", false)?;
    let mut dense = dense
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, false)?;
    dense.order = Order::After;
    dense.qk_norm = QkNorm::All;
    dense.names = &NAMES_AFTER;
    Ok(dense)
}
