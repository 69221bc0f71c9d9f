//! Several streams of hidden states side by side, which are mixed and rescaled (Baykal et al., "Alternating Updates for
//! Efficient Transformers", 2023), and activations that are mostly 0.

use crate::graph::Result;
use crate::{Graph, Node, NodeId, Op, WeightId};

/// Coefficients of a mix of `n_in` streams to `n_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MixSpec {
    /// Streams that are mixed.
    pub n_in: usize,
    /// Streams that they are mixed to.
    pub n_out: usize,
    /// The same for every token: `[n_out · n_in]`.
    pub constants: WeightId,
    /// W, `[n_out · n_in, r]` as a vector: what depends on the token is W · m.
    pub weights: Option<WeightId>,
}

impl Graph {
    /// Adds [`Op::Mix`]: x `[T, n_in · d]`, and m `[T, r]` if `spec` has weights → `[T, n_out · d]`.
    ///
    /// # Errors
    /// If x is not `n_in` streams, or m and the coefficients are of other sizes.
    pub fn mix(&mut self, x: NodeId, m: Option<NodeId>, spec: MixSpec) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let MixSpec { n_in, n_out, .. } = spec;
        let constants = self.weight(spec.constants).rows();
        let weights = spec.weights.map(|w| self.weight(w).rows());
        let known = m.map(|m| (self.node(m).cols, self.node(m).rows));
        let fits = n_in > 0
            && n_out > 0
            && cols.is_multiple_of(n_in)
            && constants == n_out * n_in
            && weights == known.map(|(r, _)| n_out * n_in * r)
            && known.is_none_or(|(r, of)| r > 0 && of == rows);
        self.check("mix", &self.weight(spec.constants).name, fits, || {
            format!(
                "{cols} columns of {n_in} streams to {n_out}, {constants} constants, {weights:?} weights for {known:?}"
            )
        })?;
        let inputs: Vec<_> = [x].into_iter().chain(m).collect();
        Ok(self.push(Op::Mix { spec }, &inputs, rows, n_out * (cols / n_in)))
    }

    /// Adds [`Op::Rescale`]: y `[T, n · d]`, x `[T, d]` → `[T, n · d]`.
    ///
    /// # Errors
    /// If the columns of y are not a multiple of those of x, or they differ in rows.
    pub fn rescale(&mut self, y: NodeId, x: NodeId, least: f32) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(y);
        let (d, of) = (self.node(x).cols, self.node(x).rows);
        let fits = d > 0 && cols.is_multiple_of(d) && of == rows;
        self.check("rescale", "", fits, || {
            format!("{rows:?} × {cols} to the magnitude of {of:?} × {d}")
        })?;
        Ok(self.push(Op::Rescale { least }, &[y, x], rows, cols))
    }

    /// Adds [`Op::GaussianTopK`].
    pub fn gaussian_top_k(&mut self, x: NodeId, deviations: f32) -> NodeId {
        let Node { cols, rows, .. } = *self.node(x);
        self.push(Op::GaussianTopK { deviations }, &[x], rows, cols)
    }
}
