//! Nodes, the weights and caches that they refer to, and the names of their values.

use crate::{Lora, Op, Part, Weight, WeightId, WeightKind};

pub type Result<T> = std::result::Result<T, Error>;

/// An inconsistent graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} `{label}`: {what}")]
pub struct Error {
    pub op: &'static str,
    pub label: String,
    pub what: String,
}

/// A node's place in [`Graph::nodes`]. Nodes run in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A KV cache's place in [`Graph::caches`]: one per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub usize);

/// How many rows a value has: one for each token of the step, or only the last one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    All,
    Last,
}

/// Keys and values of all earlier tokens, `[n_kv_heads, context, head_dim]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    pub n_kv_heads: usize,
    pub head_dim: usize,
}

/// A low-rank adapter's place in [`Graph::loras`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraId(pub usize);

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<NodeId>,
    pub rows: Rows,
    pub cols: usize,
}

/// One forward pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub weights: Vec<Weight>,
    pub caches: Vec<Cache>,
    pub loras: Vec<Lora>,
    /// Values that outlive the run, to be read afterwards.
    pub outputs: Vec<NodeId>,
    /// Values that can be tapped, by name; a name costs nothing until it is.
    pub names: Vec<(String, NodeId)>,
    /// The hidden state after each layer.
    pub layer_ends: Vec<NodeId>,
}

impl Graph {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0]
    }

    /// A matrix of the checkpoint, or several stacked by rows.
    pub fn matrix(&mut self, name: &str, parts: &[(&str, usize)], cols: usize) -> WeightId {
        self.declare(name, WeightKind::Matrix, parts, cols)
    }

    /// A matrix of ranges of the checkpoint's tensors, stacked by rows.
    ///
    /// # Errors
    /// If a range is not within its tensor, or they are not all as wide.
    pub fn matrix_of(&mut self, name: &str, parts: Vec<Part>) -> Result<WeightId> {
        let cols = parts.first().map_or(0, |p| p.cols.len());
        for part in &parts {
            let fits = part.is_sound() && part.cols.len() == cols;
            self.check("matrix", name, fits, || {
                let Part {
                    tensor,
                    shape,
                    rows,
                    cols: found,
                } = part;
                format!("rows {rows:?}, columns {found:?} of `{tensor}` {shape:?}, {cols} wide")
            })?;
        }
        Ok(self.declare_parts(name, WeightKind::Matrix, parts, cols))
    }

    /// A vector of the checkpoint, or several joined.
    pub fn vector(&mut self, name: &str, parts: &[(&str, usize)]) -> WeightId {
        self.declare(name, WeightKind::Vector, parts, 1)
    }

    pub fn constant(&mut self, name: &str, values: Vec<f32>) -> WeightId {
        self.declare(name, WeightKind::Constant(values), &[], 1)
    }

    fn declare(
        &mut self,
        name: &str,
        kind: WeightKind,
        parts: &[(&str, usize)],
        cols: usize,
    ) -> WeightId {
        let whole = |(tensor, rows): &(&str, usize)| Part::whole(*tensor, [*rows, cols]);
        self.declare_parts(name, kind, parts.iter().map(whole).collect(), cols)
    }

    /// The same name again is the same weight (a tied embedding, a shared table).
    fn declare_parts(
        &mut self,
        name: &str,
        kind: WeightKind,
        parts: Vec<Part>,
        cols: usize,
    ) -> WeightId {
        if let Some(i) = self.weights.iter().position(|w| w.name == name) {
            return WeightId(i);
        }
        self.weights.push(Weight {
            name: name.into(),
            kind,
            parts,
            cols,
        });
        WeightId(self.weights.len() - 1)
    }

    pub fn cache(&mut self, n_kv_heads: usize, head_dim: usize) -> CacheId {
        self.caches.push(Cache {
            n_kv_heads,
            head_dim,
        });
        CacheId(self.caches.len() - 1)
    }

    /// Bytes of keys and values for `context` tokens at `bytes_per_value` (2 for f16, 4 for f32).
    pub fn cache_bytes(&self, context: usize, bytes_per_value: usize) -> u64 {
        let values = |c: &Cache| 2 * (c.n_kv_heads * c.head_dim) as u64 * context as u64;
        let all: u64 = self.caches.iter().map(values).sum();
        all * bytes_per_value as u64
    }

    pub(crate) fn push(&mut self, op: Op, inputs: &[NodeId], rows: Rows, cols: usize) -> NodeId {
        self.nodes.push(Node {
            op,
            inputs: inputs.into(),
            rows,
            cols,
        });
        NodeId(self.nodes.len() - 1)
    }

    pub(crate) fn check(
        &self,
        op: &'static str,
        label: &str,
        ok: bool,
        what: impl Fn() -> String,
    ) -> Result<()> {
        if ok {
            return Ok(());
        }
        Err(Error {
            op,
            label: label.into(),
            what: what(),
        })
    }

    pub fn output(&mut self, node: NodeId) {
        self.outputs.push(node);
    }

    /// Gives a value a name to tap it by.
    pub fn name(&mut self, node: NodeId, name: impl Into<String>) {
        self.names.push((name.into(), node));
    }

    /// Names the hidden state after a layer.
    pub fn end_layer(&mut self, node: NodeId, name: impl Into<String>) {
        self.name(node, name);
        self.layer_ends.push(node);
    }

    /// Makes a named value an output.
    pub fn tap(&mut self, name: &str) -> Result<NodeId> {
        let found = self.names.iter().find(|n| n.0 == name).map(|n| n.1);
        let node = found.ok_or_else(|| Error {
            op: "tap",
            label: name.into(),
            what: format!(
                "no value has that name; there are {}",
                self.names
                    .iter()
                    .map(|n| n.0.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })?;
        self.output(node);
        Ok(node)
    }
}
