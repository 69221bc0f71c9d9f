//! Ops with a recurrent state, node by node.

use crate::graph::Result;
use crate::{Activation, DeltaSpec, Graph, Node, NodeId, Op, Rows, ScanSpec, WeightId};

impl Graph {
    /// Adds [`Op::CausalConv`] over the last `kernel` rows: `weight` has `kernel` values for each column of x.
    ///
    /// # Errors
    /// If the weight or the bias has another length, or `kernel` is less than 2.
    pub fn causal_conv(
        &mut self,
        x: NodeId,
        kernel: usize,
        weight: WeightId,
        bias: Option<WeightId>,
        activation: Activation,
    ) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let n = self.weight(weight).rows();
        let bias_len = bias.map_or(cols, |b| self.weight(b).rows());
        let fits = rows == Rows::All && kernel >= 2 && n == kernel * cols && bias_len == cols;
        self.check("causal_conv", &self.weight(weight).name, fits, || {
            format!("{cols} columns, a kernel of {kernel}, {n} weights, {bias_len} biases")
        })?;
        let op = Op::CausalConv {
            weight,
            bias,
            state: self.state((kernel - 1) * cols),
            activation,
        };
        Ok(self.push(op, &[x], Rows::All, cols))
    }

    /// Adds [`Op::DeltaRule`]: q and k, v, and b and α.
    ///
    /// # Errors
    /// If inputs or weights do not have the heads of `spec`.
    pub fn delta_rule(
        &mut self,
        [qk, v, gates]: [NodeId; 3],
        spec: DeltaSpec,
        a: WeightId,
        dt_bias: WeightId,
    ) -> Result<NodeId> {
        let cols = [qk, v, gates].map(|n| self.node(n).cols);
        let lens = [a, dt_bias].map(|w| self.weight(w).rows());
        let n = spec.n_v_heads;
        let fits = spec.n_k_heads > 0
            && n.is_multiple_of(spec.n_k_heads)
            && cols == [2 * spec.n_k_heads * spec.k_dim, n * spec.v_dim, 2 * n]
            && lens == [n, n];
        self.check("delta_rule", &self.weight(a).name, fits, || {
            format!("inputs of {cols:?} columns, weights of {lens:?} values, {spec:?}")
        })?;
        let op = Op::DeltaRule {
            spec,
            a,
            dt_bias,
            state: self.state(n * spec.k_dim * spec.v_dim),
        };
        Ok(self.push(op, &[qk, v, gates], Rows::All, cols[1]))
    }

    /// Adds [`Op::SelectiveScan`]: x, steps, and B and C.
    ///
    /// # Errors
    /// If inputs or weights do not have the heads of `spec`.
    pub fn selective_scan(
        &mut self,
        [x, steps, bc]: [NodeId; 3],
        spec: ScanSpec,
        a: WeightId,
        dt_bias: Option<WeightId>,
        d: WeightId,
    ) -> Result<NodeId> {
        let cols = [x, steps, bc].map(|n| self.node(n).cols);
        let n = spec.n_heads;
        let len = |w: WeightId| self.weight(w).rows();
        let lens = [len(a), dt_bias.map_or(n, len), len(d)];
        let fits = spec.n_groups > 0
            && n.is_multiple_of(spec.n_groups)
            && cols == [n * spec.head_dim, n, 2 * spec.n_groups * spec.state_dim]
            && (lens[0] == n || lens[0] == n * spec.state_dim)
            && lens[1..] == [n, n];
        self.check("selective_scan", &self.weight(a).name, fits, || {
            format!("inputs of {cols:?} columns, weights of {lens:?} values, {spec:?}")
        })?;
        let op = Op::SelectiveScan {
            spec,
            a,
            dt_bias,
            d,
            state: self.state(cols[0] * spec.state_dim),
        };
        Ok(self.push(op, &[x, steps, bc], Rows::All, cols[0]))
    }
}
