//! Nodes, the weights and caches that they refer to, and the names of their values.

use crate::{Lora, Op, Part, Weight, WeightId, WeightKind};

/// The result of building or rewriting a graph.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a node cannot be added to a graph: shapes that do not match, a name that does not exist, or an op without a
/// gradient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} `{label}`: {what}")]
pub struct Error {
    /// The op's name, as [`Op::name`] returns it.
    pub op: &'static str,
    /// The weight or the named value that is concerned; empty where there is none.
    pub label: String,
    /// The shapes that do not match, or what is missing.
    pub what: String,
}

/// A node's index in [`Graph::nodes`]. Nodes run in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A KV cache's index in [`Graph::caches`]: one per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub usize);

/// How many rows a value has: one for each token of the step, for each sequence's last one, or for each text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// One row for each token of the step.
    All,
    /// One row for each sequence of which the step chooses a token: its last row.
    Last,
    /// One row for each segment of the batch.
    Segments,
}

/// Keys and values of all earlier tokens, `[blocks, n_kv_heads, 16, head_dim]` each, in blocks of 16 tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Dimensions of each head.
    pub head_dim: usize,
}

/// A recurrent state's index in [`Graph::states`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub usize);

/// A low-rank adapter's index in [`Graph::loras`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraId(pub usize);

/// An op with its inputs, and the shape of its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// The values it reads, in the order in which [`Op`] names them.
    pub inputs: Vec<NodeId>,
    /// Rows of its value.
    pub rows: Rows,
    /// Columns of its value; 0 for an op that only writes elsewhere (a cache, gradients).
    pub cols: usize,
}

/// A forward pass, and after [`Graph::differentiate`] its backward pass too.
///
/// Each method that adds a node checks the shapes of its inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// In the order in which they run: inputs come before the nodes that read them.
    pub nodes: Vec<Node>,
    /// What ops refer to by [`WeightId`].
    pub weights: Vec<Weight>,
    /// KV caches, one per layer, which ops refer to by [`CacheId`].
    pub caches: Vec<Cache>,
    /// Recurrent states, which ops refer to by [`StateId`]: how many f32 values each has. They are 0 before the first
    /// token, and a step leaves behind those after its last token.
    pub states: Vec<usize>,
    /// Adapters, which ops refer to by [`LoraId`].
    pub loras: Vec<Lora>,
    /// Values that outlive the run, to be read afterwards.
    pub outputs: Vec<NodeId>,
    /// Values that can be tapped, by name; a name costs nothing until it is.
    pub names: Vec<(String, NodeId)>,
    /// The hidden state after each layer.
    pub layer_ends: Vec<NodeId>,
}

impl Graph {
    /// A node by its id.
    ///
    /// # Panics
    /// For an id of another graph that has more nodes.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// A weight by its id.
    ///
    /// # Panics
    /// For an id of another graph that has more weights.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0]
    }

    /// Declares a matrix of the checkpoint, or several tensors (name, rows) stacked by rows, all `cols` wide. A name
    /// that was declared before is the same weight.
    pub fn matrix(&mut self, name: &str, parts: &[(&str, usize)], cols: usize) -> WeightId {
        self.declare(name, WeightKind::Matrix, parts, cols)
    }

    /// Declares a matrix made of ranges of the checkpoint's tensors, stacked by rows.
    ///
    /// # Errors
    /// If a range is not within its tensor, or the ranges differ in width.
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

    /// Declares a vector of the checkpoint, or several tensors (name, length) joined.
    pub fn vector(&mut self, name: &str, parts: &[(&str, usize)]) -> WeightId {
        self.declare(name, WeightKind::Vector, parts, 1)
    }

    /// Declares a vector made of ranges of the checkpoint's tensors, joined; those of a matrix row by row.
    ///
    /// # Errors
    /// If a range is not within its tensor.
    pub fn vector_of(&mut self, name: &str, parts: Vec<Part>) -> Result<WeightId> {
        for part in &parts {
            self.check("vector", name, part.is_sound(), || {
                format!(
                    "values {:?} of `{}` {}",
                    part.rows, part.tensor, part.shape[0]
                )
            })?;
        }
        Ok(self.declare_parts(name, WeightKind::Vector, parts, 1))
    }

    /// Declares a vector that is computed from the configuration, such as rotary frequencies.
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

    /// Declares the KV cache of a layer.
    pub fn cache(&mut self, n_kv_heads: usize, head_dim: usize) -> CacheId {
        self.caches.push(Cache {
            n_kv_heads,
            head_dim,
        });
        CacheId(self.caches.len() - 1)
    }

    /// Declares a recurrent state of `len` values.
    pub(crate) fn state(&mut self, len: usize) -> StateId {
        self.states.push(len);
        StateId(self.states.len() - 1)
    }

    /// Bytes of all recurrent states, whatever the number of tokens.
    pub fn state_bytes(&self) -> u64 {
        self.states.iter().map(|len| *len as u64 * 4).sum()
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

    /// Makes a value an output: it is kept until the end of the run, to be read back.
    pub fn output(&mut self, node: NodeId) {
        self.outputs.push(node);
    }

    /// Gives a value a name, by which [`Graph::tap`] finds it.
    pub fn name(&mut self, node: NodeId, name: impl Into<String>) {
        self.names.push((name.into(), node));
    }

    /// Names the hidden state after a layer, and records it in [`Graph::layer_ends`].
    pub fn end_layer(&mut self, node: NodeId, name: impl Into<String>) {
        self.name(node, name);
        self.layer_ends.push(node);
    }

    /// The node that has a name.
    pub fn named(&self, name: &str) -> Option<NodeId> {
        self.names.iter().find(|n| n.0 == name).map(|n| n.1)
    }

    /// Makes a named value an output, after those there are.
    ///
    /// # Errors
    /// If no value has that name; the message lists all names.
    pub fn tap(&mut self, name: &str) -> Result<NodeId> {
        let node = self.named(name).ok_or_else(|| Error {
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
