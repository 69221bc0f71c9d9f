//! Products of decoded rows of a weight with a few rows of x.
//!
//! The `gemm` crate packs both factors first, for each tile of the weight, which for a few rows takes longer than the
//! product. Here x is packed once, a group of the weight's rows is decoded, and while it is in the nearest cache,
//! multiplied with all rows of x.
//!
//! With 16-bit integers, which one row of x has (`q16.rs`), a block of weights and one of x need four instructions (the
//! products, their conversion, the scale, the sum), and in f32 two: the more rows share an unpacked block, the more of
//! the time is these.

use multiversion::{multiversion, target::match_target};
use siskin_formats::decode;

use super::gemm::Columns;
use crate::vector::Vector;
use crate::weights::PartRows;

/// Rows of the weight that are decoded at a time: a multiple of what the registers take at a time.
const GROUP: usize = 6;
/// Rows of x that are multiplied at a time, at most.
const MOST: usize = 8;
/// Values of a row that are side by side in [`Packed`].
const RUN: usize = 16;

/// Rows of x in the order in which they are read: up to eight rows at a time, and of these, 16 values of each in turn.
pub(super) struct Packed {
    values: Aligned,
    rows: usize,
    cols: usize,
    /// Columns, rounded up to whole runs.
    k: usize,
}

/// Values that begin where a line of the cache does: a vector that lies in two is read twice.
struct Aligned {
    all: Vec<f32>,
    first: usize,
    len: usize,
}

impl Aligned {
    const LINE: usize = 64;

    fn zeros(len: usize) -> Self {
        let spare = Self::LINE / size_of::<f32>();
        let all = vec![0.0; len + spare];
        let first = all.as_ptr().align_offset(Self::LINE).min(spare);
        Self { all, first, len }
    }

    fn values(&self) -> &[f32] {
        &self.all[self.first..][..self.len]
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.first..][..self.len]
    }
}

impl Packed {
    pub fn new(x: &[f32], k: usize) -> Self {
        let (rows, whole) = (x.len() / k, k.next_multiple_of(RUN));
        let mut values = Aligned::zeros(rows * whole);
        let mut at = 0;
        let mut packed = values.values_mut().chunks_exact_mut(RUN);
        while at < rows {
            let n = together(rows - at);
            for from in (0..k).step_by(RUN) {
                for row in x[at * k..].chunks_exact(k).take(n) {
                    let run = &row[from..k.min(from + RUN)];
                    if let Some(packed) = packed.next() {
                        packed[..run.len()].copy_from_slice(run);
                    }
                }
            }
            at += n;
        }
        Self {
            values,
            rows,
            cols: k,
            k: whole,
        }
    }
}

/// How many of so many rows of x are multiplied at a time.
fn together(rows: usize) -> usize {
    match rows {
        0..3 => rows,
        3 => 2,
        4..MOST => 4,
        _ => MOST,
    }
}

/// `out = x · Wᵀ` for the rows of the part from `first` on, as many as `out` has columns.
pub(super) fn few_rows(part: PartRows<'_>, first: usize, x: &Packed, out: &mut Columns<'_>) {
    let mut w = Aligned::zeros(GROUP * x.k);
    let w = w.values_mut();
    for at in (0..out.len).step_by(GROUP) {
        let n = GROUP.min(out.len - at);
        let bytes = part.blocks(first + at, n);
        let rows = bytes.chunks_exact(part.row_bytes());
        for (bytes, w) in rows.zip(w.chunks_exact_mut(x.k)) {
            decode(part.ty, bytes, &mut w[..x.cols]);
        }
        products(w, x, |row, sums| {
            let out = out.row(row)[at..].iter_mut().zip(sums);
            out.for_each(|(out, sum)| *out = sum);
        });
    }
}

/// Calls `found` with each row of x and its products with the rows of `w`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn products(w: &[f32], x: &Packed, mut found: impl FnMut(usize, [f32; GROUP])) {
    let mut row = 0;
    while row < x.rows {
        let values = &x.values.values()[row * x.k..];
        let n = together(x.rows - row);
        let found = &mut |r, sums| found(row + r, sums);
        // SAFETY: these versions run where the processor has the vector's instructions.
        unsafe {
            match_target! {
                "x86_64+avx512f+avx512bw" => many::<core::arch::x86_64::__m512>(w, values, n, x.k, found),
                "x86_64+avx2+fma" => few::<core::arch::x86_64::__m256>(w, values, n, x.k, found),
                _ => few::<crate::vector::Plain>(w, values, n, x.k, found),
            }
        }
        row += n;
    }
}

/// `n` rows of x, with 32 registers.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn many<V: Vector>(
    w: &[f32],
    x: &[f32],
    n: usize,
    k: usize,
    found: &mut impl FnMut(usize, [f32; GROUP]),
) {
    // SAFETY: as the caller says.
    unsafe {
        match n {
            8 => some::<V, 8, 8, 3>(w, x, k, found),
            4 => some::<V, 4, 4, 6>(w, x, k, found),
            2 => some::<V, 2, 2, 6>(w, x, k, found),
            _ => some::<V, 1, 1, 6>(w, x, k, found),
        }
    }
}

/// `n` rows of x, with 16 registers.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn few<V: Vector>(
    w: &[f32],
    x: &[f32],
    n: usize,
    k: usize,
    found: &mut impl FnMut(usize, [f32; GROUP]),
) {
    // SAFETY: as the caller says.
    unsafe {
        match n {
            8 => some::<V, 8, 4, 3>(w, x, k, found),
            4 => some::<V, 4, 4, 3>(w, x, k, found),
            2 => some::<V, 2, 2, 3>(w, x, k, found),
            _ => some::<V, 1, 1, 6>(w, x, k, found),
        }
    }
}

/// `N` packed rows of x times the rows of `w`, `R` and `W` of them at a time: `R · W` sums are in registers.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn some<V: Vector, const N: usize, const R: usize, const W: usize>(
    w: &[f32],
    x: &[f32],
    k: usize,
    found: &mut impl FnMut(usize, [f32; GROUP]),
) {
    let mut out = [[0.0; GROUP]; N];
    let x = &x[..N * k];
    for first in (0..GROUP).step_by(W) {
        let w = &w[first * k..][..W * k];
        for row in (0..N).step_by(R) {
            // SAFETY: the loads lie within w's rows of `k` values and x's `k` values of N rows: k is a multiple of RUN,
            // and that one of the lanes.
            unsafe {
                let mut sums = [[V::zero(); W]; R];
                for run in (0..k).step_by(RUN) {
                    for lane in (0..RUN).step_by(V::LANES) {
                        let mut weights = [V::zero(); W];
                        for (i, weights) in weights.iter_mut().enumerate() {
                            *weights = V::load(w.as_ptr().add(i * k + run + lane));
                        }
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let at = run * N + (row + r) * RUN + lane;
                            let x = V::load(x.as_ptr().add(at));
                            for (sum, weights) in sums.iter_mut().zip(weights) {
                                *sum = sum.add_product(weights, x);
                            }
                        }
                    }
                }
                for r in 0..R {
                    for i in 0..W {
                        out[row + r][first + i] = sums[r][i].sum();
                    }
                }
            }
        }
    }
    for (r, sums) in out.into_iter().enumerate() {
        found(r, sums);
    }
}
