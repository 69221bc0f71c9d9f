use multiversion::multiversion;
use siskin_graph::ScanSpec;

use super::attention::dot;
use super::delta_rule::softplus;
use super::gemm::Mat;
use crate::threads::{each_chunk, share};

/// What a selective scan reads.
#[derive(Debug, Clone, Copy)]
pub struct ScanInputs<'a> {
    /// `[T, n_heads · head_dim]`.
    pub x: Mat<'a>,
    /// `[T, n_heads]`.
    pub steps: Mat<'a>,
    /// B and C, `[T, 2 · n_groups · state_dim]`.
    pub bc: Mat<'a>,
    /// `[n_heads]` or `[n_heads, state_dim]`.
    pub a: &'a [f32],
    /// `[n_heads]`.
    pub dt_bias: Option<&'a [f32]>,
    /// `[n_heads]`.
    pub d: &'a [f32],
}

/// Heads that are few enough to be a thread's share.
const HEADS: usize = 64;

/// A selective scan over T rows ([`siskin_graph::Op::SelectiveScan`]). `state` is `[n_heads, head_dim, state_dim]`,
/// `out` `[T, n_heads · head_dim]`.
pub fn selective_scan(spec: &ScanSpec, x: ScanInputs<'_>, state: &mut [f32], out: &mut [f32]) {
    let ScanSpec {
        n_heads,
        head_dim,
        state_dim,
        ..
    } = *spec;
    let rows = out.len() / (n_heads * head_dim);
    let mut by_head = vec![0.0; out.len()];
    let mut heads: Vec<(&mut [f32], &mut [f32])> = state
        .chunks_exact_mut(head_dim * state_dim)
        .zip(by_head.chunks_exact_mut(rows * head_dim))
        .collect();
    let len = share(n_heads, HEADS, 1);
    each_chunk(&mut heads, len, |i, heads| {
        for (at, (state, out)) in heads.iter_mut().enumerate() {
            one_head(spec, x, i * len + at, state, out);
        }
    });
    for (h, rows) in by_head.chunks_exact(rows * head_dim).enumerate() {
        for (t, row) in rows.chunks_exact(head_dim).enumerate() {
            out[(t * n_heads + h) * head_dim..][..head_dim].copy_from_slice(row);
        }
    }
}

fn one_head(spec: &ScanSpec, x: ScanInputs<'_>, h: usize, state: &mut [f32], out: &mut [f32]) {
    let (n, p) = (spec.state_dim, spec.head_dim);
    let group = h * spec.n_groups / spec.n_heads;
    let [min, max] = spec.step_limits;
    let mut decays = vec![0.0; n];
    for (t, out) in out.chunks_exact_mut(p).enumerate() {
        let bias = x.dt_bias.map_or(0.0, |b| b[h]);
        let step = softplus(x.steps.row(t)[h] + bias).clamp(min, max);
        if x.a.len() == spec.n_heads {
            decays.fill((step * x.a[h]).exp());
        } else {
            let a = &x.a[h * n..][..n];
            decays
                .iter_mut()
                .zip(a)
                .for_each(|(d, a)| *d = (step * a).exp());
        }
        let (b, c) = x.bc.row(t).split_at(spec.n_groups * n);
        let (b, c) = (&b[group * n..][..n], &c[group * n..][..n]);
        let inputs = &x.x.row(t)[h * p..][..p];
        advance(state, [&decays, b, c], inputs, step, out);
        for (out, x_) in out.iter_mut().zip(inputs) {
            *out += x.d[h] * x_;
        }
    }
}

/// One token of one head: `h ← decay · h + step x B`, `out = C · h`, for each column.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn advance(state: &mut [f32], [decays, b, c]: [&[f32]; 3], x: &[f32], step: f32, out: &mut [f32]) {
    for ((h, x), out) in state.chunks_exact_mut(b.len()).zip(x).zip(out) {
        let by = step * x;
        for ((h, decay), b) in h.iter_mut().zip(decays).zip(b) {
            *h = decay * *h + by * b;
        }
        *out = dot(h, c);
    }
}
