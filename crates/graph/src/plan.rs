//! From a graph to steps over one arena.
//!
//! Three passes: nodes are grouped into steps (a device without fused kernels gets one node per
//! step), values that share storage are found (slices, in-place results), and each storage is
//! placed in the arena for as long as it lives.

use std::collections::HashMap;

use crate::fusion::Fuser;
use crate::storage::Storage;
use crate::{Fusion, Graph, NodeId, Rows, Step, WeightId};

/// Where a value is in the arena: columns `start .. start + cols` of rows that are `stride` apart, from `offset` on.
/// All in f32s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The start of its storage in the arena.
    pub offset: usize,
    /// The first column within a row of the storage.
    pub start: usize,
    /// Columns of the value.
    pub cols: usize,
    /// Columns of the storage: more than `cols` for a slice.
    pub stride: usize,
    /// Rows of the value.
    pub rows: Rows,
}

/// How a device runs a graph for up to `max_rows` tokens per step.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it runs.
    pub graph: Graph,
    /// The most tokens of one run.
    pub max_rows: usize,
    /// The most tokens that one run chooses: rows of the values that only last rows have.
    pub max_samples: usize,
    /// In the order in which they run.
    pub steps: Vec<Step>,
    /// Length of the arena in f32s.
    pub arena_len: usize,
    views: HashMap<NodeId, View>,
}

impl Plan {
    /// Plans `graph` for up to `max_rows` tokens of one sequence per run.
    ///
    /// `uniform` reports whether all parts of a weight have the same type on the device: only then can a gated
    /// activation be fused into its linear.
    pub fn new(
        graph: Graph,
        max_rows: usize,
        fusion: Fusion,
        uniform: impl Fn(WeightId) -> bool,
    ) -> Self {
        Self::of_sequences(graph, [max_rows, 1], fusion, uniform)
    }

    /// Plans `graph` for runs of up to `max_rows` tokens of several sequences, that choose up to `max_samples` tokens.
    /// `uniform` is that of [`Self::new`].
    pub fn of_sequences(
        graph: Graph,
        [max_rows, max_samples]: [usize; 2],
        fusion: Fusion,
        uniform: impl Fn(WeightId) -> bool,
    ) -> Self {
        let fuser = Fuser::new(&graph, fusion, max_rows);
        let (steps, in_place) = fuser.run(&uniform);
        let storage = Storage::new(&graph, &in_place);
        let (offsets, arena_len) = storage.place(&graph, &steps, [max_rows, max_samples]);
        let views = (0..graph.nodes.len())
            .map(NodeId)
            .filter_map(|id| {
                let (root, start) = storage.root(id);
                let (node, root_node) = (graph.node(id), graph.node(root));
                let view = View {
                    offset: *offsets.get(&root)?,
                    start,
                    cols: node.cols,
                    stride: root_node.cols,
                    rows: node.rows,
                };
                Some((id, view))
            })
            .collect();
        Self {
            graph,
            max_rows,
            max_samples,
            steps,
            arena_len,
            views,
        }
    }

    /// Where a node's value is once its step has run.
    ///
    /// # Panics
    /// For a value that was fused away or has no storage: a device asks only for what its step
    /// reads and writes.
    pub fn view(&self, id: NodeId) -> View {
        self.views[&id]
    }

    /// Bytes of the arena: of all values that are alive at the same time, at the worst moment.
    pub fn arena_bytes(&self) -> u64 {
        self.arena_len as u64 * 4
    }
}
