//! Qwen3: llama with a norm on each head of q and k. Source: `transformers/models/qwen3`.

use siskin_graph::{Graph, NodeId};

use crate::blocks::{self, Attention};
use crate::config::Source;
use crate::{Dims, Result};

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub dims: Dims,
    inv_freq: Vec<f32>,
    qkv_bias: bool,
}

impl Config {
    pub fn read(source: &Source) -> Result<Self> {
        let dims = source.dims()?;
        let inv_freq = source.inv_freq(dims.head_dim, dims.rope_theta)?;
        let qkv_bias = source.json("attention_bias").is_some_and(|v| v == true);
        Ok(Self {
            dims,
            inv_freq,
            qkv_bias,
        })
    }

    pub fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let attention = Attention {
            inv_freq: g.constant("inv_freq", self.inv_freq.clone()),
            scale: blocks::attention_scale(dims.head_dim),
            window: None,
            qkv_bias: self.qkv_bias,
            head_norms: true,
        };
        let mut x = blocks::embed(g, dims, 1.0);
        for i in 0..dims.n_layers {
            x = blocks::pre_norm_block(g, x, &format!("model.layers.{i}"), dims, &attention)?;
        }
        Ok(x)
    }
}
