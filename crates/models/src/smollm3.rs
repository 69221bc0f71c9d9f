//! SmolLM3: llama, whose every fourth layer has no rope. Source: `transformers/models/smollm3`.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::llama;
use crate::{Result, layers};

pub(crate) static SMOLLM3: Architecture = Architecture {
    names: &["smollm3"],
    gguf: Some("smollm3"),
    model_type: "smollm3",
    class: "SmolLM3ForCausalLM",
    defaults: Defaults {
        vocab_size: 128_256,
        hidden_size: 2048,
        intermediate_size: 11_008,
        n_layers: 36,
        n_heads: 16,
        n_kv_heads: Some(4),
        head_dim: None,
        rms_norm_eps: 1e-6,
        context_length: 32_768,
        tied: true,
    },
    read: smollm3,
    transform: llama::transform,
    ..DECODER
};

/// Each n-th layer is without rope, where the file does not say.
const INTERVAL: usize = 4;

fn smollm3(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let mlp_bias = source.flag("mlp_bias", false)?;
    let mut dense = Dense::read(source, &SMOLLM3, (2_000_000.0, None))?
        .with_attention_biases(bias, bias)
        .with_mlp(source, GATED, mlp_bias)?;
    let interval = source.uint("no_rope_layer_interval", "")?;
    let interval = interval.unwrap_or(INTERVAL).max(1);
    let n_layers = dense.dims.n_layers;
    // 1 for a layer with rope.
    const KEY: &str = "no_rope_layers";
    let listed = match source.json_value(KEY) {
        None | Some(Json::Null) => None,
        Some(Json::Array(list)) if list.len() == n_layers => Some(list),
        Some(_) => return Err(source.wrong(KEY, "a list with 0 or 1 for each layer")),
    };
    let is_windowed = source.flag("use_sliding_window", false)?;
    let window = source.uint("sliding_window", "")?;
    let window = window.filter(|w| is_windowed && *w > 0);
    let is_local = layers::is_local(source, n_layers, |_| false)?;
    for (i, layer) in dense.layers.iter_mut().enumerate() {
        layer.window = window.filter(|_| is_local[i]);
        let has_rope = match listed.map(|list| list[i].as_u64()) {
            None => !(i + 1).is_multiple_of(interval),
            Some(Some(flag @ (0 | 1))) => flag == 1,
            Some(_) => return Err(source.wrong(KEY, "a list with 0 or 1 for each layer")),
        };
        layer.rope = has_rope.then_some(0);
    }
    Ok(Arc::new(dense))
}
