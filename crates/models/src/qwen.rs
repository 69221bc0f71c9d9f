//! Qwen2, Qwen2.5 and Qwen3: llama with biases on q, k and v, or with norms on the heads of q and k. Source:
//! `transformers/models/qwen2`, `qwen3`.

use siskin_graph::{Activation, Graph, NodeId};

use crate::blocks::{self, Attention, Biases};
use crate::config::Source;
use crate::dims::Defaults;
use crate::rope::Rope;
use crate::{Dims, Result, layers};

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub dims: Dims,
    inv_freq: Vec<f32>,
    /// Of each layer.
    pub windows: Vec<Option<usize>>,
    pub biases: Biases,
    pub activation: Activation,
    pub is_qwen3: bool,
}

const QWEN2: Defaults = Defaults {
    vocab_size: 151_936,
    hidden_size: 4096,
    intermediate_size: 22_016,
    n_layers: 32,
    n_heads: 32,
    n_kv_heads: Some(32),
    head_dim: None,
    context_length: 32_768,
    tied: false,
};

const QWEN3: Defaults = Defaults {
    head_dim: Some(128),
    ..QWEN2
};

/// The window where the file switches it on and does not say how long it is.
const WINDOW: usize = 4096;
/// The first layer with a window where the file does not say.
const MAX_WINDOW_LAYERS: usize = 28;

impl Config {
    pub const fn defaults(is_qwen3: bool) -> &'static Defaults {
        if is_qwen3 { &QWEN3 } else { &QWEN2 }
    }

    pub fn read(source: &Source<'_>, is_qwen3: bool) -> Result<Self> {
        let mut dims = Dims::read(source, Self::defaults(is_qwen3))?;
        let rope = Rope::read(source, &dims)?;
        dims.rope_theta = rope.theta;
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
            (false, false) => Biases {
                qkv: true,
                ..Biases::default()
            },
        };
        Ok(Self {
            inv_freq: rope.inv_freq,
            windows: is_local.iter().map(|l| window.filter(|_| *l)).collect(),
            biases,
            activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
            is_qwen3,
            dims,
        })
    }

    pub fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let inv_freq = g.constant("inv_freq", self.inv_freq.clone());
        let mut x = blocks::embed(g, dims, 1.0);
        for (i, window) in self.windows.iter().enumerate() {
            let attention = Attention {
                inv_freq,
                scale: blocks::attention_scale(dims.head_dim),
                window: *window,
                biases: self.biases,
                head_norms: self.is_qwen3,
            };
            let layer = format!("model.layers.{i}");
            let dims = dims.layer(i);
            x = blocks::pre_norm_block(g, x, &layer, &dims, &attention, self.activation)?;
        }
        Ok(x)
    }
}
