use std::ops::Range;

use multiversion::multiversion;
use siskin_graph::AttentionSpec;

use super::gemm::{Mat, Output, gemm};
use crate::KvCache;
use crate::threads::each_chunk;

/// Positions that one thread decodes at a time.
const POSITIONS: usize = 64;

/// From this many rows of q on, products of matrices pay.
const MIN_GEMM_ROWS: usize = 8;
/// Rows of q that one thread takes at a time then.
const BLOCK: usize = 32;

/// Causal attention of T rows of q, the first of them at `position`, over the cache, which holds
/// their keys and values already. `q` and `out` are `[T, n_heads · head_dim]`; `sinks` are those of `spec`. `scratch` is
/// kept from call to call.
pub fn attention(
    spec: &AttentionSpec,
    sinks: Option<&[f32]>,
    q: Mat<'_>,
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
    // What a row sees, counted from `from`.
    let seen = |row: usize| {
        let end = position + row + 1;
        end.saturating_sub(reach) - from..end - from
    };
    // Keys and values of a head, at some of these places.
    let sides = |head: usize, at: Range<usize>| {
        let kv_head = head / (n_heads / n_kv_heads);
        let (k, v) = kv[kv_head * 2 * runs * run..][..2 * runs * run].split_at(runs * run);
        let span = at.start * head_dim..at.end * head_dim;
        (&k[span.clone()], &v[span])
    };
    if rows < MIN_GEMM_ROWS {
        each_chunk(out, head_dim, |i, out| {
            let (row, head) = (i / n_heads, i % n_heads);
            let (k, v) = sides(head, seen(row));
            let q = &q.row(row)[head * head_dim..][..head_dim];
            one_head(q, k, v, (spec, sinks.map(|s| s[head])), out);
        });
        return;
    }
    let cols = n_heads * head_dim;
    each_chunk(out, BLOCK * cols, |i, out| {
        let (row0, n) = (i * BLOCK, out.len() / cols);
        let all = seen(row0).start..seen(row0 + n - 1).end;
        let mut weights = vec![0.0; n * all.len()];
        for head in 0..n_heads {
            let (k, v) = sides(head, all.clone());
            let q = q.rows(row0, n).cols(head * head_dim, head_dim);
            let k = Mat::dense(k, head_dim).t();
            gemm(&mut weights, all.len(), Output::Set, spec.scale, q, k);
            for (r, weights) in weights.chunks_exact_mut(all.len()).enumerate() {
                let seen = seen(row0 + r);
                let (start, end) = (seen.start - all.start, seen.end - all.start);
                soft_cap(spec, &mut weights[start..end]);
                softmax(&mut weights[start..end], sinks.map(|s| s[head]));
                weights[..start].fill(0.0);
                weights[end..].fill(0.0);
            }
            let (p, v) = (Mat::dense(&weights, all.len()), Mat::dense(v, head_dim));
            gemm(&mut out[head * head_dim..], cols, Output::Set, 1.0, p, v);
        }
    });
}

/// What each query gives each key, `[n_heads, T, T]`, 0 where it does not look; for showing. `q` is
/// `[T, n_heads · head_dim]`, `k` is `[T, n_kv_heads · head_dim]`, both after rope; `sinks` are those of `spec`.
pub fn attention_weights(
    spec: &AttentionSpec,
    sinks: Option<&[f32]>,
    q: &[f32],
    k: &[f32],
) -> Vec<f32> {
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
        soft_cap(spec, &mut out[seen.clone()]);
        softmax(&mut out[seen], sinks.map(|s| s[head]));
    }
    out
}

/// The soft cap of scores, in place.
#[inline(always)]
pub(super) fn soft_cap(spec: &AttentionSpec, scores: &mut [f32]) {
    if let Some(cap) = spec.soft_cap {
        scores.iter_mut().for_each(|s| *s = cap * (*s / cap).tanh());
    }
}

/// `exp(s) / Σ exp(s)`, in place; a sink is a part of the sum only.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f32], sink: Option<f32>) {
    let least = sink.unwrap_or(f32::NEG_INFINITY);
    let max = scores.iter().copied().fold(least, f32::max);
    let mut sum = sink.map_or(0.0, |s| (s - max).exp());
    for s in &mut *scores {
        *s = (*s - max).exp();
        sum += *s;
    }
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// `softmax(scale · q Kᵀ) V` for one query, with the head's sink; K and V are `[len, head_dim]`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn one_head(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    (spec, sink): (&AttentionSpec, Option<f32>),
    out: &mut [f32],
) {
    let (d, scale) = (q.len(), spec.scale);
    let mut scores: Vec<f32> = k.chunks_exact(d).map(|k| scale * dot(q, k)).collect();
    soft_cap(spec, &mut scores);
    softmax(&mut scores, sink);
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
