//! Families whose classes are in their own repositories: MiniCPM 1 and 2, which is Granite's graph by other keys, and
//! InternLM3, which is llama's. And Ministral 3. Sources: `modeling_minicpm.py`, `modeling_internlm3.py` there,
//! `transformers/models/ministral3`.

use std::sync::Arc;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::{Result, llama};

pub(crate) static MINICPM: Architecture = Architecture {
    names: &["minicpm"],
    gguf: Some("minicpm"),
    model_type: "minicpm",
    class: "MiniCPMForCausalLM",
    defaults: Defaults {
        vocab_size: 32_000,
        hidden_size: 4096,
        intermediate_size: 11_008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 2048,
        tied: true,
    },
    read: minicpm,
    transform: llama::transform,
    ..DECODER
};

pub(crate) static INTERNLM3: Architecture = Architecture {
    names: &["internlm3"],
    gguf: None,
    model_type: "internlm3",
    class: "InternLM3ForCausalLM",
    defaults: Defaults {
        vocab_size: 128_512,
        context_length: 32_768,
        rms_norm_eps: 1e-5,
        tied: false,
        ..MINICPM.defaults
    },
    read: internlm3,
    ..DECODER
};

pub(crate) static MINISTRAL3: Architecture = Architecture {
    names: &["ministral3", "mistral3"],
    gguf: Some("mistral3"),
    model_type: "ministral3",
    class: "Ministral3ForCausalLM",
    defaults: Defaults {
        vocab_size: 131_072,
        intermediate_size: 14_336,
        n_layers: 34,
        n_kv_heads: Some(8),
        head_dim: Some(128),
        rms_norm_eps: 1e-5,
        context_length: 262_144,
        tied: false,
        ..MINICPM.defaults
    },
    read: ministral3,
    transform: llama::transform,
    ..DECODER
};

fn minicpm(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let dense = Dense::read(source, &MINICPM, (10_000.0, None))?.with_mlp(source, GATED, false)?;
    let dims = &dense.dims;
    let depth = source.positive("scale_depth", "", 1.0)?;
    let by_depth = depth / (dims.n_layers as f32).sqrt();
    let base = source.positive("dim_model_base", "", 1.0)?;
    let by_width = dims.hidden_size as f32 / base;
    // GGUF files have the quotients.
    let (residual, logits) = match source.is_gguf() {
        true => (1.0, 1.0),
        false => (by_depth, by_width),
    };
    Ok(Arc::new(Dense {
        embedding_scale: source.positive("scale_emb", "embedding_scale", 1.0)?,
        residual_scale: source.positive("", "residual_scale", residual)?,
        logits_scale: 1.0 / source.positive("", "logit_scale", logits)?,
        ..dense
    }))
}

fn internlm3(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let (qkv, bias) = (source.flag("qkv_bias", false)?, source.flag("bias", false)?);
    let dense = Dense::read(source, &INTERNLM3, (10_000.0, None))?
        .with_attention_biases(qkv, bias)
        .with_mlp(source, GATED, bias)?;
    Ok(Arc::new(dense))
}

/// Its queries grow with the logarithm of how often the context of the training fits before them: not at all within it.
fn ministral3(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense =
        Dense::read(source, &MINISTRAL3, (1_000_000.0, None))?.with_mlp(source, GATED, false)?;
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    for layer in &mut dense.layers {
        layer.window = window.filter(|w| *w > 0);
    }
    if source
        .float("", "attention.temperature_scale")?
        .is_some_and(|s| s != 0.0)
    {
        let original = source.uint("", "rope.scaling.original_context_length")?;
        let context = &mut dense.dims.context_length;
        *context = original.unwrap_or(*context).min(*context);
    }
    Ok(Arc::new(dense))
}
