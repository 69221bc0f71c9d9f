//! From a graph to steps over one arena.
//!
//! Three passes: nodes are grouped into steps (a device without fused kernels gets one node a
//! step), values that share storage are found (slices, in-place results), and each storage is
//! placed in the arena for as long as it lives.

use std::collections::HashMap;

use crate::{Cache, Graph, Node, NodeId, Op, Rows, WeightId};

/// Which neighbours a device can run as one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fusion {
    /// rms_norm into the linear that reads it.
    pub norm: bool,
    /// A residual add, in place, into the linear or rms_norm that feeds it.
    pub residual: bool,
    /// The activation of a gated MLP into the stacked gate-and-up linear.
    pub gated: bool,
    /// Head norms, rope and the cache's append into one step, in place.
    pub rope: bool,
    /// A token's attention into that step too.
    pub attention: bool,
}

impl Fusion {
    /// One node per step.
    pub const NONE: Self = Self {
        norm: false,
        residual: false,
        gated: false,
        rope: false,
        attention: false,
    };
}

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

/// What a device runs as one unit: one dispatch, or a few.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// One node by itself.
    Single(NodeId),
    /// A linear with what was fused into it.
    Linear {
        /// The matrix product, which all others extend.
        linear: NodeId,
        /// The norm of its input.
        norm: Option<NodeId>,
        /// The add whose other input, and output, is the residual.
        residual: Option<NodeId>,
        /// The gated activation of its result, which is the stack of gate and up.
        gated: Option<NodeId>,
    },
    /// rms_norm whose result is added to a residual in place.
    NormAdd {
        /// The norm, whose result is not stored.
        norm: NodeId,
        /// The add whose other input, and output, is the residual.
        add: NodeId,
    },
    /// Head norms and rope on q and k in place in the stacked projection, then the cache's append;
    /// or, for one token, all of that and its attention, without writing q and k back.
    RopeAppend {
        /// The norm of the query heads.
        q_norm: Option<NodeId>,
        /// The rotation of the query heads.
        q_rope: NodeId,
        /// The norm of the key heads.
        k_norm: Option<NodeId>,
        /// The rotation of the key heads.
        k_rope: NodeId,
        /// The append to the cache.
        append: NodeId,
        /// The attention over that cache.
        attention: Option<NodeId>,
    },
}

impl Step {
    /// The nodes of the step, in the order of the graph.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = match *self {
            Self::Single(n) => vec![n],
            Self::Linear {
                linear,
                norm,
                residual,
                gated,
            } => [Some(linear), norm, residual, gated]
                .into_iter()
                .flatten()
                .collect(),
            Self::NormAdd { norm, add } => vec![norm, add],
            Self::RopeAppend {
                q_norm,
                q_rope,
                k_norm,
                k_rope,
                append,
                attention,
            } => {
                let all = [
                    q_norm,
                    Some(q_rope),
                    k_norm,
                    Some(k_rope),
                    Some(append),
                    attention,
                ];
                all.into_iter().flatten().collect()
            }
        };
        nodes.sort();
        nodes
    }

    /// The node whose value the step leaves behind.
    pub fn result(&self) -> NodeId {
        match *self {
            Self::Single(n) => n,
            Self::Linear {
                linear,
                residual,
                gated,
                ..
            } => residual.or(gated).unwrap_or(linear),
            Self::NormAdd { add, .. } => add,
            Self::RopeAppend {
                append, attention, ..
            } => attention.unwrap_or(append),
        }
    }
}

/// How a device runs a graph for up to `max_rows` tokens a step.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it runs.
    pub graph: Graph,
    /// The most tokens of one run.
    pub max_rows: usize,
    /// In the order in which they run.
    pub steps: Vec<Step>,
    /// Length of the arena in f32s.
    pub arena_len: usize,
    views: HashMap<NodeId, View>,
}

/// Storage starts at multiples of 256 bytes, as WebGPU wants of bound offsets.
const ALIGN: usize = 64;

impl Plan {
    /// Plans `graph` for up to `max_rows` tokens per run.
    ///
    /// `uniform` reports whether all parts of a weight have the same type on the device: only then can a gated
    /// activation be fused into its linear.
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

    /// Bytes of the arena: of all values that are alive at the same time, at the worst moment.
    pub fn arena_bytes(&self) -> u64 {
        self.arena_len as u64 * 4
    }
}

impl Graph {
    /// Bytes of keys and values for `context` tokens at `bytes_per_value` (2 for f16, 4 for f32).
    pub fn cache_bytes(&self, context: usize, bytes_per_value: usize) -> u64 {
        let values = |c: &Cache| 2 * (c.n_kv_heads * c.head_dim) as u64 * context as u64;
        let all: u64 = self.caches.iter().map(values).sum();
        all * bytes_per_value as u64
    }
}

struct Fuser<'a> {
    graph: &'a Graph,
    fusion: Fusion,
    max_rows: usize,
    users: Vec<Vec<NodeId>>,
}

impl<'a> Fuser<'a> {
    fn new(graph: &'a Graph, fusion: Fusion, max_rows: usize) -> Self {
        let mut users = vec![vec![]; graph.nodes.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            for input in &node.inputs {
                users[input.0].push(NodeId(i));
            }
        }
        Self {
            graph,
            fusion,
            max_rows,
            users,
        }
    }

    /// The one node that reads `id`, if there is just one and the value is not an output.
    fn only_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users[id.0][..] {
            [user] if !self.graph.outputs.contains(&id) => Some(user),
            _ => None,
        }
    }

    /// The add that takes `id` in, when its other input may be overwritten by the sum: it is of
    /// older date, read no more afterwards, and not what the step `reads`, which other threads
    /// may still need.
    fn residual_of(&self, id: NodeId, reads: NodeId) -> Option<NodeId> {
        let add = self.only_user(id).filter(|_| self.fusion.residual)?;
        let node = self.graph.node(add);
        let [a, b] = node.inputs[..] else { return None };
        let other = if a == id { b } else { a };
        let free = node.op == Op::Add
            && a != b
            && other < id
            && self.source(other) != self.source(reads)
            && !self.graph.outputs.contains(&other)
            && !matches!(self.graph.node(other).op, Op::Slice { .. })
            && self.users[other.0].iter().all(|u| *u <= add);
        free.then_some(add)
    }

    /// The value that a slice is a part of.
    fn source(&self, id: NodeId) -> NodeId {
        match self.graph.node(id) {
            Node {
                op: Op::Slice { .. },
                inputs,
                ..
            } => self.source(inputs[0]),
            _ => id,
        }
    }

    /// A gated activation over the two halves of a stacked linear.
    fn gated_of(&self, linear: NodeId) -> Option<NodeId> {
        let [first, second] = self.users[linear.0][..] else {
            return None;
        };
        let half = self.graph.node(linear).cols / 2;
        let slice = |id: NodeId, at: usize| {
            let node = self.graph.node(id);
            node.op == Op::Slice { start: at } && node.cols == half
        };
        let gated = self.only_user(first)?;
        let fits = matches!(self.graph.node(gated).op, Op::Gated { .. })
            && self.graph.node(gated).inputs == [first, second]
            && slice(first, 0)
            && slice(second, half)
            && self.only_user(second) == Some(gated);
        fits.then_some(gated)
    }

    /// The rope at the end of `slice → (rms_norm →) rope`, read backwards.
    fn roped(&self, rope: NodeId) -> Option<(Option<NodeId>, NodeId)> {
        let node = self.graph.node(rope);
        if !matches!(node.op, Op::Rope { .. }) {
            return None;
        }
        let input = node.inputs[0];
        match self.graph.node(input).op {
            Op::RmsNorm { .. } => Some((Some(input), rope)),
            Op::Slice { .. } => Some((None, rope)),
            _ => None,
        }
    }

    fn rope_append(&self, append: NodeId) -> Option<Step> {
        let Op::KvAppend { cache } = self.graph.node(append).op else {
            return None;
        };
        let (k_norm, k_rope) = self.roped(self.graph.node(append).inputs[0])?;
        let reads = |n: &Node| matches!(n.op, Op::Attention { cache: c, .. } if c == cache);
        let attention = NodeId(self.graph.nodes.iter().position(reads)?);
        let (q_norm, q_rope) = self.roped(self.graph.node(attention).inputs[0])?;
        let is_read = [q_rope, k_rope]
            .iter()
            .any(|id| self.graph.outputs.contains(id));
        Some(Step::RopeAppend {
            q_norm,
            q_rope,
            k_norm,
            k_rope,
            append,
            attention: Some(attention).filter(|_| self.fusion.attention && !is_read),
        })
    }

    /// The steps, and which nodes' results are where another value was.
    fn run(&self, uniform: &impl Fn(WeightId) -> bool) -> (Vec<Step>, HashMap<NodeId, NodeId>) {
        let mut steps: Vec<Step> = vec![];
        let mut taken = vec![false; self.graph.nodes.len()];
        let mut in_place = HashMap::new();
        // What a rope step takes in is known only at its end, so find those first.
        if self.fusion.rope {
            for i in 0..self.graph.nodes.len() {
                if let Some(step) = self.rope_append(NodeId(i)) {
                    for id in step.nodes().into_iter().filter(|id| id.0 != i) {
                        taken[id.0] = true;
                        if !matches!(self.graph.node(id).op, Op::Attention { .. }) {
                            in_place.insert(id, self.graph.node(id).inputs[0]);
                        }
                    }
                }
            }
        }
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let id = NodeId(i);
            if taken[i] || matches!(node.op, Op::Slice { .. }) {
                continue;
            }
            if matches!(node.op, Op::LoraUp { .. } | Op::Dora { .. }) {
                in_place.insert(id, node.inputs[0]);
            }
            // The last of one row is that row.
            if node.op == Op::LastRow && self.max_rows == 1 {
                in_place.insert(id, node.inputs[0]);
                continue;
            }
            let step = match node.op {
                Op::KvAppend { .. } if self.fusion.rope => {
                    self.rope_append(id).unwrap_or(Step::Single(id))
                }
                Op::RmsNorm { .. } => {
                    let reader = self.only_user(id).filter(|_| self.fusion.norm);
                    if reader.is_some_and(|r| matches!(self.graph.node(r).op, Op::Linear { .. })) {
                        continue;
                    }
                    match self.residual_of(id, node.inputs[0]) {
                        Some(add) => Step::NormAdd { norm: id, add },
                        None => Step::Single(id),
                    }
                }
                Op::Linear { weight, .. } => {
                    let input = node.inputs[0];
                    let is_norm = matches!(self.graph.node(input).op, Op::RmsNorm { .. });
                    let fuse_norm =
                        self.fusion.norm && is_norm && self.only_user(input) == Some(id);
                    let gated = self
                        .gated_of(id)
                        .filter(|_| self.fusion.gated && uniform(weight));
                    let reads = if fuse_norm {
                        self.graph.node(input).inputs[0]
                    } else {
                        input
                    };
                    let residual = self.residual_of(id, reads).filter(|_| gated.is_none());
                    Step::Linear {
                        linear: id,
                        norm: fuse_norm.then_some(input),
                        residual,
                        gated,
                    }
                }
                _ => Step::Single(id),
            };
            if let Step::Linear {
                residual: Some(add),
                ..
            }
            | Step::NormAdd { add, .. } = step
            {
                let source = if let Step::Linear { linear, .. } = step {
                    linear
                } else {
                    id
                };
                let other = self.graph.node(add).inputs.iter().find(|n| **n != source);
                in_place.extend(other.map(|other| (add, *other)));
            }
            step.nodes().iter().for_each(|n| taken[n.0] = true);
            steps.push(step);
        }
        (steps, in_place)
    }
}

/// Which values share storage.
struct Storage {
    /// Root and first column of each node.
    roots: Vec<(NodeId, usize)>,
}

impl Storage {
    fn new(graph: &Graph, in_place: &HashMap<NodeId, NodeId>) -> Self {
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

    fn root(&self, id: NodeId) -> (NodeId, usize) {
        self.roots[id.0]
    }

    /// First fit, in the order of the steps, over the lifetimes of all storages.
    fn place(
        &self,
        graph: &Graph,
        steps: &[Step],
        max_rows: usize,
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
            let rows = if node.rows == Rows::All { max_rows } else { 1 };
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
