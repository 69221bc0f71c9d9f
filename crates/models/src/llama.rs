//! Llama: SmolLM2, TinyLlama, Llama 3.x, Mistral. Source: `transformers/models/llama`, `mistral`.

use std::sync::Arc;

use serde_json::json;
use siskin_formats::Value;
use siskin_graph::{Activation, Graph, NodeId};

use crate::blocks::{self, Attention, Biases};
use crate::config::Source;
use crate::dims::Defaults;
use crate::export::{check_rope_scale, check_silu};
use crate::families::{Architecture, Family, InConfig, InFile};
use crate::rope::Rope;
use crate::{Dims, Result, Transform, layers, mixtral};

pub(crate) static LLAMA: Architecture = Architecture {
    names: &["llama"],
    gguf: Some("llama"),
    model_type: "llama",
    class: "LlamaForCausalLM",
    defaults: DEFAULTS,
    read: |source| match source.uint("", "expert_count")? {
        // In GGUF files mixtral is called llama, too.
        Some(1..) => mixtral::mixtral(source),
        _ => Config::read(source, false),
    },
    layer_names: &[],
    transform,
    can_have: &[Biases::NONE, Biases::ATTENTION, Biases::MLP, Biases::ALL],
    top_names: &[],
    gguf_top_names: &[],
    has_rope_factors: true,
};

/// GGUF files of it are llama's, with a window.
pub(crate) static MISTRAL: Architecture = Architecture {
    names: &["mistral"],
    model_type: "mistral",
    class: "MistralForCausalLM",
    defaults: MISTRAL_DEFAULTS,
    read: |source| Config::read(source, true),
    can_have: &[Biases::NONE],
    ..LLAMA
};

#[derive(Debug)]
struct Config {
    dims: Dims,
    inv_freq: Vec<f32>,
    rope_scale: f32,
    /// Mistral's; the same in every layer.
    window: Option<usize>,
    biases: Biases,
    activation: Activation,
}

const DEFAULTS: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    n_layers: 32,
    n_heads: 32,
    n_kv_heads: None,
    head_dim: None,
    rms_norm_eps: 1e-6,
    context_length: 2048,
    tied: false,
};

const MISTRAL_DEFAULTS: Defaults = Defaults {
    intermediate_size: 14_336,
    n_kv_heads: Some(8),
    context_length: 131_072,
    ..DEFAULTS
};

/// Mistral's window where `config.json` does not have the key.
const MISTRAL_WINDOW: usize = 4096;

/// llama.cpp rotates neighbouring rows, so its files have those of q and k in that order.
pub(crate) fn transform(InFile { tensor, gguf }: InFile<'_>, dims: &Dims) -> Transform {
    let is_rotated = tensor.contains(".q_proj.") || tensor.contains(".k_proj.");
    match gguf && is_rotated {
        true => Transform::UnpermuteRope {
            head_dim: dims.head_dim,
        },
        false => Transform::None,
    }
}

impl Config {
    fn read(source: &Source<'_>, is_mistral: bool) -> Result<Arc<dyn Family>> {
        let defaults = if is_mistral {
            MISTRAL_DEFAULTS
        } else {
            DEFAULTS
        };
        let mut dims = Dims::read(source, &defaults)?;
        let rope = Rope::read(source, &dims)?;
        dims.rope_theta = rope.theta;
        dims.context_length = rope.context_length.unwrap_or(dims.context_length);
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
            (false, true) => Biases::NONE,
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
        Ok(Arc::new(Self {
            dims,
            inv_freq: rope.inv_freq,
            rope_scale: rope.scale,
            window: window.filter(|w| *w > 0),
            biases,
            activation: blocks::activation(source, "hidden_act", Activation::Silu)?,
        }))
    }
}

impl Family for Config {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let dims = &self.dims;
        let attention = Attention {
            inv_freq: g.constant("inv_freq", self.inv_freq.clone()),
            rope_scale: self.rope_scale,
            scale: blocks::attention_scale(dims.head_dim),
            window: self.window,
            biases: self.biases,
            head_norms: false,
            causal: true,
        };
        let mut x = blocks::embed(g, dims, 1.0);
        for i in 0..dims.n_layers {
            let layer = format!("model.layers.{i}");
            let dims = dims.layer(i);
            x = blocks::pre_norm_block(g, x, &layer, &dims, &attention, self.activation)?;
        }
        Ok(x)
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        check_silu(self.activation)?;
        check_rope_scale(self.rope_scale)?;
        let window = self.window.into_iter();
        Ok(window
            .map(|w| ("attention.sliding_window", Value::Uint(w as u64)))
            .collect())
    }

    fn in_config(&self) -> Result<InConfig> {
        check_rope_scale(self.rope_scale)?;
        let mut more = vec![("hidden_act", json!("silu"))];
        if self.biases.down {
            more.push(("mlp_bias", json!(true)));
        }
        Ok(InConfig {
            // transformers' Llama knows no window; GGUF calls both llama.
            arch: if self.window.is_some() {
                &MISTRAL
            } else {
                &LLAMA
            },
            window: self.window,
            biases: self.biases,
            more,
        })
    }
}
