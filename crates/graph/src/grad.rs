//! Reverse-mode differentiation: the backward pass as more nodes of the same graph.
//!
//! Only adapters learn. A value from which no adapter is reached backwards gets no gradient, and a
//! frozen weight never does.

use std::collections::HashMap;

use crate::graph::Error;
use crate::{
    Activation, AttentionSpec, Experts, Graph, LoraId, Map, Node, NodeId, Op, Result, Rows, Score,
};

/// Which values of the forward pass are kept for the backward pass; the others are computed again
/// (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpointing {
    /// Keep all that is needed: fastest.
    #[default]
    Off,
    /// Keep what is after every n-th block, and compute those n blocks again: n = 1 needs the
    /// least memory.
    Every(usize),
}

impl Graph {
    /// Appends the backward pass: the gradient of the sum of the rows' losses with respect to the parameters of all
    /// adapters. The gradient of a value named `x` is named `x.grad`.
    ///
    /// # Errors
    /// If an op between `loss` and an adapter has no gradient (those that read a cache; see [`Graph::without_cache`]),
    /// or the slices of a value leave gaps.
    ///
    /// ```
    /// use siskin_graph::{Checkpointing, Graph, LoraSpec};
    ///
    /// let mut g = Graph::default();
    /// let table = g.matrix("table", &[("table.weight", 100)], 64);
    /// let w = g.matrix("w", &[("mlp.weight", 64)], 64);
    /// let x = g.embed(table, 1.0);
    /// let y = g.linear(x, w, None)?;
    /// let loss = g.cross_entropy(y, table, None)?;
    /// g.output(loss);
    ///
    /// let spec = LoraSpec {
    ///     rank: 4,
    ///     scale: 2.0,
    ///     dropout: 0.0,
    ///     use_dora: false,
    ///     adapter: None,
    ///     modules: vec!["mlp".into()],
    /// };
    /// let mut g = g.with_lora(&spec);
    /// let loss = g.outputs[0];
    /// g.differentiate(loss, Checkpointing::Off)?;
    /// assert!(g.nodes.iter().any(|n| n.op.name() == "lora_grad_a"));
    /// # Ok::<(), siskin_graph::Error>(())
    /// ```
    pub fn differentiate(&mut self, loss: NodeId, checkpointing: Checkpointing) -> Result<()> {
        let mut needs = vec![];
        for node in &self.nodes {
            let learns = matches!(
                node.op,
                Op::LoraDown { .. } | Op::LoraUp { .. } | Op::Dora { .. }
            );
            needs.push(learns || node.inputs.iter().any(|i| needs[i.0]));
        }
        let forward = self.nodes.len();
        let kept = self.kept(checkpointing);
        let mut backward = Backward {
            graph: self,
            needs,
            kept,
            again: HashMap::new(),
            parts: vec![vec![]; forward],
        };
        for i in (0..=loss.0)
            .rev()
            .filter(|i| backward.needs[*i])
            .collect::<Vec<_>>()
        {
            backward.node(NodeId(i), loss)?;
        }
        Ok(())
    }

    /// For each node, whether its value is kept.
    fn kept(&self, checkpointing: Checkpointing) -> Vec<bool> {
        let mut kept = vec![true; self.nodes.len()];
        let Checkpointing::Every(n) = checkpointing else {
            return kept;
        };
        let ends = &self.layer_ends;
        let mut first = self
            .nodes
            .iter()
            .position(|n| !n.inputs.is_empty())
            .unwrap_or(0);
        // The last run of blocks is differentiated right after it ran: nothing would be saved.
        let runs = ends.len().saturating_sub(1) / n.max(1);
        for end in ends.chunks(n.max(1)).take(runs).filter_map(<[_]>::last) {
            kept[first..end.0].fill(false);
            first = end.0 + 1;
        }
        kept
    }
}

/// Some columns of a value's gradient.
#[derive(Debug, Clone, Copy)]
enum Part {
    Whole(NodeId),
    From(usize, NodeId),
}

struct Backward<'a> {
    graph: &'a mut Graph,
    needs: Vec<bool>,
    kept: Vec<bool>,
    /// Values that were computed again.
    again: HashMap<NodeId, NodeId>,
    /// What each value's gradient is made of.
    parts: Vec<Vec<Part>>,
}

impl Backward<'_> {
    fn push(&mut self, op: Op, inputs: &[NodeId], cols: usize) -> NodeId {
        self.graph.push(op, inputs, Rows::All, cols)
    }

    fn cols(&self, id: NodeId) -> usize {
        self.graph.node(id).cols
    }

    /// A value of the forward pass, for use now.
    fn value(&mut self, id: NodeId) -> NodeId {
        if self.kept[id.0] {
            return id;
        }
        if let Some(again) = self.again.get(&id) {
            return *again;
        }
        let node = self.graph.node(id).clone();
        let inputs: Vec<_> = node.inputs.iter().map(|i| self.value(*i)).collect();
        let again = self.push(node.op, &inputs, node.cols);
        self.again.insert(id, again);
        again
    }

    fn add(&mut self, to: NodeId, part: Part) {
        if self.needs[to.0] {
            self.parts[to.0].push(part);
        }
    }

    /// A slice; of all columns, the value itself.
    fn slice(&mut self, x: NodeId, start: usize, cols: usize) -> NodeId {
        if start == 0 && cols == self.cols(x) {
            return x;
        }
        self.push(Op::Slice { start }, &[x], cols)
    }

    /// Values side by side. Neighbours cut from one value are that value.
    fn concat(&mut self, pieces: &[NodeId], cols: usize) -> NodeId {
        let source = |g: &Graph, id: NodeId| match g.node(id) {
            Node {
                op: Op::Slice { start },
                inputs,
                ..
            } => Some((inputs[0], *start)),
            _ => None,
        };
        if let [piece] = pieces {
            return *piece;
        }
        if let Some((whole, _)) = source(self.graph, pieces[0])
            && self.cols(whole) == cols
        {
            let mut at = 0;
            let cut = pieces.iter().all(|p| {
                let fits = source(self.graph, *p) == Some((whole, at));
                at += self.graph.node(*p).cols;
                fits
            });
            if cut {
                return whole;
            }
        }
        self.push(Op::Concat, pieces, cols)
    }

    /// The gradient of a value, once everything that reads it has been visited.
    fn gradient(&mut self, id: NodeId) -> Result<Option<NodeId>> {
        let mut sum = None;
        let mut pieces = vec![];
        for part in std::mem::take(&mut self.parts[id.0]) {
            match part {
                Part::Whole(part) => sum = Some(self.sum(sum, part)),
                Part::From(start, part) => pieces.push((start, part)),
            }
        }
        if !pieces.is_empty() {
            let whole = self.join(pieces, self.cols(id))?;
            sum = Some(self.sum(sum, whole));
        }
        let named = self.graph.names.iter().find(|n| n.1 == id);
        if let (Some(sum), Some((name, _))) = (sum, named) {
            let name = format!("{name}.grad");
            self.graph.name(sum, name);
        }
        Ok(sum)
    }

    fn sum(&mut self, sum: Option<NodeId>, part: NodeId) -> NodeId {
        match sum {
            Some(sum) => self.push(Op::Add, &[sum, part], self.cols(part)),
            None => part,
        }
    }

    /// The gradients of slices, by their first columns, as the gradient of the whole value.
    fn join(&mut self, mut pieces: Vec<(usize, NodeId)>, cols: usize) -> Result<NodeId> {
        pieces.sort_unstable();
        let mut at = 0;
        for (start, piece) in &pieces {
            self.graph.check("slice", "", *start == at, || {
                format!("the gradient of columns {at}..{start} is not defined")
            })?;
            at += self.cols(*piece);
        }
        self.graph.check("slice", "", at == cols, || {
            format!("the gradient of columns {at}..{cols} is not defined")
        })?;
        let pieces: Vec<_> = pieces.into_iter().map(|p| p.1).collect();
        Ok(self.concat(&pieces, cols))
    }

    /// Passes a node's gradient to its inputs.
    fn node(&mut self, id: NodeId, loss: NodeId) -> Result<()> {
        let Node { op, inputs, .. } = self.graph.node(id).clone();
        let x = inputs[0];
        if let Op::CrossEntropy { weight, soft_cap } = op
            && id == loss
        {
            self.pass(Op::CrossEntropyGrad { weight, soft_cap }, &[x, id], x);
            return Ok(());
        }
        let Some(dy) = self.gradient(id)? else {
            return Ok(());
        };
        match op {
            Op::Linear { weight, .. } => {
                if self.needs[x.0] {
                    self.pass(Op::LinearGrad { weight }, &[dy], x);
                }
            }
            Op::LoraUp { lora } => self.lora_up(lora, x, inputs[1], dy),
            Op::LoraDown { lora } => self.lora_down(lora, x, dy),
            Op::Dora { lora, bias } => {
                let y = self.value(id);
                self.push(Op::DoraGradM { lora, bias }, &[y, dy], 0);
                self.pass(Op::DoraGrad { lora }, &[dy], x);
            }
            Op::Dropout { .. } => self.pass(op, &[dy], x),
            Op::RmsNorm { weight, eps } => {
                let value = self.value(x);
                self.pass(Op::RmsNormGrad { weight, eps }, &[value, dy], x);
            }
            Op::LayerNorm { weight, eps, .. } => {
                let value = self.value(x);
                self.pass(Op::LayerNormGrad { weight, eps }, &[value, dy], x);
            }
            Op::ScaleColumns { .. } => self.pass(op, &[dy], x),
            Op::Map { map: Map::Scale(_) } => self.pass(op, &[dy], x),
            Op::Map { map } => {
                let value = self.value(x);
                self.pass(Op::MapGrad { map }, &[value, dy], x);
            }
            Op::Slice { start } => self.add(x, Part::From(start, dy)),
            Op::Rope { spec, .. } => self.pass(Op::Rope { spec, back: true }, &[dy], x),
            Op::SelfAttention { spec } => self.self_attention(spec, &inputs, id, dy),
            Op::Add => {
                self.add(x, Part::Whole(dy));
                self.add(inputs[1], Part::Whole(dy));
            }
            Op::Gated { activation } => self.gated(activation, x, inputs[1], dy),
            Op::RowGate => {
                let values = [self.value(x), self.value(inputs[1])];
                self.pass(Op::RowGate, &[dy, values[1]], x);
                self.pass(Op::RowGateGrad, &[values[0], values[1], dy], inputs[1]);
            }
            Op::Route { spec }
                if !matches!(spec.score, Score::SparseMixer { .. })
                    && spec.expert_scales.is_none() =>
            {
                let values = [self.value(x), self.value(id), dy];
                self.pass(Op::RouteGrad { spec }, &values, x);
            }
            Op::ExpertUp {
                experts,
                projections,
            } => {
                let route = self.value(inputs[1]);
                self.pass(
                    Op::ExpertUpGrad {
                        experts,
                        projections,
                    },
                    &[route, dy],
                    x,
                );
            }
            Op::ExpertDown { experts } => self.expert_down(experts, x, inputs[1], dy),
            op => {
                return Err(Error {
                    op: op.name(),
                    label: String::new(),
                    what: "it has no gradient".into(),
                });
            }
        }
        Ok(())
    }

    /// The whole gradient of x by one op.
    fn pass(&mut self, op: Op, reads: &[NodeId], x: NodeId) {
        let dx = self.push(op, reads, self.cols(x));
        self.add(x, Part::Whole(dx));
    }

    fn lora_up(&mut self, lora: LoraId, base: NodeId, u: NodeId, dy: NodeId) {
        let value = self.value(u);
        self.push(Op::LoraGradB { lora }, &[value, dy], 0);
        self.pass(Op::LoraUpGrad { lora }, &[dy], u);
        self.add(base, Part::Whole(dy));
    }

    fn lora_down(&mut self, lora: LoraId, x: NodeId, du: NodeId) {
        let value = self.value(x);
        self.push(Op::LoraGradA { lora }, &[value, du], 0);
        if self.needs[x.0] {
            self.pass(Op::LoraDownGrad { lora }, &[du], x);
        }
    }

    /// `inputs` are q, k and v, `y` the result.
    fn self_attention(&mut self, spec: AttentionSpec, inputs: &[NodeId], y: NodeId, dy: NodeId) {
        let mut values: Vec<_> = inputs.iter().map(|i| self.value(*i)).collect();
        values.extend([self.value(y), dy]);
        let (nq, nkv) = (self.cols(y), self.cols(inputs[1]));
        let all = self.push(Op::SelfAttentionGrad { spec }, &values, nq + 2 * nkv);
        for (input, start, len) in [(0, 0, nq), (1, nq, nkv), (2, nq + nkv, nkv)] {
            let part = self.slice(all, start, len);
            self.add(inputs[input], Part::Whole(part));
        }
    }

    fn expert_down(&mut self, experts: Experts, h: NodeId, route: NodeId, dy: NodeId) {
        let values = [self.value(h), self.value(route), dy];
        let (nh, nr) = (self.cols(h), self.cols(route));
        let both = self.push(Op::ExpertDownGrad { experts }, &values, nh + nr);
        for (input, start, len) in [(h, 0, nh), (route, nh, nr)] {
            let part = self.slice(both, start, len);
            self.add(input, Part::Whole(part));
        }
    }

    fn gated(&mut self, activation: Activation, gate: NodeId, up: NodeId, dy: NodeId) {
        let cols = self.cols(dy);
        let values = [self.value(gate), self.value(up), dy];
        let both = self.push(Op::GatedGrad { activation }, &values, 2 * cols);
        for (i, input) in [gate, up].into_iter().enumerate() {
            let part = self.slice(both, i * cols, cols);
            self.add(input, Part::Whole(part));
        }
    }
}
