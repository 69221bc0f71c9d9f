//! gpt-oss: experts with biases and a clamped activation, sinks in attention, a window in every other layer, YaRN. Source:
//! `transformers/models/gpt_oss`.

use std::sync::Arc;

use siskin_graph::Activation;

use crate::config::Source;
use crate::dense::{DECODER, Dense};
use crate::dims::Defaults;
use crate::families::{Architecture, Family, InFile};
use crate::moe::{self, Moe, Stored};
use crate::{Dims, Result, Transform, layers};

pub(crate) static GPT_OSS: Architecture = Architecture {
    names: &["gpt_oss", "gpt-oss"],
    gguf: Some("gpt-oss"),
    model_type: "gpt_oss",
    class: "GptOssForCausalLM",
    defaults: Defaults {
        vocab_size: 201_088,
        hidden_size: 2880,
        intermediate_size: 2880,
        n_layers: 36,
        n_heads: 64,
        n_kv_heads: Some(8),
        head_dim: Some(64),
        rms_norm_eps: 1e-5,
        context_length: 131_072,
        tied: false,
    },
    read: gpt_oss,
    layer_names: &[
        ("self_attn.sinks", "attn_sinks.weight"),
        ("post_attention_layernorm", "post_attention_norm"),
    ],
    transform,
    ..DECODER
};

const NAMES: moe::Names = moe::Names {
    router: "router",
    stored: Stored::StackedWhole(["experts.gate_up_proj", "experts.down_proj"]),
    ..moe::NAMES
};

/// In folders, rows of gate and up alternate, as halves of heads do in files of llama.cpp.
fn transform(InFile { tensor, .. }: InFile<'_>, dims: &Dims) -> Transform {
    match tensor.contains(".experts.gate_up_proj") {
        true => Transform::UnpermuteRope {
            head_dim: 2 * dims.intermediate_size,
        },
        false => Transform::None,
    }
}

/// The constants of the activation, which no GGUF file says.
const CONSTANTS: [(&str, f32); 2] = [("swiglu_limit", 7.0), ("swiglu_alpha", 1.702)];

fn gpt_oss(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    for (key, only) in CONSTANTS {
        if let Some(other) = source.float(key, "")?.filter(|v| *v != only) {
            return Err(source.unsupported(key, other));
        }
    }
    // What the first configurations have beside the keys that are read.
    source.uint("initial_context_length", "")?;
    source.uint("experts_per_token", "")?;
    refuse_transposed(source)?;
    let bias = source.flag("attention_bias", true)?;
    let dense = Dense::read(source, &GPT_OSS, (150_000.0, None))?;
    let mut dense = dense.with_attention_biases(bias, bias);
    let size = match source.is_gguf() {
        true => Moe::size(source, "", 0)?,
        false => dense.dims.intermediate_size,
    };
    let mut moe = Moe {
        has_biases: true,
        ..Moe::read(source, NAMES, [128, 4], size)?
    };
    if moe.activation != Activation::Silu {
        return Err(source.unsupported("hidden_act", "other than silu"));
    }
    moe.activation = Activation::ClampedSilu;
    dense.moe = Some(moe);
    dense.has_sinks = true;
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    let window = window.or((!source.is_null("sliding_window")).then_some(128));
    let is_local = layers::is_local(source, dense.dims.n_layers, |i| i.is_multiple_of(2))?;
    for (layer, is_local) in dense.layers.iter_mut().zip(is_local) {
        layer.window = window.filter(|w| is_local && *w > 0);
        layer.is_sparse = true;
    }
    Ok(Arc::new(dense))
}

/// Folders in other types than MXFP4 have the experts' matrices transposed; and a folder that does not say how it
/// rotates means YaRN with constants of its own.
fn refuse_transposed(source: &Source<'_>) -> Result<()> {
    if source.is_gguf() {
        return Ok(());
    }
    const METHOD: &str = "quantization_config.quant_method";
    let method = source.table("quantization_config")?;
    let method = method.and_then(|t| t.get("quant_method")?.as_str());
    if method != Some("mxfp4") {
        return Err(source.wrong(METHOD, "mxfp4"));
    }
    let has_rope = ["rope_parameters", "rope_scaling"].map(|key| source.table(key));
    match has_rope {
        [Ok(None), Ok(None)] => Err(source.wrong("rope_parameters", "an object")),
        [first, second] => first.and(second).map(|_| ()),
    }
}
