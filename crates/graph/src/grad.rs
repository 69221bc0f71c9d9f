//! Reverse-mode differentiation: the backward pass as more nodes of the same graph.
//!
//! Only adapters learn. A value from which no adapter is reached backwards gets no gradient, and a
//! frozen weight never does.

use std::collections::HashMap;

use crate::graph::Error;
use crate::{Graph, Node, NodeId, Op, Result, Rows};

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
    /// let loss = g.cross_entropy(y, table)?;
    /// g.output(loss);
    ///
    /// let spec = LoraSpec {
    ///     rank: 4,
    ///     scale: 2.0,
    ///     dropout: 0.0,
    ///     use_dora: false,
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

    /// The gradient of a value, once all that reads it was seen.
    fn gradient(&mut self, id: NodeId) -> Result<Option<NodeId>> {
        let parts = std::mem::take(&mut self.parts[id.0]);
        let mut sum: Option<NodeId> = None;
        let cols = self.cols(id);
        let mut pieces: Vec<(usize, NodeId)> = vec![];
        let mut plus = |this: &mut Self, part: NodeId| {
            sum = Some(match sum {
                Some(sum) => this.push(Op::Add, &[sum, part], cols),
                None => part,
            });
        };
        for part in parts {
            match part {
                Part::Whole(part) => plus(self, part),
                Part::From(start, part) => pieces.push((start, part)),
            }
        }
        if !pieces.is_empty() {
            pieces.sort();
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
            let whole = self.concat(&pieces, cols);
            plus(self, whole);
        }
        let named = self.graph.names.iter().find(|n| n.1 == id);
        if let (Some(sum), Some((name, _))) = (sum, named) {
            let name = format!("{name}.grad");
            self.graph.name(sum, name);
        }
        Ok(sum)
    }

    /// Hands a node's gradient on to its inputs.
    fn node(&mut self, id: NodeId, loss: NodeId) -> Result<()> {
        let Node {
            op, inputs, cols, ..
        } = self.graph.node(id).clone();
        if let Op::CrossEntropy { weight } = op
            && id == loss
        {
            let x = inputs[0];
            let cols = self.cols(x);
            let dx = self.push(Op::CrossEntropyGrad { weight }, &[x, id], cols);
            self.add(x, Part::Whole(dx));
            return Ok(());
        }
        let Some(dy) = self.gradient(id)? else {
            return Ok(());
        };
        let x = inputs[0];
        match op {
            Op::Linear { weight, .. } => {
                if self.needs[x.0] {
                    let cols = self.cols(x);
                    let dx = self.push(Op::LinearGrad { weight }, &[dy], cols);
                    self.add(x, Part::Whole(dx));
                }
            }
            Op::LoraUp { lora } => {
                let u = self.value(inputs[1]);
                self.push(Op::LoraGradB { lora }, &[u, dy], 0);
                let cols = self.cols(u);
                let du = self.push(Op::LoraUpGrad { lora }, &[dy], cols);
                self.add(inputs[1], Part::Whole(du));
                self.add(x, Part::Whole(dy));
            }
            Op::LoraDown { lora } => {
                let value = self.value(x);
                self.push(Op::LoraGradA { lora }, &[value, dy], 0);
                if self.needs[x.0] {
                    let cols = self.cols(x);
                    let dx = self.push(Op::LoraDownGrad { lora }, &[dy], cols);
                    self.add(x, Part::Whole(dx));
                }
            }
            Op::Dora { lora, bias } => {
                let y = self.value(id);
                self.push(Op::DoraGradM { lora, bias }, &[y, dy], 0);
                let dx = self.push(Op::DoraGrad { lora }, &[dy], cols);
                self.add(x, Part::Whole(dx));
            }
            Op::Dropout { .. } => {
                let dx = self.push(op, &[dy], cols);
                self.add(x, Part::Whole(dx));
            }
            Op::RmsNorm { weight, eps } => {
                let value = self.value(x);
                let dx = self.push(Op::RmsNormGrad { weight, eps }, &[value, dy], cols);
                self.add(x, Part::Whole(dx));
            }
            Op::Slice { start } => self.add(x, Part::From(start, dy)),
            Op::Rope {
                inv_freq,
                head_dim,
                pairs,
                ..
            } => {
                let op = Op::Rope {
                    inv_freq,
                    head_dim,
                    pairs,
                    back: true,
                };
                let dx = self.push(op, &[dy], cols);
                self.add(x, Part::Whole(dx));
            }
            Op::SelfAttention { spec } => {
                let mut values: Vec<_> = inputs.iter().map(|i| self.value(*i)).collect();
                values.push(self.value(id));
                values.push(dy);
                let (nq, nkv) = (cols, self.cols(inputs[1]));
                let op = Op::SelfAttentionGrad { spec };
                let all = self.push(op, &values, nq + 2 * nkv);
                for (input, start, len) in [(0, 0, nq), (1, nq, nkv), (2, nq + nkv, nkv)] {
                    let part = self.slice(all, start, len);
                    self.add(inputs[input], Part::Whole(part));
                }
            }
            Op::Add => {
                self.add(x, Part::Whole(dy));
                self.add(inputs[1], Part::Whole(dy));
            }
            Op::Gated { activation } => {
                let (gate, up) = (self.value(x), self.value(inputs[1]));
                let op = Op::GatedGrad { activation };
                let both = self.push(op, &[gate, up, dy], 2 * cols);
                for (i, input) in inputs.iter().enumerate() {
                    let part = self.slice(both, i * cols, cols);
                    self.add(*input, Part::Whole(part));
                }
            }
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
}
