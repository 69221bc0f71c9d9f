//! DoRA's magnitudes, forward and backward. Shapes: y and dy `[T, n]`, factors `[n]`.

use siskin_formats::decode;
use siskin_graph::{Dora, Lora};

use super::gemm::{Mat, Output, gemm};
use crate::CpuPart;
use crate::threads::each_chunk;

/// Rows of the weight that are decoded at a time.
const TILE: usize = 32;
/// Columns whose gradients one thread sums.
const COLUMNS: usize = 256;

/// Each column's factor `m / ‖W + scale · B A‖` (the norm of its row of weights), and 1 outside the spans.
pub fn factors(lora: &Lora, dora: &Dora, params: &[f32], parts: &[CpuPart], out: &mut [f32]) {
    let (k, r) = (lora.k, lora.rank);
    out.fill(1.0);
    let mut m = dora.m;
    for (span, a, b) in lora.parts() {
        let mut start = 0;
        let starts_here = |p: &&CpuPart| {
            let here = start == span.start;
            start += p.rows;
            here
        };
        let part = parts.iter().find(starts_here);
        let Some(part) = part.filter(|p| p.rows == span.len) else {
            unreachable!("`{}` is a part of its weight", span.module)
        };
        let a = Mat::dense(&params[a..][..r * k], k);
        let row_bytes = part.bytes.len() / part.rows;
        each_chunk(&mut out[span.start..][..span.len], TILE, |i, out| {
            let (at, n) = (i * TILE, out.len());
            let mut w = vec![0.0; n * k];
            decode(
                part.ty,
                &part.bytes[at * row_bytes..][..n * row_bytes],
                &mut w,
            );
            let b = Mat::dense(&params[b + at * r..][..n * r], r);
            gemm(&mut w, k, Output::Add, lora.scale, b, a);
            for (j, (out, row)) in out.iter_mut().zip(w.chunks_exact(k)).enumerate() {
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                // A row of zeros stays one, whatever it is multiplied by.
                *out = if norm > 0.0 {
                    params[m + at + j] / norm
                } else {
                    1.0
                };
            }
        });
        m += span.len;
    }
}

/// `y = (y − b) · factor + b`.
pub fn dora(factors: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    for y in y.chunks_exact_mut(factors.len()) {
        match bias {
            None => y.iter_mut().zip(factors).for_each(|(y, f)| *y *= f),
            Some(bias) => {
                let columns = y.iter_mut().zip(factors).zip(bias);
                columns.for_each(|((y, f), b)| *y = (*y - b) * f + b);
            }
        }
    }
}

/// `dx = dy · factor`.
pub fn dora_grad(factors: &[f32], dy: Mat<'_>, dx: &mut [f32]) {
    for (t, dx) in dx.chunks_exact_mut(factors.len()).enumerate() {
        let columns = dx.iter_mut().zip(dy.row(t)).zip(factors);
        columns.for_each(|((dx, dy), f)| *dx = dy * f);
    }
}

/// `dm += Σ dy (y − b) / m` over the rows; 0 where m is.
pub fn dora_grad_m(
    lora: &Lora,
    dora: &Dora,
    bias: Option<&[f32]>,
    params: &[f32],
    [y, dy]: [Mat<'_>; 2],
    grads: &mut [f32],
) {
    let mut at = dora.m;
    for span in &lora.spans {
        let m = &params[at..][..span.len];
        each_chunk(&mut grads[at..][..span.len], COLUMNS, |i, grads| {
            let (first, n) = (i * COLUMNS, grads.len());
            let columns = span.start + first..span.start + first + n;
            let mut sums = [0f32; COLUMNS];
            for t in 0..y.n_rows() {
                let (y, dy) = (&y.row(t)[columns.clone()], &dy.row(t)[columns.clone()]);
                match bias.map(|b| &b[columns.clone()]) {
                    None => {
                        let terms = sums.iter_mut().zip(dy).zip(y);
                        terms.for_each(|((sum, dy), y)| *sum += dy * y);
                    }
                    Some(b) => {
                        let terms = sums.iter_mut().zip(dy).zip(y).zip(b);
                        terms.for_each(|(((sum, dy), y), b)| *sum += dy * (y - b));
                    }
                }
            }
            for ((grad, sum), m) in grads.iter_mut().zip(sums).zip(&m[first..]) {
                *grad += if *m == 0.0 { 0.0 } else { sum / m };
            }
        });
        at += span.len;
    }
}
