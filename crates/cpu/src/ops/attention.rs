use std::ops::Range;

use multiversion::multiversion;
use siskin_graph::{AttentionSpec, SequenceRows};

use super::gemm::{Mat, Output, gemm};
use crate::KvCache;
use crate::threads::each_chunk;

/// Positions that one thread decodes at a time.
const POSITIONS: usize = 64;

/// From this many rows of q on, products of matrices pay.
const MIN_GEMM_ROWS: usize = 8;
/// Rows of q that one thread takes at a time then.
const BLOCK: usize = 32;

/// Causal attention of the rows of several sequences over the cache, which holds their keys and values already. `q` and
/// `out` are `[T, n_heads · head_dim]`, one sequence after another; `sinks` are those of `spec`. `scratch` is kept from
/// call to call.
pub fn attention(
    spec: &AttentionSpec,
    sinks: Option<&[f32]>,
    q: Mat<'_>,
    cache: &KvCache,
    sequences: &[SequenceRows],
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (d, cols) = (spec.head_dim, spec.n_heads * spec.head_dim);
    let seen = Seen::of(spec, sequences);
    // Keys, then values, of each head, decoded once for all rows, some positions at a time.
    let run = POSITIONS * d;
    let needed = seen.last().map_or(0, |s| s.end_run()) * run;
    if scratch.len() < needed {
        scratch.resize(needed.next_power_of_two(), 0.0);
    }
    let kv = &mut scratch[..needed];
    each_chunk(kv, run, |i, out| {
        let s = &seen[seen.partition_point(|s| s.end_run() <= i)];
        let (side, at) = s.side_and_position(i);
        let n = POSITIONS.min(s.len() - at) * d;
        let (head, from, out) = (side / 2, s.from + at, &mut out[..n]);
        match side % 2 {
            0 => cache.keys(cache.blocks(s.sequence), head, from, out),
            _ => cache.values(cache.blocks(s.sequence), head, from, out),
        }
    });
    let kv = &*kv;
    // The keys and values that a head of q sees at some places of a sequence, counted from the first that any row sees.
    let sides = |s: &Seen<'_>, head: usize, at: Range<usize>| {
        let kv_head = head / (spec.n_heads / spec.n_kv_heads);
        let len = s.runs * run;
        let (k, v) = kv[s.first_run * run + kv_head * 2 * len..][..2 * len].split_at(len);
        let span = at.start * d..at.end * d;
        (&k[span.clone()], &v[span])
    };
    let mut pieces: Vec<(usize, &Seen<'_>, &mut [f32])> = vec![];
    let mut rest = out;
    for s in &seen {
        // Several rows, whose products are of matrices, or a head of a row.
        let is_gemm = s.sequence.rows >= MIN_GEMM_ROWS;
        let len = if is_gemm { BLOCK * cols } else { d };
        let (here, after) = rest.split_at_mut(s.sequence.rows * cols);
        pieces.extend(here.chunks_mut(len).enumerate().map(|(i, out)| (i, s, out)));
        rest = after;
    }
    each_chunk(&mut pieces, 1, |_, piece| {
        let (i, s, out) = &mut piece[0];
        if s.sequence.rows < MIN_GEMM_ROWS {
            let (row, head) = (*i / spec.n_heads, *i % spec.n_heads);
            let (k, v) = sides(s, head, s.seen_by(row));
            let q = &q.row(s.first_row + row)[head * d..][..d];
            one_head(q, k, v, (spec, sinks.map(|s| s[head])), out);
            return;
        }
        let (row0, n) = (*i * BLOCK, out.len() / cols);
        let all = s.seen_by(row0).start..s.seen_by(row0 + n - 1).end;
        let mut weights = vec![0.0; n * all.len()];
        for head in 0..spec.n_heads {
            let (k, v) = sides(s, head, all.clone());
            let q = q.rows(s.first_row + row0, n).cols(head * d, d);
            let k = Mat::dense(k, d).t();
            gemm(&mut weights, all.len(), Output::Set, spec.scale, q, k);
            for (r, weights) in weights.chunks_exact_mut(all.len()).enumerate() {
                let seen = s.seen_by(row0 + r);
                let (start, end) = (seen.start - all.start, seen.end - all.start);
                soft_cap(spec, &mut weights[start..end]);
                softmax(&mut weights[start..end], sinks.map(|s| s[head]));
                weights[..start].fill(0.0);
                weights[end..].fill(0.0);
            }
            let (p, v) = (Mat::dense(&weights, all.len()), Mat::dense(v, d));
            gemm(&mut out[head * d..], cols, Output::Set, 1.0, p, v);
        }
    });
}

/// The part of a sequence that its rows see, and where it is among the decoded keys and values.
struct Seen<'a> {
    sequence: &'a SequenceRows,
    /// The sequence's first row among all.
    first_row: usize,
    /// The first position that a row sees.
    from: usize,
    /// The window, if there is one.
    reach: usize,
    /// The first run of positions.
    first_run: usize,
    /// Runs of each side: keys or values of a head.
    runs: usize,
    n_kv_heads: usize,
}

impl<'a> Seen<'a> {
    fn of(spec: &AttentionSpec, sequences: &'a [SequenceRows]) -> Vec<Self> {
        let reach = spec.window.unwrap_or(usize::MAX);
        let (mut first_row, mut first_run) = (0, 0);
        let next = |sequence: &'a SequenceRows| {
            let from = (sequence.position + 1).saturating_sub(reach);
            let seen = Self {
                sequence,
                first_row,
                from,
                reach,
                first_run,
                runs: (sequence.end() - from).div_ceil(POSITIONS),
                n_kv_heads: spec.n_kv_heads,
            };
            first_row += sequence.rows;
            first_run = seen.end_run();
            seen
        };
        sequences.iter().map(next).collect()
    }

    fn len(&self) -> usize {
        self.sequence.end() - self.from
    }

    fn end_run(&self) -> usize {
        self.first_run + 2 * self.n_kv_heads * self.runs
    }

    /// Of a run among all: which side it is of, and its first position, counted from `from`.
    fn side_and_position(&self, run: usize) -> (usize, usize) {
        let i = run - self.first_run;
        (i / self.runs, i % self.runs * POSITIONS)
    }

    /// What one of the sequence's rows sees, counted from `from`.
    fn seen_by(&self, row: usize) -> Range<usize> {
        let end = self.sequence.position + row + 1;
        end.saturating_sub(self.reach) - self.from..end - self.from
    }
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
