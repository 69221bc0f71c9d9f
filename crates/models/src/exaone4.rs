//! EXAONE 4: norms after attention and MLP, norms of heads, and rope in layers with a window only. Source:
//! `transformers/models/exaone4`.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, NAMES, Names, Order, QkNorm};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::{Result, layers};

pub(crate) static EXAONE4: Architecture = Architecture {
    names: &["exaone4"],
    gguf: Some("exaone4"),
    model_type: "exaone4",
    class: "Exaone4ForCausalLM",
    defaults: Defaults {
        vocab_size: 102_400,
        hidden_size: 4096,
        intermediate_size: 16_384,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(32),
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 2048,
        tied: false,
    },
    read: exaone4,
    layer_names: &[
        ("post_attention_layernorm", "post_attention_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ],
    ..DECODER
};

static EXAONE_NAMES: Names = Names {
    norms: [
        "",
        "post_attention_layernorm",
        "",
        "post_feedforward_layernorm",
    ],
    ..NAMES
};

/// Each n-th layer is global, where the file does not say.
const PATTERN: usize = 4;

fn exaone4(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let mut dense =
        Dense::read(source, &EXAONE4, (10_000.0, None))?.with_mlp(source, GATED, false)?;
    dense.order = Order::After;
    dense.qk_norm = QkNorm::Heads;
    dense.names = &EXAONE_NAMES;
    let window = source.uint("sliding_window", "attention.sliding_window")?;
    let window =
        window.or((!source.is_gguf() && !source.is_null("sliding_window")).then_some(4096));
    let pattern = match source.json_value("sliding_window_pattern") {
        // "LLLG": three local layers for each global one.
        Some(Json::String(kinds)) => kinds.len(),
        _ => source
            .uint("sliding_window_pattern", "")?
            .unwrap_or(PATTERN),
    };
    let pattern = pattern.max(1);
    let is_local = layers::is_local(source, dense.dims.n_layers, |i| {
        window.is_some() && !(i + 1).is_multiple_of(pattern)
    })?;
    for (layer, is_local) in dense.layers.iter_mut().zip(is_local) {
        layer.window = window.filter(|_| is_local);
        layer.rope = (is_local || window.is_none()).then_some(0);
    }
    Ok(Arc::new(dense))
}
