//! Qwen2 and Qwen2.5: llama with biases on q, k and v. Source: `transformers/models/qwen2`.

use siskin_graph::{Graph, NodeId};

use crate::blocks::{self, Attention};
use crate::config::Source;
use crate::{Dims, Result};

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub dims: Dims,
    inv_freq: Vec<f32>,
    /// For the layers from `max_window_layers` on, where the file switches it on.
    window: Option<usize>,
    max_window_layers: usize,
}

impl Config {
    pub fn read(source: &Source) -> Result<Self> {
        let dims = source.dims()?;
        let inv_freq = source.inv_freq(dims.head_dim, dims.rope_theta)?;
        let uses_window = source.json("use_sliding_window").is_some_and(|v| v == true);
        let window = source.uint("sliding_window", "attention.sliding_window");
        Ok(Self {
            inv_freq,
            window: window.filter(|w| uses_window && *w > 0),
            max_window_layers: source
                .uint("max_window_layers", "")
                .unwrap_or(dims.n_layers),
            dims,
        })
    }

    pub fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let inv_freq = g.constant("inv_freq", self.inv_freq.clone());
        let mut x = blocks::embed(g, dims, 1.0);
        for i in 0..dims.n_layers {
            let attention = Attention {
                inv_freq,
                scale: blocks::attention_scale(dims.head_dim),
                window: self.window.filter(|_| i >= self.max_window_layers),
                qkv_bias: true,
                head_norms: false,
            };
            x = blocks::pre_norm_block(g, x, &format!("model.layers.{i}"), dims, &attention)?;
        }
        Ok(x)
    }
}
