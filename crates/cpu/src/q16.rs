//! 16-bit activations and integer dot products with quantised weights. Processors multiply pairs of
//! 16-bit integers anyway, so the eight bits more than usual cost nothing, and the result is as good
//! as one in f32.

use multiversion::{multiversion, target::match_target};
use siskin_formats::{BLOCK_32, ForFormat, Format, TensorType, isa};

use crate::q16_dot::{self, Dot};

/// A row of activations as 16-bit integers: each block of 32 has the scale `max|x| / 32767`.
#[derive(Debug, Clone, Default)]
pub struct Q16Row {
    /// The integers.
    pub q: Vec<i16>,
    /// One scale for each block of 32.
    pub d: Vec<f32>,
    /// `d · Σ q` of each half of 16, which weights with offsets are multiplied by.
    pub sums: Vec<[f32; 2]>,
}

impl Q16Row {
    /// Rounds each value to the nearest of 65535 levels of its block.
    ///
    /// # Panics
    /// If the length of `x` is not a multiple of 32.
    pub fn quantise(x: &[f32]) -> Self {
        let mut row = Self {
            q: vec![0; x.len()],
            ..Self::default()
        };
        quantise(x, &mut row.q, &mut row.d, &mut row.sums);
        row
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn quantise(x: &[f32], q: &mut [i16], d: &mut Vec<f32>, sums: &mut Vec<[f32; 2]>) {
    for (x, q) in x
        .as_chunks::<BLOCK_32>()
        .0
        .iter()
        .zip(q.as_chunks_mut::<BLOCK_32>().0)
    {
        let peak = x.iter().fold(0f32, |a, b| a.max(b.abs()));
        let scale = peak / 32_767.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (q, x) in q.iter_mut().zip(x) {
            *q = (x * inverse).round_ties_even() as i16;
        }
        let sum = |half: &[i16]| scale * half.iter().map(|q| i32::from(*q)).sum::<i32>() as f32;
        d.push(scale);
        sums.push([sum(&q[..16]), sum(&q[16..])]);
    }
}

/// `out[r] = row r of w · x`, for rows stored in the quantised type `ty`.
pub(crate) fn matvec(ty: TensorType, rows: &[u8], x: &Q16Row, out: &mut [f32]) {
    let done = ty.with_format(Matvec { rows, x, out });
    assert!(done.is_some(), "{ty} is not a type of integers");
}

struct Matvec<'a> {
    rows: &'a [u8],
    x: &'a Q16Row,
    out: &'a mut [f32],
}

impl ForFormat for Matvec<'_> {
    type Out = ();
    #[inline]
    fn run<F: Format>(self) {
        matvec_as::<F>(self.rows, self.x, self.out);
    }
}

/// Rows whose products are under way at a time: each waits for its own sums only.
const ROWS: usize = 4;

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx2+fma+f16c",
    "x86_64+avx2+fma+f16c"
))]
fn matvec_as<F: Format>(rows: &[u8], x: &Q16Row, out: &mut [f32]) {
    match_target! {
        "x86_64+avx512f+avx512bw+avx2+fma+f16c" => {
            // SAFETY: this version runs where the processor has the instructions.
            let dot = unsafe { q16_dot::Avx512::new() };
            matvec_with::<F, _>(dot, rows, x, out);
        },
        "x86_64+avx2+fma+f16c" => {
            // SAFETY: see above.
            let dot = unsafe { isa::Avx2::new() };
            matvec_with::<F, _>(dot, rows, x, out);
        },
        _ => matvec_with::<F, _>(isa::Baseline::default(), rows, x, out),
    }
}

#[inline(always)]
fn matvec_with<F: Format, D: Dot>(dot: D, rows: &[u8], x: &Q16Row, out: &mut [f32]) {
    let runs = F::LEN / BLOCK_32;
    let row_bytes = x.q.len() / F::LEN * F::BYTES;
    let x_blocks = x.q.as_chunks::<BLOCK_32>().0;
    let last = out.len().saturating_sub(1);
    for (i, out) in out.chunks_mut(ROWS).enumerate() {
        // Beyond the last row, that one once more.
        let row = |r: usize| &rows[(i * ROWS + r).min(last) * row_bytes..][..row_bytes];
        let rows: [&[u8]; ROWS] = std::array::from_fn(row);
        let mut sums = [dot.zero(); ROWS];
        let mut offsets = [0f32; ROWS];
        let inputs = x_blocks.chunks_exact(runs).zip(x.d.chunks_exact(runs));
        for (at, ((xq, xd), x_sums)) in inputs.zip(x.sums.chunks_exact(runs)).enumerate() {
            for r in 0..ROWS {
                // SAFETY: a row has as many blocks as x.
                let block = unsafe { rows[r].get_unchecked(at * F::BYTES..(at + 1) * F::BYTES) };
                q16_dot::fetch(block, ROWS * row_bytes);
                for run in 0..runs {
                    let w = F::unpack(dot.isa(), block, run);
                    let input = (&xq[run], xd[run]);
                    sums[r] = if F::IS_UNIFORM {
                        dot.add::<true>(sums[r], &w, input)
                    } else {
                        dot.add::<false>(sums[r], &w, input)
                    };
                    if F::HAS_OFFSET {
                        offsets[r] += w.m[0] * x_sums[run][0] + w.m[1] * x_sums[run][1];
                    }
                }
            }
        }
        for ((out, sums), offset) in out.iter_mut().zip(sums).zip(offsets) {
            *out = dot.total(sums) + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siskin_formats::decode;

    /// A deterministic sequence in [0, 1).
    fn noise(seed: u32) -> impl Iterator<Item = f32> {
        let mut state = seed;
        std::iter::from_fn(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((state >> 8) as f32 / 16_777_216.0)
        })
    }

    #[test]
    fn integer_products_equal_those_of_the_decoded_values() {
        let k = 512;
        let x: Vec<f32> = noise(1).take(k).map(|v| v * 2.0 - 1.0).collect();
        let q16 = Q16Row::quantise(&x);
        let x_back: Vec<f32> = q16
            .q
            .iter()
            .enumerate()
            .map(|(i, q)| f32::from(*q) * q16.d[i / 32])
            .collect();
        for ((a, b), d) in x.iter().zip(&x_back).zip((0..k).map(|i| q16.d[i / 32])) {
            assert!((a - b).abs() <= 0.5001 * d, "{a} {b}");
        }
        for ty in TensorType::ALL.into_iter().filter(|t| t.is_integer()) {
            let n = 3 * ty.bytes_of(k).unwrap();
            let mut bytes: Vec<u8> = noise(ty.ggml().unwrap_or(99))
                .take(n)
                .map(|v| (v * 256.0) as u8)
                .collect();
            // Scales within limits, wherever they are: no exponent above 1.
            bytes.chunks_exact_mut(2).for_each(|b| b[1] &= 0xbb);
            let mut w = vec![0.0; 3 * k];
            decode(ty, &bytes, &mut w);
            let mut out = [0.0; 3];
            matvec(ty, &bytes, &q16, &mut out);
            for (w, out) in w.chunks_exact(k).zip(out) {
                let exact: f64 = w
                    .iter()
                    .zip(&x_back)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                let size: f64 = w
                    .iter()
                    .zip(&x_back)
                    .map(|(a, b)| f64::from((a * b).abs()))
                    .sum();
                assert!(
                    (exact - f64::from(out)).abs() <= 1e-5 * size + 1e-6,
                    "{ty}: {exact} {out}"
                );
            }
        }
    }
}
