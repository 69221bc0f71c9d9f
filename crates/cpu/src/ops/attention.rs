use multiversion::multiversion;
use siskin_graph::AttentionSpec;

use crate::KvCache;
use crate::threads::each_chunk;

/// Positions that one thread decodes at a time.
const POSITIONS: usize = 64;

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
    // Keys, then values, of each head, decoded once for all rows, some positions at a time.
    let runs = len.div_ceil(POSITIONS);
    let run = POSITIONS * head_dim;
    let needed = 2 * n_kv_heads * runs * run;
    if scratch.len() < needed {
        scratch.resize(needed.next_power_of_two(), 0.0);
    }
    let kv = &mut scratch[..needed];
    each_chunk(kv, run, |i, out| {
        let (side, at) = (i / runs, i % runs * POSITIONS);
        let n = POSITIONS.min(len - at) * head_dim;
        let (head, out) = (side / 2, &mut out[..n]);
        match side % 2 {
            0 => cache.keys(head, from + at, out),
            _ => cache.values(head, from + at, out),
        }
    });
    let kv = &*kv;
    each_chunk(out, head_dim, |i, out| {
        let (row, head) = (i / n_heads, i % n_heads);
        let at = position + row;
        let first = (at + 1).saturating_sub(reach) - from;
        let last = at + 1 - from;
        let kv_head = head / (n_heads / n_kv_heads);
        let (k, v) = kv[kv_head * 2 * runs * run..][..2 * runs * run].split_at(runs * run);
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

/// What each query gives each key, `[n_heads, T, T]`, 0 where it does not look; for showing. `q` is
/// `[T, n_heads · head_dim]`, `k` is `[T, n_kv_heads · head_dim]`, both after rope.
pub fn attention_weights(spec: &AttentionSpec, q: &[f32], k: &[f32]) -> Vec<f32> {
    let AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = *spec;
    let rows = q.len() / (n_heads * head_dim);
    let reach = spec.window.unwrap_or(usize::MAX);
    let mut out = vec![0.0; n_heads * rows * rows];
    for (i, out) in out.chunks_exact_mut(rows.max(1)).enumerate() {
        let (head, at) = (i / rows, i % rows);
        let kv_head = head / (n_heads / n_kv_heads);
        let q = &q[(at * n_heads + head) * head_dim..][..head_dim];
        let seen = (at + 1).saturating_sub(reach)..at + 1;
        for (t, score) in seen.clone().zip(&mut out[seen.clone()]) {
            let k = &k[(t * n_kv_heads + kv_head) * head_dim..][..head_dim];
            *score = spec.scale * dot(q, k);
        }
        softmax(&mut out[seen]);
    }
    out
}

/// `exp(s) / Σ exp(s)`, in place.
#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for s in &mut *scores {
        *s = (*s - max).exp();
        sum += *s;
    }
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// `softmax(scale · q Kᵀ) V` for one query; K and V are `[len, head_dim]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn one_head(q: &[f32], k: &[f32], v: &[f32], scale: f32, out: &mut [f32]) {
    let d = q.len();
    let mut scores: Vec<f32> = k.chunks_exact(d).map(|k| scale * dot(q, k)).collect();
    softmax(&mut scores);
    out.fill(0.0);
    for (weight, v) in scores.iter().zip(v.chunks_exact(d)) {
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
