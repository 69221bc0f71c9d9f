//! Mixtures of experts: a router chooses for each token which of several MLPs process it (Shazeer et al.,
//! "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", 2017).

use crate::graph::Result;
use crate::{Graph, Node, NodeId, Op, WeightId};

/// How a router's logits become the choice of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouteSpec {
    /// How many experts process a token.
    pub n_used: usize,
    /// What the logits are made into.
    pub score: Score,
    /// What is added to the scores for the choice alone, `[n_experts]`: the weights are of the scores themselves.
    pub bias: Option<WeightId>,
    /// What the weight of each expert is multiplied by in the end, `[n_experts]`. It has no gradient.
    pub expert_scales: Option<WeightId>,
    /// Whether the weights of the chosen are divided by their sum.
    pub renormalise: bool,
    /// What is added to that sum.
    pub eps: f32,
    /// What the weights are multiplied by.
    pub scale: f32,
}

/// What a router's logits are made into.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// Their softmax over all experts.
    Softmax,
    /// The sigmoid of each.
    Sigmoid,
    /// The logits themselves. The weight of each chosen expert is its softmax over it and those of the experts not
    /// chosen before it whose logits s are close to its own m: `(m − s) / max(|s|, m) ≤ 2 · jitter` (Liu et al., "GRIN:
    /// GRadient-INformed MoE", 2024, as `transformers`' PhiMoE has it). It has no gradient, no bias and no sum.
    SparseMixer {
        /// The noise of the training.
        jitter: f32,
    },
}

/// Matrices of experts, stacked by rows, of which each token uses some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Experts {
    /// The matrices `[n, k]` as one, `[n_experts · n, k]`.
    pub weight: WeightId,
    /// `[n_experts · n]`.
    pub bias: Option<WeightId>,
    /// How many there are.
    pub n_experts: usize,
    /// How many a token uses.
    pub n_used: usize,
}

/// Indices of experts are stored as f32, next to their weights.
const MOST_EXPERTS: usize = 1024;

impl Graph {
    /// Rows of each expert's matrix.
    pub fn expert_rows(&self, experts: &Experts) -> usize {
        self.weight(experts.weight).rows() / experts.n_experts
    }

    /// Adds [`Op::Route`]: logits `[T, n_experts]` → `[T, 2 · n_used]`.
    ///
    /// # Errors
    /// If there are fewer experts than are to be used or more than 1024, or the bias is of another length.
    pub fn route(&mut self, logits: NodeId, spec: RouteSpec) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(logits);
        let len = |vector: Option<WeightId>| vector.map_or(cols, |v| self.weight(v).rows());
        let (bias, scales) = (len(spec.bias), len(spec.expert_scales));
        let is_mixer = matches!(spec.score, Score::SparseMixer { .. });
        let fits = (1..=cols).contains(&spec.n_used)
            && cols <= MOST_EXPERTS
            && [bias, scales] == [cols; 2]
            && !(is_mixer
                && (spec.bias.is_some() || spec.renormalise || spec.expert_scales.is_some()));
        self.check("route", "", fits, || {
            format!(
                "{} of {cols} experts, with {bias} biases and {scales} scales; there can be {MOST_EXPERTS}",
                spec.n_used
            )
        })?;
        Ok(self.push(Op::Route { spec }, &[logits], rows, 2 * spec.n_used))
    }

    /// Adds [`Op::ExpertUp`]: x `[T, k]`, and the route → `[T, n_used · n]`.
    ///
    /// # Errors
    /// If the shapes of x, the route and the matrices contradict one another.
    pub fn expert_up(
        &mut self,
        x: NodeId,
        route: NodeId,
        experts: Experts,
        projections: usize,
    ) -> Result<NodeId> {
        let k = self.weight(experts.weight).cols;
        let n = self.expert_rows(&experts);
        let name = self.weight(experts.weight).name.clone();
        let fits = projections > 0 && n.is_multiple_of(projections) && self.node(x).cols == k;
        self.check("expert_up", &name, fits, || {
            let cols = self.node(x).cols;
            format!(
                "the input has {cols} columns, an expert is [{n}, {k}], {projections} projections"
            )
        })?;
        self.check_experts("expert_up", x, route, &experts)?;
        let op = Op::ExpertUp {
            experts,
            projections,
        };
        let rows = self.node(x).rows;
        Ok(self.push(op, &[x, route], rows, experts.n_used * n))
    }

    /// Adds [`Op::ExpertDown`]: h `[T, n_used · k]`, and the route → `[T, n]`.
    ///
    /// # Errors
    /// If the shapes of h, the route and the matrices contradict one another.
    pub fn expert_down(&mut self, h: NodeId, route: NodeId, experts: Experts) -> Result<NodeId> {
        let k = self.weight(experts.weight).cols;
        let n = self.expert_rows(&experts);
        let name = self.weight(experts.weight).name.clone();
        let fits = self.node(h).cols == experts.n_used * k;
        self.check("expert_down", &name, fits, || {
            let cols = self.node(h).cols;
            format!(
                "the input has {cols} columns, {} experts of [{n}, {k}] are used",
                experts.n_used
            )
        })?;
        self.check_experts("expert_down", h, route, &experts)?;
        let rows = self.node(h).rows;
        Ok(self.push(Op::ExpertDown { experts }, &[h, route], rows, n))
    }

    /// Adds [`Op::RowGate`]: x `[T, n]`, gate `[T, 1]` → `[T, n]`.
    ///
    /// # Errors
    /// If the gate has more than one column, or another number of rows than x.
    pub fn row_gate(&mut self, x: NodeId, gate: NodeId) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let found = (self.node(gate).cols, self.node(gate).rows);
        self.check("row_gate", "", found == (1, rows), || {
            format!("{rows:?} × {cols} and {:?} × {}", found.1, found.0)
        })?;
        Ok(self.push(Op::RowGate, &[x, gate], rows, cols))
    }

    /// Whether a linear computes a router's logits.
    pub fn is_router(&self, linear: NodeId) -> bool {
        let reads = |n: &Node| matches!(n.op, Op::Route { .. }) && n.inputs == [linear];
        self.nodes.iter().any(reads)
    }

    fn check_experts(
        &self,
        op: &'static str,
        x: NodeId,
        route: NodeId,
        experts: &Experts,
    ) -> Result<()> {
        let weight = self.weight(experts.weight);
        let bias = experts
            .bias
            .map_or(weight.rows(), |b| self.weight(b).rows());
        let route = self.node(route);
        let fits = weight.rows().is_multiple_of(experts.n_experts.max(1))
            && experts.n_used <= experts.n_experts
            && bias == weight.rows()
            && (route.cols, route.rows) == (2 * experts.n_used, self.node(x).rows);
        self.check(op, &weight.name, fits, || {
            format!(
                "{} rows of {} experts, a bias of {bias}, a route of {} columns for {}",
                weight.rows(),
                experts.n_experts,
                route.cols,
                experts.n_used
            )
        })
    }
}
