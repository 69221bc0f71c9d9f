use siskin_graph::Activation;

use super::activation::activation;
use super::gemm::Mat;
use crate::threads::each_chunk;

/// Weights of a convolution of each column by itself.
#[derive(Debug, Clone, Copy)]
pub struct Conv<'a> {
    /// `[cols, n]`: of the n last rows, oldest first.
    pub weight: &'a [f32],
    /// `[cols]`.
    pub bias: Option<&'a [f32]>,
    /// What is applied to the sum.
    pub activation: Activation,
}

/// `act(b + Σ_i w_i · x[t − n + 1 + i])` for T rows of x `[T, cols]`. The rows before them are in `state`
/// `[n − 1, cols]`, which then holds the last n − 1 of all.
pub fn causal_conv(conv: Conv<'_>, x: Mat<'_>, state: &mut [f32], out: &mut [f32]) {
    let cols = x.n_cols();
    let before = state.len() / cols;
    let n = before + 1;
    let row = |state: &[f32], at: usize, c: usize| match at.checked_sub(before) {
        Some(t) => x.row(t)[c],
        None => state[at * cols + c],
    };
    let known = &*state;
    each_chunk(out, cols, |t, out| {
        for (c, out) in out.iter_mut().enumerate() {
            let w = &conv.weight[c * n..][..n];
            let sum: f32 = (0..n).map(|i| w[i] * row(known, t + i, c)).sum();
            *out = activation(conv.activation, sum + conv.bias.map_or(0.0, |b| b[c]));
        }
    });
    let rows = out.len() / cols;
    for at in 0..before {
        for c in 0..cols {
            // A place is written after all that read it: it is never behind the one it is read from.
            state[at * cols + c] = row(state, rows + at, c);
        }
    }
}
