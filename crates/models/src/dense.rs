//! Decoders of attention and MLP whose families differ in details: which norms, where they are, how q, k and v are
//! stored and rotated. A family reads its configuration into [`Dense`]; `dense_graph.rs` builds the graph.

use siskin_formats::Value;
use siskin_graph::{Activation, Graph, NodeId, Pairs, Place, Score};

use crate::apertus::Xielu;
use crate::blocks::{self, Biases};
use crate::config::Source;
use crate::families::{Architecture, Family, InConfig, as_they_are};
use crate::llama::LLAMA;
use crate::mixers::Mixer;
use crate::moe::Moe;
use crate::rope::Rope;
use crate::{Dims, Error, Result};

/// What the architectures of this kind have in common; each names and reads itself.
pub(crate) static DECODER: Architecture = Architecture {
    layer_names: &[],
    top_names: &[],
    transform: as_they_are,
    can_have: &[],
    gguf_top_names: &[],
    has_rope_factors: false,
    ..LLAMA
};

/// What normalises hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norm {
    Rms,
    /// With mean and weight, and a bias.
    Layer {
        bias: bool,
    },
    /// With mean, without weight and bias.
    Plain,
}

/// Where norms are, and what reads the block's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
    Before,
    /// `x + norm(attention(x))`, then `x + norm(mlp(x))`.
    After,
    /// `x + norm(attention(norm(x)))`, then `x + norm(mlp(norm(x)))`.
    Around,
    /// `x + attention(norm(x)) + mlp(norm(x))`; `norms` of one name share a norm.
    Parallel,
}

/// Norms of q and k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkNorm {
    None,
    /// rms_norm of each head, before rope.
    Heads,
    /// rms_norm of each head, after rope.
    HeadsAfterRope,
    /// rms_norm of all of q, and all of k, before rope.
    All,
}

/// How a file stores projections that one linear computes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// A tensor each.
    Apart(&'static [&'static str]),
    /// One tensor, one below the other.
    Stacked(&'static str),
    /// One tensor, for each head of k its heads of q, its k and its v.
    ByHead(&'static str),
}

/// The MLP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mlp {
    pub activation: Activation,
    /// Gate and up; or what is activated by itself.
    pub up: Stored,
    pub down: &'static str,
    pub is_gated: bool,
}

/// Names within a layer that families have of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// What is before a layer's number.
    pub layers: &'static str,
    pub attention: &'static str,
    /// What is in its place in layers that have another [`Mixer`].
    pub mixer: &'static str,
    pub o: &'static str,
    pub mlp: &'static str,
    /// Norms of q and k.
    pub qk_norms: [&'static str; 2],
    /// Before attention, after it, before the MLP, after it; those that [`Order`] has.
    pub norms: [&'static str; 4],
}

/// Those of llama, and of most families since.
pub(crate) const NAMES: Names = Names {
    layers: "model.layers",
    attention: "self_attn",
    mixer: "",
    o: "o_proj",
    mlp: "mlp",
    qk_norms: ["q_norm", "k_norm"],
    norms: ["input_layernorm", "", "post_attention_layernorm", ""],
};

pub(crate) const QKV: Stored = Stored::Apart(&["q_proj", "k_proj", "v_proj"]);

pub(crate) const GATED: Mlp = Mlp {
    activation: Activation::Silu,
    up: Stored::Apart(&["gate_proj", "up_proj"]),
    down: "down_proj",
    is_gated: true,
};

/// What a layer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// A mixer and an MLP.
    Both,
    /// A mixer alone, with the first of the norms.
    Mixer,
    /// An MLP alone, with the first of the norms.
    Mlp,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub mixer: Mixer,
    pub parts: Parts,
    pub window: Option<usize>,
    /// Which of the family's ropes.
    pub rope: Option<usize>,
    /// Whether it has experts instead of a dense MLP.
    pub is_sparse: bool,
}

/// A family's configuration.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    pub dims: Dims,
    pub arch: &'static Architecture,
    pub names: &'static Names,
    pub ropes: Vec<Rope>,
    pub pairs: Pairs,
    pub layers: Vec<Layer>,
    pub norm: Norm,
    pub order: Order,
    pub qkv: Stored,
    pub qk_norm: QkNorm,
    /// Norms of what the last linears of attention and MLP read, where there are some.
    pub inner_norms: Option<[&'static str; 2]>,
    /// Whether attention is multiplied by the sigmoid of a projection: below the rows of each head of q.
    pub has_attention_gate: bool,
    pub mlp: Mlp,
    /// The activation of an MLP without a gate, where it is this one.
    pub xielu: Option<Xielu>,
    /// Of the layers that are sparse.
    pub moe: Option<Moe>,
    pub biases: Biases,
    pub head_bias: bool,
    /// q·k is multiplied by it.
    pub attention_scale: f32,
    pub embedding_scale: f32,
    /// What the results of attention and MLP are multiplied by.
    pub residual_scale: f32,
    /// Rows of a table of learned positions, where there is one.
    pub positions: Option<usize>,
    pub logits_scale: f32,
    /// Of scores of attention.
    pub soft_cap: Option<f32>,
    pub logits_cap: Option<f32>,
    /// Whether each query head has a sink, in the tensor `sinks`.
    pub has_sinks: bool,
}

impl Dense {
    /// A family that is llama's, but for what it then changes: sizes and rope are read, and the activation.
    ///
    /// `rope` is what a file that does not say has: the base, and the part of each head that is rotated where a family
    /// may rotate less than all.
    pub fn read(
        source: &Source<'_>,
        arch: &'static Architecture,
        rope: (f32, Option<f32>),
    ) -> Result<Self> {
        let dims = Self::sizes(source, arch)?;
        let rope = Rope::read_with(source, &dims, rope.0, rope.1)?;
        Ok(Self::like_llama(dims, arch, vec![rope]))
    }

    /// The sizes.
    pub fn sizes(source: &Source<'_>, arch: &'static Architecture) -> Result<Dims> {
        if source.is_gguf() && arch.gguf.is_none() {
            return Err(source.unsupported("general.architecture", arch.names[0]));
        }
        Dims::read(source, &arch.defaults)
    }

    /// Layer norm instead of rms_norm, with the eps of this key.
    pub fn with_layer_norm(
        mut self,
        source: &Source<'_>,
        eps: &'static str,
        bias: bool,
    ) -> Result<Self> {
        self.dims.rms_norm_eps = source.positive(eps, "attention.layer_norm_epsilon", 1e-5)?;
        self.norm = Norm::Layer { bias };
        Ok(self)
    }

    /// The MLP's activation, and whether it has biases.
    pub fn with_mlp(mut self, source: &Source<'_>, mlp: Mlp, bias: bool) -> Result<Self> {
        let activation = blocks::activation(source, "hidden_act", mlp.activation)?;
        self.mlp = Mlp { activation, ..mlp };
        self.biases.gate_up = bias;
        self.biases.down = bias;
        if source.is_gguf() {
            self.biases = Biases::of_gguf(source);
        }
        Ok(self)
    }

    /// Biases of q, k and v, and of o.
    pub fn with_attention_biases(mut self, qkv: bool, o: bool) -> Self {
        self.biases = Biases {
            qkv,
            o,
            ..self.biases
        };
        self
    }

    /// With the first of the ropes in every layer.
    pub fn like_llama(mut dims: Dims, arch: &'static Architecture, ropes: Vec<Rope>) -> Self {
        if let Some(rope) = ropes.first() {
            dims.rope_theta = rope.theta;
            dims.context_length = rope.context_length.unwrap_or(dims.context_length);
        }
        let layer = Layer {
            mixer: Mixer::Attention,
            parts: Parts::Both,
            window: None,
            rope: Some(0),
            is_sparse: false,
        };
        Self {
            layers: vec![layer; dims.n_layers],
            attention_scale: blocks::attention_scale(dims.head_dim),
            dims,
            arch,
            names: &NAMES,
            ropes,
            pairs: Pairs::Halves,
            norm: Norm::Rms,
            order: Order::Before,
            qkv: QKV,
            qk_norm: QkNorm::None,
            inner_norms: None,
            has_attention_gate: false,
            mlp: GATED,
            xielu: None,
            moe: None,
            biases: Biases::NONE,
            head_bias: false,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            positions: None,
            logits_scale: 1.0,
            soft_cap: None,
            logits_cap: None,
            has_sinks: false,
        }
    }
}

/// What values of a layer are called in traces, whatever its tensors are.
pub(crate) fn label(i: usize) -> String {
    format!("model.layers.{i}")
}

impl Family for Dense {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let mut x = blocks::embed(g, &self.dims, self.embedding_scale);
        if let Some(rows) = self.positions {
            let table = "model.embed_positions.weight";
            let table = g.matrix(table, &[(table, rows)], self.dims.hidden_size);
            let places = g.embed_place(table, Place::Position { offset: 0 });
            x = g.add(x, places)?;
        }
        for i in 0..self.dims.n_layers {
            x = self.block(g, x, i)?;
            g.end_layer(x, format!("{}.hidden", label(i)));
        }
        Ok(x)
    }

    fn has_head_bias(&self) -> bool {
        self.head_bias
    }

    fn does_without(&self, tensor: &str) -> bool {
        // GPT-2's name of its mask, and a bound next to 0 in xIELU.
        self.positions.is_some() && tensor.ends_with(".attn.bias")
            || self.xielu.is_some() && tensor.ends_with(".act_fn.eps")
    }

    fn logits_cap(&self) -> Option<f32> {
        self.logits_cap
    }

    fn check_training(&self) -> Result<()> {
        match self.qkv {
            _ if self.layers.iter().any(|l| l.mixer.is_recurrent()) => {
                Err(Error::NoTraining("layers with a recurrent state"))
            }
            _ if self
                .layers
                .iter()
                .any(|l| matches!(l.mixer, Mixer::Latent(_))) =>
            {
                Err(Error::NoTraining("latent attention"))
            }
            _ if self
                .moe
                .is_some_and(|m| matches!(m.score, Score::SparseMixer { .. })) =>
            {
                Err(Error::NoTraining("a sparse mixer as its router"))
            }
            _ if self.xielu.is_some() => Err(Error::NoTraining("xIELU")),
            _ if self.head_bias => Err(Error::NoTraining("a bias of its head")),
            // An adapter is for a whole projection; these are taken apart.
            Stored::ByHead(_) => Err(Error::NoTraining("q, k and v of each head in one tensor")),
            _ => Ok(()),
        }
    }

    fn last_norm(&self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        let x = self.norm(g, x, "model.norm")?;
        // The head is linear: its input is scaled in place of its output.
        Ok(self.scaled(g, x, self.logits_scale))
    }

    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>> {
        Err(Error::NoConversion {
            arch: self.arch.names[0],
        })
    }

    fn in_config(&self) -> Result<InConfig> {
        Err(Error::NoConversion {
            arch: self.arch.names[0],
        })
    }
}
