use multiversion::multiversion;
use siskin_formats::decode;

use super::few_rows::{Packed, few_rows};
use super::float_rows;
use crate::ops::attention::dot;
use crate::ops::gemm::{Blocks, Mat, Output, each_columns};
use crate::threads::{each_chunk, share};
use crate::weights::PartRows;
use crate::{CpuPart, Precision, Q16Row, q16};

/// Rows of the weight that are decoded at a time: a tile and its share of x stay in the cache.
pub(super) const TILE: usize = 96;
/// Decoded values of a tile with many rows of x, in f32s.
const TILE_VALUES: usize = 1 << 18;
/// From this many rows of x on, packing what is multiplied pays.
const MIN_GEMM_ROWS: usize = 128;

/// `out = x · Wᵀ (+ b)`: x is `[T, k]`, W is the stack of `parts`, `[n, k]`, out is `[T, n]`.
pub fn linear(
    parts: &[CpuPart],
    bias: Option<&[f32]>,
    x: &[f32],
    k: usize,
    precision: Precision,
    out: &mut [f32],
) {
    let parts: Vec<_> = parts.iter().map(CpuPart::all).collect();
    linear_of(&parts, bias, x, k, precision, out);
}

/// [`linear`] of some rows of a matrix.
pub(super) fn linear_of(
    parts: &[PartRows<'_>],
    bias: Option<&[f32]>,
    x: &[f32],
    k: usize,
    precision: Precision,
    out: &mut [f32],
) {
    let n: usize = parts.iter().map(|p| p.rows).sum();
    let rows = x.len() / k;
    let integer = precision == Precision::Fast && rows == 1;
    let q16 = (integer && parts.iter().any(|p| p.ty.is_integer())).then(|| Q16Row::quantise(x));
    let packed = (2..MIN_GEMM_ROWS)
        .contains(&rows)
        .then(|| Packed::new(x, k));
    let mut first = 0;
    for part in parts.iter().copied() {
        if rows == 1 {
            // One row of x: the tiles' results are in order in `out`.
            let q16 = q16.as_ref().filter(|_| part.ty.is_integer());
            each_chunk(&mut out[first..][..part.rows], TILE, |tile, out| {
                matvec(part, tile * TILE, x, q16, out);
            });
        } else {
            // Each tile packs x once more where that is not done before: the fewer the better.
            let wide = match packed {
                Some(_) => TILE,
                None => share(part.rows, (TILE_VALUES / k).max(TILE), 16),
            };
            let blocks = Blocks {
                stride: n,
                first,
                n: part.rows,
                wide,
            };
            each_columns(out, blocks, |at, mut out| match &packed {
                Some(x) => few_rows(part, at, x, &mut out),
                None => {
                    let mut w = vec![0.0; out.len * k];
                    decode(part.ty, part.blocks(at, out.len), &mut w);
                    out.gemm(Output::Set, Mat::dense(x, k), Mat::dense(&w, k).t());
                }
            });
        }
        first += part.rows;
    }
    if let Some(bias) = bias {
        for out in out.chunks_exact_mut(n) {
            out.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
        }
    }
}

/// Rows `first_row ..` of the part times one row of x.
pub(super) fn matvec(
    part: PartRows<'_>,
    first_row: usize,
    x: &[f32],
    q16: Option<&Q16Row>,
    out: &mut [f32],
) {
    let bytes = part.blocks(first_row, out.len());
    match q16 {
        Some(q16) => q16::matvec(part.ty, bytes, q16, out),
        None if float_rows::matvec(part.ty, bytes, x, out) => {}
        None => {
            let mut row = vec![0.0; x.len()];
            for (bytes, out) in bytes.chunks_exact(part.row_bytes()).zip(out) {
                decode(part.ty, bytes, &mut row);
                *out = dot_f32(&row, x);
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b)
}

/// Most columns of the weight that one thread takes, and rows that it decodes at a time.
const GRAD_TILE: [usize; 2] = [384, 256];

/// `dx = dy · W`: dy is `[T, n]`, W is the stack of `parts`, `[n, k]`, dx is `[T, k]`.
pub fn linear_grad(parts: &[CpuPart], dy: Mat<'_>, k: usize, dx: &mut [f32]) {
    let parts: Vec<_> = parts.iter().map(CpuPart::all).collect();
    linear_grad_of(&parts, dy, k, dx);
}

/// [`linear_grad`] of some rows of a matrix.
pub(super) fn linear_grad_of(parts: &[PartRows<'_>], dy: Mat<'_>, k: usize, dx: &mut [f32]) {
    let block = parts.iter().map(|p| p.ty.block_len()).max().unwrap_or(1);
    let wide = share(k, GRAD_TILE[0], block.max(32)).min(k);
    let blocks = Blocks {
        stride: k,
        first: 0,
        n: k,
        wide,
    };
    each_columns(dx, blocks, |from, mut dx| {
        let len = dx.len;
        let mut w = vec![0.0; GRAD_TILE[1] * len];
        let (mut first, mut how) = (0, Output::Set);
        for part in parts {
            let row_bytes = part.row_bytes();
            let bytes_of = |values: usize| row_bytes * values / k;
            for at in (0..part.rows).step_by(GRAD_TILE[1]) {
                let n = GRAD_TILE[1].min(part.rows - at);
                let w = &mut w[..n * len];
                for (r, w) in w.chunks_exact_mut(len).enumerate() {
                    let row = part.blocks(at + r, 1);
                    decode(part.ty, &row[bytes_of(from)..bytes_of(from + len)], w);
                }
                dx.gemm(how, dy.cols(first + at, n), Mat::dense(w, len));
                how = Output::Add;
            }
            first += part.rows;
        }
    });
}
