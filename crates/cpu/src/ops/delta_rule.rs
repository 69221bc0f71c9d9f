use multiversion::multiversion;
use siskin_graph::DeltaSpec;

use super::attention::dot;
use super::gemm::Mat;
use crate::threads::each_chunk;

/// What the gated delta rule reads.
#[derive(Debug, Clone, Copy)]
pub struct DeltaInputs<'a> {
    /// `[T, 2 · n_k_heads · k_dim]`.
    pub qk: Mat<'a>,
    /// `[T, n_v_heads · v_dim]`.
    pub v: Mat<'a>,
    /// b and α, `[T, 2 · n_v_heads]`.
    pub gates: Mat<'a>,
    /// `[n_v_heads]`.
    pub a: &'a [f32],
    /// `[n_v_heads]`.
    pub dt_bias: &'a [f32],
}

/// `ln(1 + exp(x))`.
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// The gated delta rule over T rows ([`siskin_graph::Op::DeltaRule`]). `state` is `[n_v_heads, v_dim, k_dim]`, `out`
/// `[T, n_v_heads · v_dim]`.
pub fn delta_rule(spec: &DeltaSpec, x: DeltaInputs<'_>, state: &mut [f32], out: &mut [f32]) {
    let DeltaSpec {
        n_k_heads,
        n_v_heads,
        k_dim,
        v_dim,
        scale,
        tiled,
    } = *spec;
    let rows = out.len() / (n_v_heads * v_dim);
    let mut by_head = vec![0.0; out.len()];
    let mut heads: Vec<(&mut [f32], &mut [f32])> = state
        .chunks_exact_mut(k_dim * v_dim)
        .zip(by_head.chunks_exact_mut(rows * v_dim))
        .collect();
    each_chunk(&mut heads, 1, |h, head| {
        let (state, out) = &mut head[0];
        let k_head = match tiled {
            true => h % n_k_heads,
            false => h * n_k_heads / n_v_heads,
        };
        for (t, out) in out.chunks_exact_mut(v_dim).enumerate() {
            let (qk, gates) = (x.qk.row(t), x.gates.row(t));
            let (q, k) = qk.split_at(n_k_heads * k_dim);
            let (q, k) = (&q[k_head * k_dim..][..k_dim], &k[k_head * k_dim..][..k_dim]);
            let beta = 1.0 / (1.0 + (-gates[h]).exp());
            let decay = (x.a[h] * softplus(gates[n_v_heads + h] + x.dt_bias[h])).exp();
            let v = &x.v.row(t)[h * v_dim..][..v_dim];
            step(state, [q, k, v], decay, beta, out);
            out.iter_mut().for_each(|out| *out *= scale);
        }
    });
    for (h, rows) in by_head.chunks_exact(rows * v_dim).enumerate() {
        for (t, row) in rows.chunks_exact(v_dim).enumerate() {
            out[(t * n_v_heads + h) * v_dim..][..v_dim].copy_from_slice(row);
        }
    }
}

/// One token of one head.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn step(state: &mut [f32], [q, k, v]: [&[f32]; 3], decay: f32, beta: f32, out: &mut [f32]) {
    for ((s, v), out) in state.chunks_exact_mut(k.len()).zip(v).zip(out) {
        s.iter_mut().for_each(|s| *s *= decay);
        let delta = beta * (v - dot(s, k));
        s.iter_mut().zip(k).for_each(|(s, k)| *s += delta * k);
        *out = dot(s, q);
    }
}
