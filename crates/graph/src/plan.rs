//! From a graph to steps over one arena.
//!
//! Three passes: nodes are grouped into steps (a device without fused kernels gets one node per
//! step), values that share storage are found (slices, in-place results), and each storage is
//! placed in the arena for as long as it lives.

use std::collections::HashMap;

use crate::fusion::Fuser;
use crate::storage::Storage;
use crate::{Fusion, Graph, NodeId, Rows, Step, WeightId};

/// Where a value is: columns `start .. start + cols` of rows `stride` apart, from `offset` on.
/// All in f32s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub offset: usize,
    pub start: usize,
    pub cols: usize,
    pub stride: usize,
    pub rows: Rows,
}

/// How a device runs a graph for up to `max_rows` tokens per step.
#[derive(Debug, Clone)]
pub struct Plan {
    pub graph: Graph,
    pub max_rows: usize,
    pub steps: Vec<Step>,
    /// Length of the arena in f32s.
    pub arena_len: usize,
    views: HashMap<NodeId, View>,
}

impl Plan {
    /// `uniform` says whether all parts of a weight have the same type on the device: only then
    /// can its linear take a gated activation in.
    pub fn new(
        graph: Graph,
        max_rows: usize,
        fusion: Fusion,
        uniform: impl Fn(WeightId) -> bool,
    ) -> Self {
        let fuser = Fuser::new(&graph, fusion, max_rows);
        let (steps, in_place) = fuser.run(&uniform);
        let storage = Storage::new(&graph, &in_place);
        let (offsets, arena_len) = storage.place(&graph, &steps, max_rows);
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

    pub fn arena_bytes(&self) -> u64 {
        self.arena_len as u64 * 4
    }
}
