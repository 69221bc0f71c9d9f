//! Apertus: an MLP without a gate whose activation, xIELU, has constants of each layer's own (Huang and Schlag, "Deriving
//! Activation Functions Using Integration", 2024). Source: `transformers/models/apertus`.

use std::sync::Arc;

use siskin_graph::{Activation, Graph, Map, NodeId, Result as GraphResult};

use crate::config::Source;
use crate::dense::{DECODER, Dense, GATED, Mlp, NAMES, Names, QkNorm, Stored};
use crate::dims::Defaults;
use crate::families::{Architecture, Family};
use crate::llama;
use crate::{Result, Transform};

pub(crate) static APERTUS: Architecture = Architecture {
    names: &["apertus"],
    gguf: Some("apertus"),
    model_type: "apertus",
    class: "ApertusForCausalLM",
    defaults: Defaults {
        vocab_size: 131_072,
        hidden_size: 4096,
        intermediate_size: 14_336,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        head_dim: None,
        rms_norm_eps: 1e-5,
        context_length: 65_536,
        tied: false,
    },
    read: apertus,
    layer_names: &[
        ("attention_layernorm", "attn_norm"),
        ("feedforward_layernorm", "ffn_norm"),
    ],
    transform: |file, _| match file.tensor.contains(".act_fn.alpha_") {
        true => Transform::Softplus,
        false => Transform::None,
    },
    has_rope_factors: llama::LLAMA.has_rope_factors,
    ..DECODER
};

static APERTUS_NAMES: Names = Names {
    norms: ["attention_layernorm", "", "feedforward_layernorm", ""],
    ..NAMES
};

const MLP: Mlp = Mlp {
    up: Stored::Apart(&["up_proj"]),
    is_gated: false,
    ..GATED
};

/// Where the constants of xIELU are: for values above 0 and below it, and β.
#[derive(Debug, Clone)]
pub(crate) enum Xielu {
    /// In tensors of each layer.
    Tensors,
    /// In the metadata, `[layer]`.
    Metadata([Vec<f32>; 3]),
}

impl Xielu {
    const NAMES: [&'static str; 3] = ["alpha_p", "alpha_n", "beta"];

    fn read(source: &Source<'_>) -> Result<Self> {
        if !source.is_gguf() {
            return match source.str("hidden_act", "")? {
                None | Some("xielu") => Ok(Self::Tensors),
                Some(other) => Err(source.unsupported("hidden_act", other)),
            };
        }
        let mut found = [vec![], vec![], vec![]];
        for (values, name) in found.iter_mut().zip(Self::NAMES) {
            let key = format!("xielu.{name}");
            let list = source.gguf_floats(&key);
            *values = list.ok_or_else(|| source.wrong(&key, "a number for each layer"))?;
            if name != "beta" {
                *values = Transform::Softplus.apply(std::mem::take(values), 1);
            }
        }
        Ok(Self::Metadata(found))
    }

    /// `β x + α₊ x²` above 0, `β x + (β + α₋) (exp(x) − 1 − x)` below it.
    pub fn build(&self, g: &mut Graph, x: NodeId, module: &str, i: usize) -> GraphResult<NodeId> {
        let square = g.map(x, Map::Activation(Activation::Relu2));
        let excess = g.map(x, Map::ExpExcess);
        let both = g.add(x, excess)?;
        let mut sum = None;
        for (at, part) in [square, excess, both].into_iter().enumerate() {
            let name = format!("{module}.act_fn.{}", Self::NAMES[at]);
            let constant = match self {
                Self::Tensors => g.vector(&name, &[(&name, 1)]),
                Self::Metadata(values) => {
                    let value = values[at].get(i).copied().unwrap_or_default();
                    g.constant(&name, vec![value])
                }
            };
            let part = g.scale_columns(part, constant)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => g.add(sum, part)?,
            });
        }
        Ok(sum.unwrap_or(x))
    }
}

fn apertus(source: &Source<'_>) -> Result<Arc<dyn Family>> {
    let bias = source.flag("attention_bias", false)?;
    let dense = Dense::read(source, &APERTUS, (12_000_000.0, None))?;
    let dense = dense.with_attention_biases(bias, bias);
    Ok(Arc::new(Dense {
        names: &APERTUS_NAMES,
        qk_norm: QkNorm::Heads,
        mlp: MLP,
        xielu: Some(Xielu::read(source)?),
        ..dense
    }))
}
