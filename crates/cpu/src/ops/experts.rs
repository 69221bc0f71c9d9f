//! Linears of experts. Several rows are grouped by expert, so that each expert's weights are decoded once.
//!
//! Shapes: a matrix of experts is `[n_experts · n, k]`, a route `[T, 2 · n_used]` as `ops/route.rs` has it.

use super::gemm::Mat;
use super::linear::{TILE, linear_grad_of, linear_of, matvec};
use super::route::slots;
use crate::threads::each_chunk;
use crate::weights::{PartRows, rows_of};
use crate::{CpuPart, Precision, Q16Row};

/// The matrices of all experts.
#[derive(Debug, Clone, Copy)]
pub struct Matrices<'a> {
    /// `[n_experts · n, k]`.
    pub parts: &'a [CpuPart],
    /// `[n_experts · n]`.
    pub bias: Option<&'a [f32]>,
    /// Rows of one expert.
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// How many there are.
    pub n_experts: usize,
}

impl<'a> Matrices<'a> {
    fn of(&self, expert: usize) -> Vec<PartRows<'a>> {
        rows_of(self.parts, expert * self.n, self.n)
    }

    fn bias_of(&self, expert: usize) -> Option<&'a [f32]> {
        self.bias.map(|b| &b[expert * self.n..][..self.n])
    }
}

/// Where an expert is used: row and slot, and its weight.
type Use = (usize, usize, f32);

/// Of each expert that some row uses, where.
fn uses(route: Mat<'_>, n_experts: usize) -> impl Iterator<Item = (usize, Vec<Use>)> {
    let mut all: Vec<Vec<Use>> = vec![vec![]; n_experts];
    for row in 0..route.n_rows() {
        for (slot, (expert, weight)) in slots(route.row(row)).enumerate() {
            all[expert].push((row, slot, weight));
        }
    }
    all.into_iter()
        .enumerate()
        .filter(|(_, uses)| !uses.is_empty())
}

/// Rows side by side.
fn gather<'a>(uses: &[Use], len: usize, row: impl Fn(&Use) -> &'a [f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(uses.len() * len);
    uses.iter().for_each(|u| out.extend_from_slice(row(u)));
    out
}

/// Rows `first ..` of one expert times one row of x.
fn some_rows(parts: &[PartRows<'_>], mut first: usize, x: &Input<'_>, mut out: &mut [f32]) {
    for part in parts {
        if first >= part.rows {
            first -= part.rows;
            continue;
        }
        let n = (part.rows - first).min(out.len());
        let (now, rest) = out.split_at_mut(n);
        let q16 = x.q16.as_ref().filter(|_| part.ty.is_integer());
        matvec(*part, first, x.values, q16, now);
        (out, first) = (rest, 0);
        if out.is_empty() {
            return;
        }
    }
}

/// A row of activations, as integers too where some weights are.
struct Input<'a> {
    values: &'a [f32],
    q16: Option<Q16Row>,
}

impl<'a> Input<'a> {
    fn new(m: &Matrices<'_>, values: &'a [f32], precision: Precision) -> Self {
        let integer = precision == Precision::Fast && m.parts.iter().any(|p| p.ty.is_integer());
        Self {
            values,
            q16: integer.then(|| Q16Row::quantise(values)),
        }
    }
}

/// `out[t, projection, slot] = W[e] · x[t] + b[e]`: x is `[T, k]`, out `[T, n_used · n]`, where each of the
/// `projections` has `n / projections` columns per slot.
pub fn expert_up(
    m: Matrices<'_>,
    projections: usize,
    x: Mat<'_>,
    route: Mat<'_>,
    precision: Precision,
    out: &mut [f32],
) {
    let rows = x.n_rows();
    let (n_used, len) = (route.n_cols() / 2, m.n / projections);
    let cols = n_used * m.n;
    if rows == 1 {
        let chosen: Vec<_> = slots(route.row(0)).map(|(e, _)| (e, m.of(e))).collect();
        let x = Input::new(&m, x.row(0), precision);
        each_chunk(out, TILE, |tile, mut out| {
            let mut at = tile * TILE;
            while !out.is_empty() {
                let (projection, slot, row) = (at / (n_used * len), at / len % n_used, at % len);
                let (now, rest) = out.split_at_mut((len - row).min(out.len()));
                let (expert, parts) = &chosen[slot];
                let first = projection * len + row;
                some_rows(parts, first, &x, now);
                if let Some(bias) = m.bias_of(*expert) {
                    now.iter_mut()
                        .zip(&bias[first..])
                        .for_each(|(o, b)| *o += b);
                }
                at += now.len();
                out = rest;
            }
        });
        return;
    }
    for (expert, uses) in uses(route, m.n_experts) {
        let x = gather(&uses, m.k, |(row, ..)| x.row(*row));
        let mut y = vec![0.0; uses.len() * m.n];
        linear_of(&m.of(expert), m.bias_of(expert), &x, m.k, precision, &mut y);
        for ((row, slot, _), y) in uses.iter().zip(y.chunks_exact(m.n)) {
            for (projection, y) in y.chunks_exact(len).enumerate() {
                let at = row * cols + (projection * n_used + slot) * len;
                out[at..at + len].copy_from_slice(y);
            }
        }
    }
}

/// `out[t] = Σ weight · (W[e] · h[t, slot] + b[e])`: h is `[T, n_used · k]`, out `[T, n]`.
pub fn expert_down(
    m: Matrices<'_>,
    h: Mat<'_>,
    route: Mat<'_>,
    precision: Precision,
    out: &mut [f32],
) {
    if h.n_rows() == 1 {
        let inputs = h.row(0).chunks_exact(m.k);
        let inputs = inputs.map(|h| Input::new(&m, h, precision));
        let chosen: Vec<_> = slots(route.row(0))
            .zip(inputs)
            .map(|((e, weight), h)| (m.of(e), m.bias_of(e), weight, h))
            .collect();
        each_chunk(out, TILE, |tile, out| {
            out.fill(0.0);
            let mut y = [0.0; TILE];
            let y = &mut y[..out.len()];
            for (parts, bias, weight, h) in &chosen {
                some_rows(parts, tile * TILE, h, y);
                if let Some(bias) = bias {
                    let bias = &bias[tile * TILE..];
                    y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
                out.iter_mut().zip(&*y).for_each(|(o, y)| *o += weight * y);
            }
        });
        return;
    }
    out.fill(0.0);
    for (expert, uses) in uses(route, m.n_experts) {
        let h = gather(&uses, m.k, |(row, slot, _)| {
            &h.row(*row)[slot * m.k..][..m.k]
        });
        let mut y = vec![0.0; uses.len() * m.n];
        linear_of(&m.of(expert), m.bias_of(expert), &h, m.k, precision, &mut y);
        for ((row, _, weight), y) in uses.iter().zip(y.chunks_exact(m.n)) {
            let out = &mut out[row * m.n..][..m.n];
            out.iter_mut().zip(y).for_each(|(o, y)| *o += weight * y);
        }
    }
}

/// The gradient of [`expert_up`]'s x, `[T, k]`, from dy `[T, n_used · n]`.
pub fn expert_up_grad(
    m: Matrices<'_>,
    projections: usize,
    route: Mat<'_>,
    dy: Mat<'_>,
    out: &mut [f32],
) {
    let (n_used, len) = (route.n_cols() / 2, m.n / projections);
    out.fill(0.0);
    for (expert, uses) in uses(route, m.n_experts) {
        let mut above = vec![];
        for (row, slot, _) in &uses {
            for projection in 0..projections {
                above.extend_from_slice(&dy.row(*row)[(projection * n_used + slot) * len..][..len]);
            }
        }
        let mut dx = vec![0.0; uses.len() * m.k];
        linear_grad_of(&m.of(expert), Mat::dense(&above, m.n), m.k, &mut dx);
        for ((row, ..), dx) in uses.iter().zip(dx.chunks_exact(m.k)) {
            let out = &mut out[row * m.k..][..m.k];
            out.iter_mut().zip(dx).for_each(|(o, dx)| *o += dx);
        }
    }
}

/// The gradients of [`expert_down`]'s h `[T, n_used · k]` and of the route `[T, 2 · n_used]`, side by side, from h, the
/// route and dy `[T, n]`.
pub fn expert_down_grad(m: Matrices<'_>, h: Mat<'_>, route: Mat<'_>, dy: Mat<'_>, out: &mut [f32]) {
    let n_used = route.n_cols() / 2;
    let cols = n_used * m.k + 2 * n_used;
    out.fill(0.0);
    for (expert, uses) in uses(route, m.n_experts) {
        let above = gather(&uses, m.n, |(row, ..)| dy.row(*row));
        let mut back = vec![0.0; uses.len() * m.k];
        linear_grad_of(&m.of(expert), Mat::dense(&above, m.n), m.k, &mut back);
        for ((row, slot, weight), back) in uses.iter().zip(back.chunks_exact(m.k)) {
            let h = &h.row(*row)[slot * m.k..][..m.k];
            let mut along: f32 = h.iter().zip(back).map(|(h, d)| h * d).sum();
            if let Some(bias) = m.bias_of(expert) {
                along += bias
                    .iter()
                    .zip(dy.row(*row))
                    .map(|(b, d)| b * d)
                    .sum::<f32>();
            }
            let out = &mut out[row * cols..][..cols];
            out[n_used * m.k + n_used + slot] = along;
            let out = &mut out[slot * m.k..][..m.k];
            out.iter_mut().zip(back).for_each(|(o, d)| *o = weight * d);
        }
    }
}
