use multiversion::multiversion;
use siskin_graph::AttentionSpec;

use crate::KvCache;
use crate::threads::each_chunk;

/// Causal attention of T rows of q, the first of them at `position`, over the cache, which holds
/// their keys and values already. `q(row)` is `[n_heads · head_dim]`, `out` is
/// `[T, n_heads · head_dim]`. `scratch` is kept from call to call.
pub fn attention<'a>(
    spec: &AttentionSpec,
    q: impl Fn(usize) -> &'a [f32] + Sync + Send,
    cache: &KvCache,
    position: usize,
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = *spec;
    let rows = out.len() / (n_heads * head_dim);
    let reach = spec.window.unwrap_or(usize::MAX);
    let from = (position + 1).saturating_sub(reach);
    let len = position + rows - from;
    // Keys, then values, of each head, decoded once for all rows.
    let needed = 2 * n_kv_heads * len * head_dim;
    if scratch.len() < needed {
        scratch.resize(needed.next_power_of_two(), 0.0);
    }
    let kv = &mut scratch[..needed];
    each_chunk(kv, 2 * len * head_dim, |head, kv| {
        let (k, v) = kv.split_at_mut(len * head_dim);
        cache.keys(head, from, k);
        cache.values(head, from, v);
    });
    let kv = &*kv;
    each_chunk(out, head_dim, |i, out| {
        let (row, head) = (i / n_heads, i % n_heads);
        let at = position + row;
        let first = (at + 1).saturating_sub(reach) - from;
        let last = at + 1 - from;
        let kv_head = head / (n_heads / n_kv_heads);
        let kv = &kv[kv_head * 2 * len * head_dim..][..2 * len * head_dim];
        let (k, v) = kv.split_at(len * head_dim);
        let span = first * head_dim..last * head_dim;
        one_head(
            &q(row)[head * head_dim..][..head_dim],
            &k[span.clone()],
            &v[span],
            spec.scale,
            out,
        );
    });
}

/// `softmax(scale · q Kᵀ) V` for one query; K and V are `[len, head_dim]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn one_head(q: &[f32], k: &[f32], v: &[f32], scale: f32, out: &mut [f32]) {
    let d = q.len();
    let mut scores: Vec<f32> = k.chunks_exact(d).map(|k| scale * dot(q, k)).collect();
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for s in &mut scores {
        *s = (*s - max).exp();
        sum += *s;
    }
    out.fill(0.0);
    for (s, v) in scores.iter().zip(v.chunks_exact(d)) {
        let weight = s / sum;
        for (out, v) in out.iter_mut().zip(v) {
            *out += weight * v;
        }
    }
}

/// A dot product in 16 running sums, which compiles to vector code.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}
