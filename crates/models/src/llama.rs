//! Llama: SmolLM2, TinyLlama, Llama 3.x, Mistral. Source: `transformers/models/llama`, `mistral`.

use siskin_graph::{Activation, Graph, NodeId};

use crate::blocks::{self, Attention, Biases};
use crate::config::Source;
use crate::dims::Defaults;
use crate::rope::Rope;
use crate::{Dims, Result, layers};

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub dims: Dims,
    pub inv_freq: Vec<f32>,
    /// Mistral's; the same in every layer.
    pub window: Option<usize>,
    pub biases: Biases,
    pub activation: Activation,
}

const LLAMA: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    n_layers: 32,
    n_heads: 32,
    n_kv_heads: None,
    head_dim: None,
    context_length: 2048,
    tied: false,
};

const MISTRAL: Defaults = Defaults {
    intermediate_size: 14_336,
    n_kv_heads: Some(8),
    context_length: 131_072,
    ..LLAMA
};

/// Mistral's window where `config.json` does not have the key.
const MISTRAL_WINDOW: usize = 4096;

impl Config {
    pub const fn defaults(is_mistral: bool) -> &'static Defaults {
        if is_mistral { &MISTRAL } else { &LLAMA }
    }

    pub fn read(source: &Source<'_>, is_mistral: bool) -> Result<Self> {
        let mut dims = Dims::read(source, Self::defaults(is_mistral))?;
        let rope = Rope::read(source, &dims)?;
        dims.rope_theta = rope.theta;
        if layers::is_local(source, dims.n_layers, |_| false)?.contains(&true) {
            return Err(source.unsupported("layer_types", "sliding_attention"));
        }
        // In GGUF files both are llama; a folder's llama knows no window.
        let window = match source.is_gguf() || is_mistral {
            true => {
                let found = source.uint("sliding_window", "attention.sliding_window")?;
                let has_default = !source.is_gguf() && !source.is_null("sliding_window");
                found.or(has_default.then_some(MISTRAL_WINDOW))
            }
            false => None,
        };
        let biases = match (source.is_gguf(), is_mistral) {
            (false, true) => Biases::default(),
            (false, false) => {
                let mlp = source.bool("mlp_bias", "")?.unwrap_or(false);
                Biases {
                    gate_up: mlp,
                    down: mlp,
                    ..Biases::of_attention(source)?
                }
            }
            (true, _) => Biases::of_gguf(source),
        };
        if is_mistral {
            // transformers' Mistral has none, whatever the file says.
            source.off("attention_bias", "")?;
            source.off("mlp_bias", "")?;
        }
        Ok(Self {
            dims,
            inv_freq: rope.inv_freq,
            window: window.filter(|w| *w > 0),
            biases,
            activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
        })
    }

    pub fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let attention = Attention {
            inv_freq: g.constant("inv_freq", self.inv_freq.clone()),
            scale: blocks::attention_scale(dims.head_dim),
            window: self.window,
            biases: self.biases,
            head_norms: false,
        };
        let mut x = blocks::embed(g, dims, 1.0);
        for i in 0..dims.n_layers {
            let layer = format!("model.layers.{i}");
            let dims = dims.layer(i);
            x = blocks::pre_norm_block(g, x, &layer, &dims, &attention, self.activation)?;
        }
        Ok(x)
    }
}
