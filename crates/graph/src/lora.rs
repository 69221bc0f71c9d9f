//! Adapters and training are rewrites of the forward pass.

use std::collections::HashMap;

use crate::{CacheId, Graph, LoraId, MOMENT_BLOCK, Node, NodeId, Op, WeightId};

/// The columns of a linear's result that one projection computes, where projections are stacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The projection: its tensor's name without `.weight`.
    pub module: String,
    /// The first column.
    pub start: usize,
    /// How many columns: the rows of the projection's weight.
    pub len: usize,
}

/// A low-rank adapter of a linear: `y += scale · (x Aᵀ) Bᵀ` for each of its spans
/// (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021).
///
/// A of all spans is `[spans · rank, k]`, B is `[Σ len, rank]`; both are in one flat array of
/// parameters with those of all other adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The rank r of each span's product.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f32,
    /// Columns of A: those of the linear's input.
    pub k: usize,
    /// The projections that are adapted, from left to right.
    pub spans: Vec<Span>,
    /// Where A begins among the parameters.
    pub a: usize,
    /// Where B begins among the parameters.
    pub b: usize,
    /// The magnitudes, if it is a DoRA adapter.
    pub dora: Option<Dora>,
    /// Which rows it is for: those of sequences with this adapter ([`crate::SequenceRows::adapter`]), or all.
    pub adapter: Option<u32>,
}

/// The magnitudes of an adapter's columns (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024):
/// column i of the result, without its bias, is multiplied by `m[i] / ‖W[i] + scale · B[i] A‖`. Gradients take
/// that norm for a constant, as the paper has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dora {
    /// W, all of whose columns have a factor: 1 where there is no adapter.
    pub weight: WeightId,
    /// Where the magnitudes of the spans' columns begin among the parameters.
    pub m: usize,
    /// Where the weight's factors begin among those of all adapters.
    pub factors: usize,
    /// Columns of the weight.
    pub n: usize,
}

/// Matrices begin at multiples of 256 parameters: of so many bytes, too, as WebGPU wants of bound offsets, and
/// no block of the optimiser's reaches from one into the next.
const ALIGN: usize = MOMENT_BLOCK;

impl Lora {
    /// Columns of the value between A and B.
    pub fn inner(&self) -> usize {
        self.spans.len() * self.rank
    }

    /// Rows of B.
    pub fn outer(&self) -> usize {
        self.spans.iter().map(|s| s.len).sum()
    }

    /// Values of A.
    pub fn a_len(&self) -> usize {
        self.inner() * self.k
    }

    /// Values of B.
    pub fn b_len(&self) -> usize {
        self.outer() * self.rank
    }

    /// Where the next adapter's parameters may begin.
    fn end(&self) -> usize {
        match &self.dora {
            Some(dora) => dora.m + self.outer().next_multiple_of(ALIGN),
            None => self.b + self.b_len().next_multiple_of(ALIGN),
        }
    }

    /// Each span with the indices of its A `[rank, k]` and its B `[len, rank]` among the parameters.
    pub fn parts(&self) -> impl Iterator<Item = (&Span, usize, usize)> {
        let mut row = 0;
        self.spans.iter().enumerate().map(move |(i, span)| {
            let at = (self.a + i * self.rank * self.k, self.b + row * self.rank);
            row += span.len;
            (span, at.0, at.1)
        })
    }
}

/// Which linears get an adapter, and of what kind.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSpec {
    /// The rank of every product.
    pub rank: usize,
    /// What the low-rank product is multiplied by: `alpha / rank`, or `alpha / √rank`.
    pub scale: f32,
    /// Probability of dropping a value of x on its way to A; only when training.
    pub dropout: f32,
    /// Whether the adapters have magnitudes.
    pub use_dora: bool,
    /// Full names (`model.layers.0.self_attn.q_proj`) of the projections.
    pub modules: Vec<String>,
    /// Which rows get it: those of sequences with this adapter ([`crate::SequenceRows::adapter`]), or all.
    pub adapter: Option<u32>,
}

impl Graph {
    /// The length of the flat array of all adapters' parameters, padding included.
    pub fn params_len(&self) -> usize {
        self.loras.last().map_or(0, |l| l.end())
    }

    /// The length of the flat array of the factors of all magnitudes; see [`Dora`].
    pub fn factors_len(&self) -> usize {
        let ends = self.loras.iter().filter_map(|l| l.dora.as_ref());
        let ends = ends.map(|d| d.factors + d.n.next_multiple_of(ALIGN));
        ends.max().unwrap_or(0)
    }

    /// An adapter by its id.
    ///
    /// # Panics
    /// For an id of another graph that has more adapters.
    pub fn lora(&self, id: LoraId) -> &Lora {
        &self.loras[id.0]
    }

    /// The same graph with its nodes made again: `make` appends what a node (inputs mapped already)
    /// becomes and says which node has its value.
    fn rewrite(&self, mut make: impl FnMut(&mut Self, Node) -> NodeId) -> Self {
        let mut out = Self {
            nodes: vec![],
            names: vec![],
            layer_ends: vec![],
            outputs: vec![],
            ..self.clone()
        };
        let mut map = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut node = node.clone();
            node.inputs
                .iter_mut()
                .for_each(|i: &mut NodeId| *i = map[i.0]);
            let id = make(&mut out, node);
            map.push(id);
        }
        out.outputs = self.outputs.iter().map(|id| map[id.0]).collect();
        let names = self.names.iter().map(|(n, id)| (n.clone(), map[id.0]));
        out.names = names.collect();
        out.layer_ends = self.layer_ends.iter().map(|id| map[id.0]).collect();
        out
    }

    /// The graph with an adapter on every linear that computes one of the modules of `spec`. Called again, it adds another
    /// one.
    pub fn with_lora(&self, spec: &LoraSpec) -> Self {
        // A weight that several linears share has one adapter.
        let mut made: HashMap<WeightId, LoraId> = HashMap::new();
        self.rewrite(|g, node| {
            let base = g.push(node.op, &node.inputs, node.rows, node.cols);
            let Op::Linear { weight, bias } = node.op else {
                return base;
            };
            let mut start = 0;
            let mut spans = vec![];
            for part in &g.weight(weight).parts {
                let module = part.tensor.trim_end_matches(".weight");
                // An adapter is for a whole projection.
                if part.is_whole() && spec.modules.iter().any(|m| m == module) {
                    spans.push(Span {
                        module: module.into(),
                        start,
                        len: part.n_rows(),
                    });
                }
                start += part.n_rows();
            }
            if spans.is_empty() {
                return base;
            }
            let id = *made.entry(weight).or_insert_with(|| {
                let mut lora = Lora {
                    rank: spec.rank,
                    scale: spec.scale,
                    k: g.weight(weight).cols,
                    spans,
                    a: g.params_len(),
                    b: 0,
                    dora: None,
                    adapter: spec.adapter,
                };
                lora.b = lora.a + lora.a_len().next_multiple_of(ALIGN);
                if spec.use_dora {
                    lora.dora = Some(Dora {
                        weight,
                        m: lora.end(),
                        factors: g.factors_len(),
                        n: node.cols,
                    });
                }
                g.loras.push(lora);
                LoraId(g.loras.len() - 1)
            });
            let inner = g.lora(id).inner();
            let mut x = node.inputs[0];
            if spec.dropout > 0.0 {
                let (p, salt) = (spec.dropout, id.0 as u32);
                let cols = g.node(x).cols;
                x = g.push(Op::Dropout { p, salt }, &[x], node.rows, cols);
            }
            let u = g.push(Op::LoraDown { lora: id }, &[x], node.rows, inner);
            let op = Op::LoraUp { lora: id };
            let y = g.push(op, &[base, u], node.rows, node.cols);
            if !spec.use_dora {
                return y;
            }
            let op = Op::Dora { lora: id, bias };
            g.push(op, &[y], node.rows, node.cols)
        })
    }

    /// The graph with attention over the batch itself ([`Op::SelfAttention`]) instead of a cache, as training needs it.
    ///
    /// # Panics
    /// If an attention reads a cache to which no node before it appends.
    pub fn without_cache(&self) -> Self {
        let mut appended: HashMap<CacheId, [NodeId; 2]> = HashMap::new();
        let mut out = self.rewrite(|g, node| match node.op {
            Op::KvAppend { cache } => {
                appended.insert(cache, [node.inputs[0], node.inputs[1]]);
                node.inputs[0]
            }
            Op::Attention { cache, spec } => {
                let [k, v] = appended[&cache];
                let op = Op::SelfAttention { spec };
                g.push(op, &[node.inputs[0], k, v], node.rows, node.cols)
            }
            op => g.push(op, &node.inputs, node.rows, node.cols),
        });
        out.caches.clear();
        out
    }
}
