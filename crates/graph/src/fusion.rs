//! Grouping of nodes into steps: a device without fused kernels gets one node per step.

use std::collections::HashMap;

use crate::{Graph, Node, NodeId, Op, WeightId};

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

/// What a device runs as one unit: one dispatch, or a few.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// One node by itself.
    Single(NodeId),
    /// A linear, or the linears of experts, with what was fused into it.
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
        nodes.sort_unstable();
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

/// Finds the nodes that become one step.
pub(crate) struct Fuser<'a> {
    graph: &'a Graph,
    fusion: Fusion,
    max_rows: usize,
    users: Vec<Vec<NodeId>>,
    /// Nodes that are part of a step.
    taken: Vec<bool>,
    /// Nodes whose results are where another value was.
    in_place: HashMap<NodeId, NodeId>,
    steps: Vec<Step>,
}

impl<'a> Fuser<'a> {
    pub(crate) fn new(graph: &'a Graph, fusion: Fusion, max_rows: usize) -> Self {
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
            taken: vec![false; graph.nodes.len()],
            in_place: HashMap::new(),
            steps: vec![],
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
        let Op::Rope { spec, .. } = node.op else {
            return None;
        };
        let input = node.inputs[0];
        match self.graph.node(input).op {
            Op::RmsNorm { weight, .. } if self.graph.weight(weight).rows() == spec.head_dim => {
                Some((Some(input), rope))
            }
            Op::Slice { .. } => Some((None, rope)),
            _ => None,
        }
    }

    /// The slice that a rope reads, through its norm.
    fn in_stack(&self, rope: NodeId) -> Option<NodeId> {
        let (norm, _) = self.roped(rope)?;
        Some(self.graph.node(norm.unwrap_or(rope)).inputs[0])
    }

    fn rope_append(&self, append: NodeId) -> Option<Step> {
        let Op::KvAppend { cache } = self.graph.node(append).op else {
            return None;
        };
        let (k_norm, k_rope) = self.roped(self.graph.node(append).inputs[0])?;
        let reads = |n: &Node| matches!(n.op, Op::Attention { cache: c, .. } if c == cache);
        let attention = NodeId(self.graph.nodes.iter().position(reads)?);
        let (q_norm, q_rope) = self.roped(self.graph.node(attention).inputs[0])?;
        // One kernel reads all three from one place.
        let v = self.graph.node(append).inputs[1];
        let place = |id| self.in_stack(id).map(|id| self.source(id));
        if !matches!(self.graph.node(v).op, Op::Slice { .. })
            || [place(q_rope), place(k_rope)] != [Some(self.source(v)); 2]
        {
            return None;
        }
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
    pub(crate) fn run(
        mut self,
        uniform: &impl Fn(WeightId) -> bool,
    ) -> (Vec<Step>, HashMap<NodeId, NodeId>) {
        // What a rope step takes in is known only at its end, so find those first.
        if self.fusion.rope {
            self.take_rope_steps();
        }
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let id = NodeId(i);
            if self.taken[i] || self.is_view(id, node) {
                continue;
            }
            if matches!(node.op, Op::LoraUp { .. } | Op::Dora { .. }) {
                self.in_place.insert(id, node.inputs[0]);
            }
            if let Some(step) = self.step_of(id, uniform) {
                self.add_in_place(step);
                step.nodes().iter().for_each(|n| self.taken[n.0] = true);
                self.steps.push(step);
            }
        }
        (self.steps, self.in_place)
    }

    /// Marks the nodes of all rope steps except their appends, which are reached in the order of the graph.
    fn take_rope_steps(&mut self) {
        for i in 0..self.graph.nodes.len() {
            let Some(step) = self.rope_append(NodeId(i)) else {
                continue;
            };
            for id in step.nodes().into_iter().filter(|id| id.0 != i) {
                self.taken[id.0] = true;
                if !matches!(self.graph.node(id).op, Op::Attention { .. }) {
                    self.in_place.insert(id, self.graph.node(id).inputs[0]);
                }
            }
        }
    }

    /// Whether a node is only another view of its input: a slice, or the last row of one row.
    fn is_view(&mut self, id: NodeId, node: &Node) -> bool {
        match node.op {
            Op::Slice { .. } => true,
            Op::LastRow if self.max_rows == 1 => {
                self.in_place.insert(id, node.inputs[0]);
                true
            }
            _ => false,
        }
    }

    /// The step that begins with a node; `None` for a norm that its linear will take in.
    fn step_of(&self, id: NodeId, uniform: &impl Fn(WeightId) -> bool) -> Option<Step> {
        match self.graph.node(id).op {
            Op::KvAppend { .. } if self.fusion.rope => {
                Some(self.rope_append(id).unwrap_or(Step::Single(id)))
            }
            Op::RmsNorm { .. } => self.norm_step(id),
            Op::Linear { weight, .. } => Some(self.linear_step(id, uniform(weight))),
            Op::ExpertUp { experts, .. } => Some(Step::Linear {
                linear: id,
                norm: None,
                residual: None,
                gated: (self.gated_of(id)).filter(|_| self.fusion.gated && uniform(experts.weight)),
            }),
            Op::ExpertDown { .. } => Some(Step::Linear {
                linear: id,
                norm: None,
                residual: self.residual_of(id, self.graph.node(id).inputs[0]),
                gated: None,
            }),
            _ => Some(Step::Single(id)),
        }
    }

    /// Whether it is the norm of whole rows, not of each head, nor of some columns, which a linear does not find.
    fn is_row_norm(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let len = |w| self.graph.weight(w).rows();
        matches!(node.op, Op::RmsNorm { weight, .. } if len(weight) == node.cols)
            && !matches!(self.graph.node(node.inputs[0]).op, Op::Slice { .. })
    }

    fn norm_step(&self, norm: NodeId) -> Option<Step> {
        let fuses = self.fusion.norm && self.is_row_norm(norm);
        let reader = self.only_user(norm).filter(|_| fuses);
        if reader.is_some_and(|r| matches!(self.graph.node(r).op, Op::Linear { .. })) {
            return None;
        }
        let add = self.residual_of(norm, self.graph.node(norm).inputs[0]);
        Some(add.map_or(Step::Single(norm), |add| Step::NormAdd { norm, add }))
    }

    fn linear_step(&self, linear: NodeId, uniform: bool) -> Step {
        let input = self.graph.node(linear).inputs[0];
        let is_norm = self.is_row_norm(input);
        let fuse_norm = self.fusion.norm && is_norm && self.only_user(input) == Some(linear);
        let gated = self
            .gated_of(linear)
            .filter(|_| self.fusion.gated && uniform);
        let reads = if fuse_norm {
            self.graph.node(input).inputs[0]
        } else {
            input
        };
        Step::Linear {
            linear,
            norm: fuse_norm.then_some(input),
            residual: self.residual_of(linear, reads).filter(|_| gated.is_none()),
            gated,
        }
    }

    /// Notes that a step's sum takes the place of the residual.
    fn add_in_place(&mut self, step: Step) {
        let (source, add) = match step {
            Step::Linear {
                linear,
                residual: Some(add),
                ..
            } => (linear, add),
            Step::NormAdd { norm, add } => (norm, add),
            _ => return,
        };
        let other = self.graph.node(add).inputs.iter().find(|n| **n != source);
        self.in_place.extend(other.map(|other| (add, *other)));
    }
}
