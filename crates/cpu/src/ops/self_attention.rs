//! Attention over a batch of segments, and its gradients.

use std::ops::Range;

use siskin_graph::AttentionSpec;

use super::attention::{soft_cap, softmax};
use super::gemm::{Mat, Output, gemm};
use crate::threads::each_chunk;

/// Rows of q whose weights exist at a time.
const BLOCK: usize = 256;

/// Scores of one row become weights, with the head's sink; what it does not see gets none.
fn weigh(spec: &AttentionSpec, sink: Option<f32>, row: &mut [f32], seen: Range<usize>) {
    soft_cap(spec, &mut row[seen.clone()]);
    softmax(&mut row[seen.clone()], sink);
    row[..seen.start].fill(0.0);
    row[seen.end..].fill(0.0);
}

/// `softmax(scale · q kᵀ)` of one head in one segment, `[len, len]`, with the head's sink.
fn weights(
    (spec, sink): (&AttentionSpec, Option<f32>),
    q: Mat<'_>,
    k: Mat<'_>,
    len: usize,
) -> Vec<f32> {
    let mut p = scores(spec, q, k, len);
    for (i, row) in p.chunks_exact_mut(len).enumerate() {
        weigh(spec, sink, row, spec.seen(i, len));
    }
    p
}

/// `scale · q kᵀ`, `[len, len]`.
fn scores(spec: &AttentionSpec, q: Mat<'_>, k: Mat<'_>, len: usize) -> Vec<f32> {
    let mut out = vec![0.0; len * len];
    gemm(&mut out, len, Output::Set, spec.scale, q, k.t());
    out
}

/// The `d` columns from `at` on, in a segment.
fn head<'a>(m: Mat<'a>, segment: &Range<usize>, at: usize, d: usize) -> Mat<'a> {
    m.rows(segment.start, segment.len()).cols(at, d)
}

/// q is `[T, n_heads · head_dim]`, k and v are `[T, n_kv_heads · head_dim]`, out is as q; `sinks` are those of `spec`;
/// `scratch` is kept from call to call.
pub fn self_attention(
    spec: &AttentionSpec,
    sinks: Option<&[f32]>,
    segments: &[Range<usize>],
    [q, k, v]: [Mat<'_>; 3],
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (n_heads, d) = (spec.n_heads, spec.head_dim);
    let rows = out.len() / (n_heads * d);
    scratch.clear();
    scratch.resize(out.len(), 0.0);
    each_chunk(scratch, rows * d, |h, out| {
        let kv = h / (n_heads / spec.n_kv_heads) * d;
        for s in segments {
            let of = |m, at| head(m, s, at, d);
            let sink = sinks.map(|s| s[h]);
            let (q, k, v) = (of(q, h * d), of(k, kv), of(v, kv));
            let out = &mut out[s.start * d..s.end * d];
            for (i, out) in out.chunks_mut(BLOCK * d).enumerate() {
                let (row, n) = (i * BLOCK, out.len() / d);
                // What any of these rows sees.
                let seen = spec.seen(row, s.len()).start..spec.seen(row + n - 1, s.len()).end;
                let (k, v) = (
                    k.rows(seen.start, seen.len()),
                    v.rows(seen.start, seen.len()),
                );
                let mut p = vec![0.0; n * seen.len()];
                gemm(
                    &mut p,
                    seen.len(),
                    Output::Set,
                    spec.scale,
                    q.rows(row, n),
                    k.t(),
                );
                for (r, p) in p.chunks_exact_mut(seen.len()).enumerate() {
                    let own = spec.seen(row + r, s.len());
                    let own = own.start - seen.start..own.end - seen.start;
                    weigh(spec, sink, p, own);
                }
                gemm(out, d, Output::Set, 1.0, Mat::dense(&p, seen.len()), v);
            }
        }
    });
    let heads = &*scratch;
    each_chunk(out, n_heads * d, |t, out| {
        for (h, out) in out.chunks_exact_mut(d).enumerate() {
            out.copy_from_slice(&heads[(h * rows + t) * d..][..d]);
        }
    });
}

/// The gradients of q, k and v side by side, from q, k, v, the result y and its gradient. With
/// P = softmax(S): dS = P ⊙ (dy vᵀ − rowsum(dy ⊙ y)), as in FlashAttention (Dao et al., 2022). A sink has no value, so it
/// only makes P smaller.
pub fn self_attention_grad(
    spec: &AttentionSpec,
    sinks: Option<&[f32]>,
    segments: &[Range<usize>],
    [q, k, v, y, dy]: [Mat<'_>; 5],
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim: d,
        ..
    } = *spec;
    let cols = (n_heads + 2 * n_kv_heads) * d;
    let rows = out.len() / cols;
    let group = n_heads / n_kv_heads;
    // Head by head: dq of the group's heads, then dk, then dv, `[T, head_dim]` each.
    let block = (group + 2) * rows * d;
    scratch.clear();
    scratch.resize(n_kv_heads * block, 0.0);
    each_chunk(scratch, block, |kv, out| {
        let (dqs, dkv) = out.split_at_mut(group * rows * d);
        let (dk, dv) = dkv.split_at_mut(rows * d);
        for (g, dq) in dqs.chunks_exact_mut(rows * d).enumerate() {
            let at = (kv * group + g) * d;
            for s in segments {
                let n = s.len();
                let of = |m, at| head(m, s, at, d);
                let (q, y, dy) = (of(q, at), of(y, at), of(dy, at));
                let (k, v) = (of(k, kv * d), of(v, kv * d));
                let sink = sinks.map(|s| s[kv * group + g]);
                let p = weights((spec, sink), q, k, n);
                let part = s.start * d..;
                gemm(
                    &mut dv[part.clone()],
                    d,
                    Output::Add,
                    1.0,
                    Mat::dense(&p, n).t(),
                    dy,
                );
                let mut ds = vec![0.0; n * n];
                gemm(&mut ds, n, Output::Set, 1.0, dy, v.t());
                for (i, (ds, p)) in ds.chunks_exact_mut(n).zip(p.chunks_exact(n)).enumerate() {
                    let total: f32 = y.row(i).iter().zip(dy.row(i)).map(|(a, b)| a * b).sum();
                    ds.iter_mut()
                        .zip(p)
                        .for_each(|(ds, p)| *ds = p * (*ds - total));
                }
                if let Some(cap) = spec.soft_cap {
                    for (ds, s) in ds.iter_mut().zip(scores(spec, q, k, n)) {
                        *ds *= 1.0 - (s / cap).tanh().powi(2);
                    }
                }
                let ds = Mat::dense(&ds, n);
                gemm(&mut dq[part.clone()], d, Output::Set, spec.scale, ds, k);
                gemm(&mut dk[part], d, Output::Add, spec.scale, ds.t(), q);
            }
        }
    });
    let heads = &*scratch;
    each_chunk(out, cols, |t, out| {
        for (h, out) in out.chunks_exact_mut(d).enumerate() {
            let (kv, within) = match h.checked_sub(n_heads) {
                None => (h / group, h % group),
                Some(h) => (h % n_kv_heads, group + h / n_kv_heads),
            };
            out.copy_from_slice(&heads[kv * block + (within * rows + t) * d..][..d]);
        }
    });
}
