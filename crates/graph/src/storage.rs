//! Where values are: which of them share storage, and where each storage is placed in the arena.

use std::collections::HashMap;

use crate::{Graph, NodeId, Op, Rows, Step};

/// Storage starts at multiples of 256 bytes, as WebGPU requires of bound offsets.
const ALIGN: usize = 64;

/// Which values share storage.
pub(crate) struct Storage {
    /// Root and first column of each node.
    roots: Vec<(NodeId, usize)>,
}

impl Storage {
    pub(crate) fn new(graph: &Graph, in_place: &HashMap<NodeId, NodeId>) -> Self {
        let mut roots: Vec<(NodeId, usize)> = vec![];
        for (i, node) in graph.nodes.iter().enumerate() {
            let id = NodeId(i);
            roots.push(match (node.op, in_place.get(&id)) {
                (Op::Slice { start }, _) => {
                    let (root, first) = roots[node.inputs[0].0];
                    (root, first + start)
                }
                (_, Some(place)) => roots[place.0],
                _ => (id, 0),
            });
        }
        Self { roots }
    }

    pub(crate) fn root(&self, id: NodeId) -> (NodeId, usize) {
        self.roots[id.0]
    }

    /// First fit, in the order of the steps, over the lifetimes of all storages.
    pub(crate) fn place(
        &self,
        graph: &Graph,
        steps: &[Step],
        [max_rows, max_samples]: [usize; 2],
    ) -> (HashMap<NodeId, usize>, usize) {
        // Lifetimes: from the step that writes it to the last that reads it.
        let mut lives: Vec<(NodeId, usize, usize)> = vec![];
        for (at, step) in steps.iter().enumerate() {
            let nodes = step.nodes();
            let inputs = nodes.iter().flat_map(|n| &graph.node(*n).inputs);
            let outside = inputs.filter(|n| !nodes.contains(n)).copied();
            for value in outside.chain([step.result()]) {
                let root = self.root(value).0;
                if graph.node(root).cols == 0 || (nodes.contains(&root) && root != step.result()) {
                    continue;
                }
                match lives.iter_mut().find(|l| l.0 == root) {
                    Some(life) => life.2 = at,
                    None => lives.push((root, at, at)),
                }
            }
        }
        for output in &graph.outputs {
            let root = self.root(*output).0;
            lives
                .iter_mut()
                .filter(|l| l.0 == root)
                .for_each(|l| l.2 = steps.len());
        }
        let mut placed: Vec<(usize, usize, usize, usize)> = vec![];
        let (mut offsets, mut arena_len) = (HashMap::new(), 0);
        for (root, first, last) in lives {
            let node = graph.node(root);
            let rows = match node.rows {
                Rows::Last => max_samples,
                Rows::All | Rows::Segments => max_rows,
            };
            let len = (rows * node.cols).next_multiple_of(ALIGN);
            let mut busy: Vec<_> = placed
                .iter()
                .filter(|p| p.0 <= last && first <= p.1)
                .map(|p| (p.2, p.3))
                .collect();
            busy.sort_unstable();
            let mut offset = 0;
            for (start, end) in busy {
                if offset + len <= start {
                    break;
                }
                offset = offset.max(end);
            }
            placed.push((first, last, offset, offset + len));
            offsets.insert(root, offset);
            arena_len = arena_len.max(offset + len);
        }
        (offsets, arena_len)
    }
}
