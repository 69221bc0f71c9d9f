//! The last linear and the cross-entropy of its softmax, a tile of the vocabulary at a time: all logits
//! never exist. After Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models" (2024).

use siskin_formats::decode;
use siskin_graph::Batch;

use super::gemm::{Mat, Output, gemm};
use crate::CpuPart;
use crate::threads::each_chunk;

/// Rows of the weight, that is tokens of the vocabulary, that are decoded at a time.
const TILE: usize = 128;
/// How many sums run side by side. A fixed number, so that results do not depend on the machine's.
const LANES: usize = 8;

/// The last linear.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// W, `[vocab, d]`.
    pub parts: &'a [CpuPart],
    /// Columns of W and of x.
    pub d: usize,
    /// Logits l become `cap · tanh(l / cap)`.
    pub soft_cap: Option<f32>,
}

/// Rows with a weight, and their x, dense.
fn active(batch: &Batch, x: Mat<'_>) -> (Vec<usize>, Vec<f32>) {
    let rows: Vec<usize> = (0..batch.rows())
        .filter(|t| batch.weights[*t] != 0.0)
        .collect();
    let dense = rows.iter().flat_map(|t| x.row(*t)).copied().collect();
    (rows, dense)
}

/// Tiles of the vocabulary: part, first row in it, first id, rows.
fn tiles(parts: &[CpuPart]) -> Vec<(&CpuPart, usize, usize, usize)> {
    let mut first = 0;
    let mut out = vec![];
    for part in parts {
        for at in (0..part.rows).step_by(TILE) {
            out.push((part, at, first + at, TILE.min(part.rows - at)));
        }
        first += part.rows;
    }
    out
}

/// Hands over each tile of a lane: its first id, its decoded weights `[len, d]`, and x's logits `[n, len]`.
fn each_tile(
    tiles: &[(&CpuPart, usize, usize, usize)],
    lane: usize,
    x: &[f32],
    Head { d, soft_cap, .. }: Head<'_>,
    mut f: impl FnMut(usize, Mat<'_>, &mut [f32]),
) {
    let n = x.len() / d;
    let (mut w, mut logits) = (vec![0.0; TILE * d], vec![0.0; n * TILE]);
    for (part, at, first, len) in tiles.iter().skip(lane).step_by(LANES) {
        let row_bytes = part.bytes.len() / part.rows;
        let (w, logits) = (&mut w[..len * d], &mut logits[..n * len]);
        decode(part.ty, &part.bytes[at * row_bytes..][..len * row_bytes], w);
        let w = Mat::dense(w, d);
        gemm(logits, *len, Output::Set, 1.0, Mat::dense(x, d), w.t());
        if let Some(cap) = soft_cap {
            logits.iter_mut().for_each(|l| *l = cap * (*l / cap).tanh());
        }
        f(*first, w, logits);
    }
}

/// Running maximum and sum of exponentials, and the target's logit.
#[derive(Clone, Copy)]
struct Sum {
    max: f32,
    sum: f32,
    target: f32,
}

impl Sum {
    const NONE: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
        target: 0.0,
    };

    fn join(&mut self, other: &Self) {
        let max = self.max.max(other.max);
        if max > f32::NEG_INFINITY {
            self.sum = self.sum * (self.max - max).exp() + other.sum * (other.max - max).exp();
        }
        self.max = max;
        self.target += other.target;
    }
}

/// x is `[T, d]`, out is `[T, 2]`: weight · loss, and the logits' log-sum-exp; 0 for rows of weight 0.
pub fn cross_entropy(head: Head<'_>, x: Mat<'_>, batch: &Batch, out: &mut [f32]) {
    out.fill(0.0);
    let (rows, dense) = active(batch, x);
    let n = rows.len();
    if n == 0 {
        return;
    }
    let tiles = tiles(head.parts);
    let mut sums = vec![Sum::NONE; LANES * n];
    each_chunk(&mut sums, n, |lane, sums| {
        each_tile(&tiles, lane, &dense, head, |first, _, logits| {
            let rows = logits.chunks_exact(logits.len() / n).zip(&rows);
            for ((logits, t), sum) in rows.zip(&mut *sums) {
                let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let target = (batch.targets[*t] as usize).checked_sub(first);
                sum.join(&Sum {
                    max,
                    sum: logits.iter().map(|l| (l - max).exp()).sum(),
                    target: target.and_then(|i| logits.get(i)).copied().unwrap_or(0.0),
                });
            }
        });
    });
    for (i, t) in rows.iter().enumerate() {
        let mut total = Sum::NONE;
        sums.iter().skip(i).step_by(n).for_each(|s| total.join(s));
        let lse = total.max + total.sum.ln();
        out[2 * t] = batch.weights[*t] * (lse - total.target);
        out[2 * t + 1] = lse;
    }
}

/// `dx = weight · (softmax(x Wᵀ) − onehot(target)) · W`, where a soft cap multiplies by its derivative; `stats` is what [`cross_entropy`] gave.
pub fn cross_entropy_grad(
    head: Head<'_>,
    x: Mat<'_>,
    stats: Mat<'_>,
    batch: &Batch,
    dx: &mut [f32],
) {
    dx.fill(0.0);
    let (rows, dense) = active(batch, x);
    let n = rows.len();
    if n == 0 {
        return;
    }
    let (tiles, d) = (tiles(head.parts), head.d);
    let mut sums = vec![0.0; LANES * n * d];
    each_chunk(&mut sums, n * d, |lane, sums| {
        each_tile(&tiles, lane, &dense, head, |first, w, logits| {
            let len = logits.len() / n;
            for (logits, t) in logits.chunks_exact_mut(len).zip(&rows) {
                let (weight, lse) = (batch.weights[*t], stats.row(*t)[1]);
                let target = (batch.targets[*t] as usize).checked_sub(first);
                for (i, l) in logits.iter_mut().enumerate() {
                    let is_target = f32::from(u8::from(target == Some(i)));
                    // The derivative of the cap, from what it made.
                    let slope = head.soft_cap.map_or(1.0, |cap| 1.0 - (*l / cap).powi(2));
                    *l = weight * ((*l - lse).exp() - is_target) * slope;
                }
            }
            gemm(sums, d, Output::Add, 1.0, Mat::dense(logits, len), w);
        });
    });
    for (i, t) in rows.iter().enumerate() {
        let dx = &mut dx[t * d..][..d];
        for sums in sums.chunks_exact(n * d) {
            dx.iter_mut()
                .zip(&sums[i * d..])
                .for_each(|(dx, s)| *dx += s);
        }
    }
}
