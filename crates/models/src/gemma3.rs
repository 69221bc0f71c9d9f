//! Gemma 3: norms before and after both blocks, head norms, GeGLU, a scaled embedding, and local
//! layers with a window and a rope base of their own. Source: `transformers/models/gemma3`.

use siskin_graph::{Activation, Graph, NodeId};

use crate::blocks::{self, Attention};
use crate::config::Source;
use crate::{Dims, Error, Result};

/// The rope base of local layers where a file does not say (GGUF never does).
const LOCAL_ROPE_THETA: f32 = 10_000.0;

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub dims: Dims,
    global_inv_freq: Vec<f32>,
    local_inv_freq: Vec<f32>,
    pub local_theta: f32,
    window: Option<usize>,
    /// For each layer.
    pub local: Vec<bool>,
    pub scale: f32,
}

impl Config {
    pub fn read(source: &Source) -> Result<Self> {
        let mut dims = source.dims()?;
        if let Source::Gguf(..) = source {
            dims.rope_theta = source.float("", "rope.freq_base").unwrap_or(1_000_000.0);
        }
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if source.json(key).is_some() {
                return Err(Error::Key {
                    name: source.name(),
                    key: key.into(),
                    expected: "null: capped logits are not supported",
                });
            }
        }
        let local_theta = source.float("rope_local_base_freq", "rope.local_freq_base");
        let local_theta = local_theta.unwrap_or(LOCAL_ROPE_THETA);
        let half = dims.head_dim / 2;
        // Scaling is for the global layers only.
        let local_inv_freq = (0..half)
            .map(|i| 1.0 / local_theta.powf(i as f32 / half as f32))
            .collect();
        let query = source
            .float("query_pre_attn_scalar", "")
            .unwrap_or(dims.head_dim as f32);
        Ok(Self {
            global_inv_freq: source.inv_freq(dims.head_dim, dims.rope_theta)?,
            local_inv_freq,
            local_theta,
            window: source.uint("sliding_window", "attention.sliding_window"),
            local: (0..dims.n_layers).map(|i| source.is_local(i, 6)).collect(),
            scale: 1.0 / query.sqrt(),
            dims,
        })
    }

    pub fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let global = g.constant("inv_freq", self.global_inv_freq.clone());
        let local = g.constant("local_inv_freq", self.local_inv_freq.clone());
        let mut x = blocks::embed(g, dims, (dims.hidden_size as f32).sqrt());
        for i in 0..dims.n_layers {
            let attention = Attention {
                inv_freq: if self.local[i] { local } else { global },
                scale: self.scale,
                window: self.window.filter(|_| self.local[i]),
                qkv_bias: false,
                head_norms: true,
            };
            x = self.block(g, x, &format!("model.layers.{i}"), &attention)?;
        }
        Ok(x)
    }

    fn block(&self, g: &mut Graph, x: NodeId, layer: &str, a: &Attention) -> Result<NodeId> {
        let (d, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let norm =
            |g: &mut Graph, x, name: &str| blocks::norm(g, x, &format!("{layer}.{name}"), d, eps);
        let h = norm(g, x, "input_layernorm")?;
        let h = blocks::attention(g, h, layer, &self.dims, a)?;
        let h = norm(g, h, "post_attention_layernorm")?;
        let x = g.add(x, h)?;
        let h = norm(g, x, "pre_feedforward_layernorm")?;
        let h = blocks::mlp(g, h, layer, &self.dims, Activation::GeluTanh)?;
        let h = norm(g, h, "post_feedforward_layernorm")?;
        let x = g.add(x, h)?;
        g.name(x, format!("{layer}.hidden"));
        Ok(x)
    }
}
