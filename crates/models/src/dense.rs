//! Decoders of attention and MLP whose families differ in details: which norms, where they are, how q, k and v are
//! stored and rotated. A family reads its configuration into [`Dense`], which builds the graph.

use siskin_formats::Value;
use siskin_graph::{
    Activation, AttentionSpec, Graph, Map, NodeId, Pairs, Part, Result as GraphResult, RopeSpec,
    Score,
};

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
    /// Whether attention is multiplied by the sigmoid of a projection: below the rows of each head of q.
    pub has_attention_gate: bool,
    pub mlp: Mlp,
    /// Of the layers that are sparse.
    pub moe: Option<Moe>,
    pub biases: Biases,
    pub head_bias: bool,
    /// q·k is multiplied by it.
    pub attention_scale: f32,
    pub embedding_scale: f32,
    /// What the results of attention and MLP are multiplied by.
    pub residual_scale: f32,
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
            has_attention_gate: false,
            mlp: GATED,
            moe: None,
            biases: Biases::NONE,
            head_bias: false,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logits_scale: 1.0,
            soft_cap: None,
            logits_cap: None,
            has_sinks: false,
        }
    }

    fn norm(&self, g: &mut Graph, x: NodeId, name: &str) -> GraphResult<NodeId> {
        let (n, eps) = (self.dims.hidden_size, self.dims.rms_norm_eps);
        let weight = |g: &mut Graph, suffix: &str| {
            let name = format!("{name}.{suffix}");
            g.vector(&name, &[(&name, n)])
        };
        match self.norm {
            Norm::Rms => blocks::norm(g, x, name, n, eps),
            Norm::Layer { bias } => {
                let bias = bias.then(|| weight(g, "bias"));
                let weight = weight(g, "weight");
                g.layer_norm(x, weight, bias, eps)
            }
            Norm::Plain => {
                let ones = g.constant("ones", vec![1.0; n]);
                g.layer_norm(x, ones, None, eps)
            }
        }
    }

    /// A linear over projections of these many rows each.
    fn projections(
        &self,
        g: &mut Graph,
        x: NodeId,
        module: &str,
        stored: Stored,
        rows: &[usize],
        bias: bool,
    ) -> GraphResult<NodeId> {
        let cols = g.node(x).cols;
        let (name, tensor) = match stored {
            Stored::Apart(names) => {
                let named: Vec<_> = names.iter().copied().zip(rows.iter().copied()).collect();
                return blocks::stacked(g, x, module, &named, bias);
            }
            Stored::Stacked(name) => {
                return blocks::stacked(g, x, module, &[(name, rows.iter().sum())], bias);
            }
            Stored::ByHead(name) => (name, format!("{module}.{name}")),
        };
        let ranges = self.by_head();
        let shape = [rows.iter().sum(), cols];
        let parts = |suffix: &str, shape: [usize; 2]| -> Vec<Part> {
            let part = |rows: &std::ops::Range<usize>| Part {
                rows: rows.clone(),
                ..Part::whole(format!("{tensor}.{suffix}"), shape)
            };
            ranges.iter().map(part).collect()
        };
        let weight = g.matrix_of(&format!("{module}.{name}.weight"), parts("weight", shape))?;
        let bias = bias.then(|| {
            g.vector_of(
                &format!("{module}.{name}.bias"),
                parts("bias", [shape[0], 1]),
            )
        });
        g.linear(x, weight, bias.transpose()?)
    }

    /// Rows of a tensor that has q, k and v head by head, in the order q, k, v.
    fn by_head(&self) -> Vec<std::ops::Range<usize>> {
        let (n, d) = (self.dims.n_kv_heads, self.dims.head_dim);
        let q = self.dims.n_heads / n;
        let range = |first: usize, heads: usize, group: usize| {
            let at = (group * (q + 2) + first) * d;
            at..at + heads * d
        };
        [(0, q), (q, 1), (q + 1, 1)]
            .into_iter()
            .flat_map(|(first, heads)| (0..n).map(move |group| range(first, heads, group)))
            .collect()
    }

    fn rope(&self, g: &mut Graph, i: usize) -> RopeSpec {
        let spec = |inv_freq, scale| RopeSpec {
            inv_freq,
            head_dim: self.dims.head_dim,
            pairs: self.pairs,
            scale,
        };
        match self.layers[i].rope {
            // A rotation by nothing.
            None => spec(g.constant("no_rope", vec![0.0]), 1.0),
            Some(at) => {
                let name = match at {
                    0 => "inv_freq".into(),
                    at => format!("inv_freq.{at}"),
                };
                let Rope {
                    inv_freq, scale, ..
                } = &self.ropes[at];
                spec(g.constant(&name, inv_freq.clone()), *scale)
            }
        }
    }

    fn attention(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let dims = self.dims.layer(i);
        let (n_heads, n_kv_heads, head_dim) = (dims.n_heads, dims.n_kv_heads, dims.head_dim);
        let (nq, nkv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let layer = self.layer_name(i);
        let module = format!("{layer}.{}", self.names.attention);
        let qkv = match self.has_attention_gate {
            true => self.gated_qkv(g, x, &module, [nq, nkv])?,
            false => self.projections(g, x, &module, self.qkv, &[nq, nkv, nkv], self.biases.qkv)?,
        };
        let q = g.slice(qkv, 0, nq)?;
        let k = g.slice(qkv, nq, nkv)?;
        let v = g.slice(qkv, nq + nkv, nkv)?;
        let eps = dims.rms_norm_eps;
        let qk = |g: &mut Graph, q: NodeId, k: NodeId, n: [usize; 2]| -> GraphResult<[NodeId; 2]> {
            Ok([
                blocks::norm(
                    g,
                    q,
                    &format!("{module}.{}", self.names.qk_norms[0]),
                    n[0],
                    eps,
                )?,
                blocks::norm(
                    g,
                    k,
                    &format!("{module}.{}", self.names.qk_norms[1]),
                    n[1],
                    eps,
                )?,
            ])
        };
        let [q, k] = match self.qk_norm {
            QkNorm::Heads => qk(g, q, k, [head_dim; 2])?,
            QkNorm::All => qk(g, q, k, [nq, nkv])?,
            QkNorm::None | QkNorm::HeadsAfterRope => [q, k],
        };
        let rope = self.rope(g, i);
        let (q, k) = (g.rope_of(q, rope)?, g.rope_of(k, rope)?);
        let [q, k] = match self.qk_norm {
            QkNorm::HeadsAfterRope => qk(g, q, k, [head_dim; 2])?,
            _ => [q, k],
        };
        for (x, name) in [(q, "q"), (k, "k"), (v, "v")] {
            g.name(x, format!("{layer}.{name}"));
        }
        let cache = g.cache(n_kv_heads, head_dim);
        g.kv_append(k, v, cache)?;
        let sinks = self.has_sinks.then(|| {
            let name = format!("{module}.sinks");
            g.vector(&name, &[(&name, n_heads)])
        });
        let spec = AttentionSpec {
            n_heads,
            n_kv_heads,
            head_dim,
            scale: self.attention_scale,
            window: self.layers[i].window,
            causal: true,
            soft_cap: self.soft_cap,
            sinks,
        };
        let mut mixed = g.attention(q, cache, spec)?;
        g.name(mixed, format!("{layer}.attention"));
        if self.has_attention_gate {
            let gate = g.slice(qkv, nq + 2 * nkv, nq)?;
            mixed = g.gated(gate, mixed, Activation::Sigmoid)?;
        }
        let o = [(self.names.o, dims.hidden_size)];
        let y = blocks::stacked(g, mixed, &module, &o, self.biases.o)?;
        Ok(self.scaled(g, y, self.residual_scale))
    }

    /// q, k, v and the gate, whose rows are between those of q's heads in the file.
    fn gated_qkv(
        &self,
        g: &mut Graph,
        x: NodeId,
        module: &str,
        [nq, nkv]: [usize; 2],
    ) -> GraphResult<NodeId> {
        let (cols, d) = (g.node(x).cols, self.dims.head_dim);
        let parts = |suffix: &str, cols: usize| -> Vec<Part> {
            let heads = |side: usize| {
                (0..nq / d).map(move |head| {
                    let at = (2 * head + side) * d;
                    at..at + d
                })
            };
            let of_q = |rows| Part {
                rows,
                ..Part::whole(format!("{module}.q_proj.{suffix}"), [2 * nq, cols])
            };
            let whole = |name: &str| Part::whole(format!("{module}.{name}.{suffix}"), [nkv, cols]);
            let mut parts: Vec<Part> = heads(0).map(of_q).collect();
            parts.extend([whole("k_proj"), whole("v_proj")]);
            parts.extend(heads(1).map(of_q));
            parts
        };
        let name = format!("{module}.q_proj+k_proj+v_proj");
        let weight = g.matrix_of(&format!("{name}.weight"), parts("weight", cols))?;
        let bias = self.biases.qkv;
        let bias = bias.then(|| g.vector_of(&format!("{name}.bias"), parts("bias", 1)));
        g.linear(x, weight, bias.transpose()?)
    }

    /// Attention, or what a layer has in its place.
    fn mix(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let module = format!("{}.{}", self.layer_name(i), self.names.mixer);
        let y = match self.layers[i].mixer {
            Mixer::Attention => return self.attention(g, x, i),
            Mixer::ShortConv(conv) => conv.build(g, x, &module),
            Mixer::DeltaNet(net) => net.build(g, x, &module),
            Mixer::Mamba(mamba) => mamba.build(g, x, &module),
            Mixer::Mamba2(mamba) => mamba.build(g, x, &module),
        }?;
        Ok(self.scaled(g, y, self.residual_scale))
    }

    fn mlp(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let dims = self.dims.layer(i);
        let (n, mlp) = (dims.intermediate_size, &self.mlp);
        let layer = self.layer_name(i);
        let experts = match self.moe.filter(|_| self.layers[i].is_sparse) {
            None => None,
            Some(moe) => {
                let y = moe.build(g, x, &layer)?;
                if !moe.is_beside_mlp {
                    return Ok(self.scaled(g, y, self.residual_scale));
                }
                Some(y)
            }
        };
        let module = match self.names.mlp {
            "" => layer,
            name => format!("{layer}.{name}"),
        };
        let bias = self.biases.gate_up;
        let h = if mlp.is_gated {
            let both = self.projections(g, x, &module, mlp.up, &[n, n], bias)?;
            let gate = g.slice(both, 0, n)?;
            let up = g.slice(both, n, n)?;
            g.gated(gate, up, mlp.activation)?
        } else {
            let h = self.projections(g, x, &module, mlp.up, &[n], bias)?;
            g.map(h, Map::Activation(mlp.activation))
        };
        let down = [(mlp.down, dims.hidden_size)];
        let y = blocks::stacked(g, h, &module, &down, self.biases.down)?;
        let y = match experts {
            Some(experts) => g.add(experts, y)?,
            None => y,
        };
        Ok(self.scaled(g, y, self.residual_scale))
    }

    fn scaled(&self, g: &mut Graph, x: NodeId, by: f32) -> NodeId {
        if by == 1.0 {
            return x;
        }
        g.map(x, Map::Scale(by))
    }

    fn layer_name(&self, i: usize) -> String {
        format!("{}.{i}", self.names.layers)
    }

    fn block(&self, g: &mut Graph, x: NodeId, i: usize) -> GraphResult<NodeId> {
        let layer = self.layer_name(i);
        let norm = |g: &mut Graph, x, at: usize| {
            self.norm(g, x, &format!("{layer}.{}", self.names.norms[at]))
        };
        let (before, after) = match self.order {
            Order::Before | Order::Parallel => (true, false),
            Order::After => (false, true),
            Order::Around => (true, true),
        };
        let input = if before { norm(g, x, 0)? } else { x };
        if self.layers[i].parts != Parts::Both {
            let h = match self.layers[i].parts {
                Parts::Mlp => self.mlp(g, input, i)?,
                _ => self.mix(g, input, i)?,
            };
            return g.add(x, h);
        }
        let h = self.mix(g, input, i)?;
        let h = if after { norm(g, h, 1)? } else { h };
        if self.order == Order::Parallel {
            let [first, _, second, _] = self.names.norms;
            let input = if first == second {
                input
            } else {
                norm(g, x, 2)?
            };
            let m = self.mlp(g, input, i)?;
            let both = g.add(h, m)?;
            return g.add(x, both);
        }
        let x = g.add(x, h)?;
        let input = if before { norm(g, x, 2)? } else { x };
        let h = self.mlp(g, input, i)?;
        let h = if after { norm(g, h, 3)? } else { h };
        g.add(x, h)
    }
}

impl Family for Dense {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn build(&self, g: &mut Graph) -> Result<NodeId> {
        let mut x = blocks::embed(g, &self.dims, self.embedding_scale);
        for i in 0..self.dims.n_layers {
            x = self.block(g, x, i)?;
            g.end_layer(x, format!("{}.hidden", self.layer_name(i)));
        }
        Ok(x)
    }

    fn has_head_bias(&self) -> bool {
        self.head_bias
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
                .moe
                .is_some_and(|m| matches!(m.score, Score::SparseMixer { .. })) =>
            {
                Err(Error::NoTraining("a sparse mixer as its router"))
            }
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
