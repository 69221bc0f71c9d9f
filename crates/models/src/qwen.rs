//! Qwen2, Qwen2.5 and Qwen3: llama with biases on q, k and v, or with norms on the heads of q and k. Source:
//! `transformers/models/qwen2`, `qwen3`.

use std::sync::Arc;

use serde_json::json;
use siskin_formats::Value;
use siskin_graph::{Activation, Graph, NodeId};

use crate::blocks::{self, Attention, Biases};
use crate::config::Source;
use crate::dims::Defaults;
use crate::export::{check_rope_scale, check_silu, no_gguf};
use crate::families::{Architecture, Family, InConfig, as_they_are};
use crate::rope::Rope;
use crate::{Dims, Result, layers};

pub(crate) static QWEN2: Architecture = Architecture {
    names: &["qwen2"],
    gguf: Some("qwen2"),
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    defaults: QWEN2_DEFAULTS,
    read: |source| Config::read(source, false),
    layer_names: &[],
    transform: as_they_are,
    can_have: &[Biases::QKV],
    top_names: &[],
    gguf_top_names: &[],
    has_rope_factors: false,
};

pub(crate) static QWEN3: Architecture = Architecture {
    names: &["qwen3"],
    gguf: Some("qwen3"),
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    defaults: QWEN3_DEFAULTS,
    read: |source| Config::read(source, true),
    can_have: &[Biases::NONE, Biases::ATTENTION],
    ..QWEN2
};

#[derive(Debug)]
struct Config {
    dims: Dims,
    inv_freq: Vec<f32>,
    rope_scale: f32,
    /// Of each layer.
    windows: Vec<Option<usize>>,
    biases: Biases,
    activation: Activation,
    is_qwen3: bool,
}

const QWEN2_DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    hidden_size: 4096,
    intermediate_size: 22_016,
    n_layers: 32,
    n_heads: 32,
    n_kv_heads: Some(32),
    head_dim: None,
    rms_norm_eps: 1e-6,
    context_length: 32_768,
    tied: false,
};

const QWEN3_DEFAULTS: Defaults = Defaults {
    head_dim: Some(128),
    ..QWEN2_DEFAULTS
};

/// The window where the file switches it on and does not say how long it is.
const WINDOW: usize = 4096;
/// The first layer with a window where the file does not say.
const MAX_WINDOW_LAYERS: usize = 28;

impl Config {
    fn read(source: &Source<'_>, is_qwen3: bool) -> Result<Arc<dyn Family>> {
        let defaults = if is_qwen3 {
            QWEN3_DEFAULTS
        } else {
            QWEN2_DEFAULTS
        };
        let mut dims = Dims::read(source, &defaults)?;
        let rope = Rope::read(source, &dims)?;
        dims.rope_theta = rope.theta;
        dims.context_length = rope.context_length.unwrap_or(dims.context_length);
        // GGUF files may have the key; what reads them uses no window.
        let found = source.uint("sliding_window", "attention.sliding_window")?;
        let is_on = source.bool("use_sliding_window", "")?.unwrap_or(false);
        let default = (!source.is_null("sliding_window")).then_some(WINDOW);
        let window = found.or(default).filter(|w| is_on && *w > 0);
        let first = source.uint("max_window_layers", "")?;
        let first = first.unwrap_or(MAX_WINDOW_LAYERS);
        let is_local = layers::is_local(source, dims.n_layers, |i| window.is_some() && i >= first)?;
        if is_local.contains(&true) && window.is_none() {
            return Err(source.wrong("sliding_window", "there, as layers have a window"));
        }
        let biases = match (source.is_gguf(), is_qwen3) {
            (true, _) => Biases::of_gguf(source),
            (false, true) => Biases::of_attention(source)?,
            (false, false) => Biases::QKV,
        };
        Ok(Arc::new(Self {
            inv_freq: rope.inv_freq,
            rope_scale: rope.scale,
            windows: is_local.iter().map(|l| window.filter(|_| *l)).collect(),
            biases,
            activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
            is_qwen3,
            dims,
        }))
    }
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let inv_freq = g.constant("inv_freq", self.inv_freq.clone());
        let mut x = blocks::embed(g, dims, 1.0);
        for (i, window) in self.windows.iter().enumerate() {
            let attention = Attention {
                inv_freq,
                rope_scale: self.rope_scale,
                scale: blocks::attention_scale(dims.head_dim),
                window: *window,
                biases: self.biases,
                head_norms: self.is_qwen3,
                causal: true,
            };
            let layer = format!("model.layers.{i}");
            let dims = dims.layer(i);
            x = blocks::pre_norm_block(g, x, &layer, &dims, &attention, self.activation)?;
        }
        Ok(x)
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        // What reads GGUF files of these uses no window.
        if self.windows.iter().any(Option::is_some) {
            return Err(no_gguf("use_sliding_window", "off"));
        }
        check_silu(self.activation)?;
        check_rope_scale(self.rope_scale)?;
        Ok(vec![])
    }

    fn in_config(&self) -> Result<InConfig> {
        check_rope_scale(self.rope_scale)?;
        Ok(InConfig {
            arch: if self.is_qwen3 { &QWEN3 } else { &QWEN2 },
            window: None,
            biases: self.biases,
            more: vec![("hidden_act", json!("silu"))],
        })
    }
}
