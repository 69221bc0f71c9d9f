//! Low-rank adapters, forward and backward. Shapes: x `[T, k]`, u `[T, spans · rank]`, y `[T, n]`;
//! A `[spans · rank, k]`, B `[Σ len, rank]`, both among the flat parameters.

use siskin_graph::Lora;

use super::gemm::{Mat, Output, gemm};
use crate::threads::each_chunk;

/// Tokens, or rows of a gradient, that one thread takes at a time.
const ROWS: usize = 32;

/// `u = x Aᵀ`.
pub fn lora_down(lora: &Lora, params: &[f32], x: Mat<'_>, u: &mut [f32]) {
    let (n, k) = (lora.inner(), lora.k);
    let a = Mat::dense(&params[lora.a..][..lora.a_len()], k);
    each_chunk(u, ROWS * n, |i, u| {
        let x = x.rows(i * ROWS, u.len() / n);
        gemm(u, n, Output::Set, 1.0, x, a.t());
    });
}

/// `y += scale · u Bᵀ`, span by span; y has `n` columns.
pub fn lora_up(lora: &Lora, params: &[f32], u: Mat<'_>, n: usize, y: &mut [f32]) {
    let r = lora.rank;
    each_chunk(y, ROWS * n, |i, y| {
        let rows = y.len() / n;
        for (s, (span, _, b)) in lora.parts().enumerate() {
            let b = Mat::dense(&params[b..][..span.len * r], r);
            let u = u.rows(i * ROWS, rows).cols(s * r, r);
            // The columns after the span in the last row are not there to be skipped.
            gemm(&mut y[span.start..], n, Output::Add, lora.scale, u, b.t());
        }
    });
}

/// `du = scale · dy B`, span by span.
pub fn lora_up_grad(lora: &Lora, params: &[f32], dy: Mat<'_>, du: &mut [f32]) {
    let (r, n) = (lora.rank, lora.inner());
    each_chunk(du, ROWS * n, |i, du| {
        let rows = du.len() / n;
        for (s, (span, _, b)) in lora.parts().enumerate() {
            let b = Mat::dense(&params[b..][..span.len * r], r);
            let dy = dy.rows(i * ROWS, rows).cols(span.start, span.len);
            gemm(&mut du[s * r..], n, Output::Set, lora.scale, dy, b);
        }
    });
}

/// `dx = du A`.
pub fn lora_down_grad(lora: &Lora, params: &[f32], du: Mat<'_>, dx: &mut [f32]) {
    let k = lora.k;
    let a = Mat::dense(&params[lora.a..][..lora.a_len()], k);
    each_chunk(dx, ROWS * k, |i, dx| {
        let du = du.rows(i * ROWS, dx.len() / k);
        gemm(dx, k, Output::Set, 1.0, du, a);
    });
}

/// `dA += duᵀ x`; `grads` are those of all parameters.
pub fn lora_grad_a(lora: &Lora, x: Mat<'_>, du: Mat<'_>, grads: &mut [f32]) {
    let k = lora.k;
    each_chunk(
        &mut grads[lora.a..][..lora.a_len()],
        ROWS / 4 * k,
        |i, da| {
            let du = du.t().rows(i * ROWS / 4, da.len() / k);
            gemm(da, k, Output::Add, 1.0, du, x);
        },
    );
}

/// `dB += scale · dyᵀ u`, span by span.
pub fn lora_grad_b(lora: &Lora, u: Mat<'_>, dy: Mat<'_>, grads: &mut [f32]) {
    let r = lora.rank;
    for (s, (span, _, b)) in lora.parts().enumerate() {
        let (u, dy) = (u.cols(s * r, r), dy.cols(span.start, span.len));
        each_chunk(&mut grads[b..][..span.len * r], ROWS * r, |i, db| {
            let dy = dy.t().rows(i * ROWS, db.len() / r);
            gemm(db, r, Output::Add, lora.scale, dy, u);
        });
    }
}
