//! Gemma 3, and EmbeddingGemma, whose attention is not causal: norms before and after both blocks, head norms, GeGLU, a scaled embedding, and local
//! layers with a window and a rope base of their own. Source: `transformers/models/gemma3`.

use std::sync::Arc;

use serde_json::json;
use siskin_formats::{Array, Value};
use siskin_graph::{Activation, Graph, NodeId};

use crate::blocks::{self, Attention, Biases};
use crate::config::Source;
use crate::dims::Defaults;
use crate::export::no_gguf;
use crate::families::{Architecture, Family, InConfig, InFile};
use crate::rope::{self, Rope};
use crate::{Dims, Error, Result, Transform, layers};

pub(crate) static GEMMA3: Architecture = Architecture {
    names: &["gemma3", "gemma3_text"],
    gguf: Some("gemma3"),
    model_type: "gemma3_text",
    class: "Gemma3ForCausalLM",
    defaults: DEFAULTS,
    read: Config::read,
    // Norms are around both blocks.
    layer_names: &[("post_attention_layernorm", "post_attention_norm")],
    transform,
    can_have: &[Biases::NONE, Biases::ATTENTION],
    top_names: &[],
    gguf_top_names: &[],
    has_rope_factors: false,
};

/// Gemma 3 with attention both ways, as llama.cpp calls it.
pub(crate) static GEMMA_EMBEDDING: Architecture = Architecture {
    names: &["gemma-embedding"],
    gguf: Some("gemma-embedding"),
    class: "Gemma3TextModel",
    ..GEMMA3
};

#[derive(Debug)]
struct Config {
    dims: Dims,
    global_inv_freq: Vec<f32>,
    local_inv_freq: Vec<f32>,
    local_theta: f32,
    window: Option<usize>,
    /// For each layer.
    local: Vec<bool>,
    /// What products of queries and keys are multiplied by.
    scale: f32,
    biases: Biases,
    activation: Activation,
    causal: bool,
}

const DEFAULTS: Defaults = Defaults {
    vocab_size: 262_208,
    hidden_size: 2304,
    intermediate_size: 9216,
    n_layers: 26,
    n_heads: 8,
    n_kv_heads: Some(4),
    head_dim: Some(256),
    rms_norm_eps: 1e-6,
    context_length: 131_072,
    tied: true,
};

/// Each n-th layer is global, where the file does not say.
const PATTERN: usize = 6;
/// The layers of the 27B model, whose scale no GGUF file says: of its heads' share of the hidden size.
const LAYERS_27B: usize = 62;

/// The scale that those who read GGUF files take.
fn gguf_scale(dims: &Dims) -> f32 {
    let query = match dims.n_layers {
        LAYERS_27B => dims.hidden_size / dims.n_heads,
        _ => dims.head_dim,
    };
    1.0 / (query as f32).sqrt()
}

/// Norms multiply by 1 + w; GGUF files have the sum.
fn transform(InFile { tensor, gguf }: InFile<'_>, _: &Dims) -> Transform {
    match !gguf && tensor.ends_with("norm.weight") {
        true => Transform::AddOne,
        false => Transform::None,
    }
}

impl Config {
    fn read(source: &Source<'_>) -> Result<Arc<dyn Family>> {
        let is_embedding = source.arch()? == GEMMA_EMBEDDING.names[0];
        let flag = source.bool("use_bidirectional_attention", "")?;
        let causal = !flag.unwrap_or(is_embedding);
        let mut dims = match causal {
            true => Dims::read(source, &DEFAULTS)?,
            false => Dims::read_any(source, &DEFAULTS)?,
        };
        // What the shapes of their tensors say too.
        for key in ["in", "out"] {
            source.gguf_value(&format!("dense_2_feat_{key}"));
            source.gguf_value(&format!("dense_3_feat_{key}"));
        }
        if !causal && source.bool("", "attention.causal")? == Some(true) {
            return Err(source.unsupported("attention.causal", true));
        }
        let (global, local_rope) = Rope::read_both(source, &dims, [1_000_000.0, 10_000.0])?;
        for rope in [&global, &local_rope] {
            if rope.scale != 1.0 {
                return Err(source.unsupported("rope_parameters", "an attention factor"));
            }
        }
        dims.rope_theta = global.theta;
        let activation = blocks::activation(source, "hidden_activation", Activation::GeluTanh)?;
        if blocks::activation(source, "hidden_act", activation)? != activation {
            return Err(source.unsupported("hidden_act", "other than hidden_activation"));
        }
        let window = source.uint("sliding_window", "attention.sliding_window")?;
        let window = match source.is_gguf() || source.is_null("sliding_window") {
            true => window,
            false => window.or(Some(4096)),
        };
        let pattern = source.uint("sliding_window_pattern", "")?;
        let pattern = pattern.unwrap_or(PATTERN).max(1);
        let local = layers::is_local(source, dims.n_layers, |i| !(i + 1).is_multiple_of(pattern))?;
        let scale = match source.is_gguf() {
            true => gguf_scale(&dims),
            false => 1.0 / source.positive("query_pre_attn_scalar", "", 256.0)?.sqrt(),
        };
        Ok(Arc::new(Self {
            global_inv_freq: global.inv_freq,
            local_inv_freq: local_rope.inv_freq,
            local_theta: local_rope.theta,
            // Half of it to either side, and the token itself.
            window: match causal {
                true => window.filter(|w| *w > 0),
                false => window.filter(|w| *w > 0).map(|w| w / 2 + 1),
            },
            local,
            scale,
            biases: Biases::of_attention(source)?,
            activation,
            causal,
            dims,
        }))
    }

    fn check_conversion(&self) -> Result<()> {
        match self.causal {
            true => Ok(()),
            false => Err(Error::NoConversion {
                arch: GEMMA_EMBEDDING.names[0],
            }),
        }
    }

    fn block(
        &self,
        g: &mut Graph,
        x: NodeId,
        layer: &str,
        dims: &Dims,
        a: &Attention,
    ) -> Result<NodeId> {
        let (d, eps) = (dims.hidden_size, dims.rms_norm_eps);
        let norm =
            |g: &mut Graph, x, name: &str| blocks::norm(g, x, &format!("{layer}.{name}"), d, eps);
        let h = norm(g, x, "input_layernorm")?;
        let h = blocks::attention(g, h, layer, dims, a)?;
        let h = norm(g, h, "post_attention_layernorm")?;
        let x = g.add(x, h)?;
        let h = norm(g, x, "pre_feedforward_layernorm")?;
        let h = blocks::mlp(g, h, layer, dims, self.activation, a.biases)?;
        let h = norm(g, h, "post_feedforward_layernorm")?;
        let x = g.add(x, h)?;
        g.end_layer(x, format!("{layer}.hidden"));
        Ok(x)
    }
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let global = g.constant("inv_freq", self.global_inv_freq.clone());
        let local = g.constant("local_inv_freq", self.local_inv_freq.clone());
        let mut x = blocks::embed(g, dims, (dims.hidden_size as f32).sqrt());
        for i in 0..dims.n_layers {
            let attention = Attention {
                inv_freq: if self.local[i] { local } else { global },
                rope_scale: 1.0,
                scale: self.scale,
                window: self.window.filter(|_| self.local[i]),
                biases: self.biases,
                head_norms: true,
                causal: self.causal,
            };
            let dims = dims.layer(i);
            x = self.block(g, x, &format!("model.layers.{i}"), &dims, &attention)?;
        }
        Ok(x)
    }

    fn is_encoder(&self) -> bool {
        !self.causal
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        self.check_conversion()?;
        let mut out = vec![];
        if let Some(window) = self.window {
            out.push(("attention.sliding_window", Value::Uint(window as u64)));
        }
        let local = Value::Array(Array::Bool(self.local.clone()));
        out.push(("attention.sliding_window_pattern", local));
        let theta = Value::Float(self.local_theta.into());
        out.push(("rope.freq_base_swa", theta));
        if self.local_inv_freq != rope::plain(self.dims.head_dim, self.local_theta) {
            let key = "rope_parameters.sliding_attention";
            return Err(no_gguf(key, "without scaling"));
        }
        if (self.scale / gguf_scale(&self.dims) - 1.0).abs() > 1e-6 {
            return Err(no_gguf("query_pre_attn_scalar", "head_dim"));
        }
        Ok(out)
    }

    fn in_config(&self) -> Result<InConfig> {
        self.check_conversion()?;
        let kind = |local: &bool| match local {
            true => "sliding_attention",
            false => "full_attention",
        };
        let query = (1.0 / (self.scale * self.scale)).round() as u64;
        Ok(InConfig {
            arch: &GEMMA3,
            window: self.window,
            biases: self.biases,
            more: vec![
                ("layer_types", self.local.iter().map(kind).collect()),
                ("hidden_activation", json!("gelu_pytorch_tanh")),
                ("query_pre_attn_scalar", json!(query)),
                ("rope_local_base_freq", json!(self.local_theta)),
            ],
        })
    }
}
