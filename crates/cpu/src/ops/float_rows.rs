//! Products of rows of plain values with one row of x, without decoding the rows first.

use multiversion::{multiversion, target::match_target};
use siskin_formats::{TensorType, decode};

use crate::vector::Vector;

/// Rows whose products are under way at a time: each waits for its own sums only.
const ROWS: usize = 4;

/// A type of plain values.
trait Float {
    const TYPE: TensorType;
    type Bytes: Copy;

    /// # Safety
    /// `V::LANES` of them must be readable there, and the processor must have the instructions of `V`.
    unsafe fn load<V: Vector>(at: *const Self::Bytes) -> V;
}

struct F32;
impl Float for F32 {
    const TYPE: TensorType = TensorType::F32;
    type Bytes = [u8; 4];

    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const [u8; 4]) -> V {
        // SAFETY: as the trait says; so are those below.
        unsafe { V::load(at.cast()) }
    }
}

struct F16;
impl Float for F16 {
    const TYPE: TensorType = TensorType::F16;
    type Bytes = [u8; 2];

    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const [u8; 2]) -> V {
        // SAFETY: see above.
        unsafe { V::load_f16(at) }
    }
}

struct BF16;
impl Float for BF16 {
    const TYPE: TensorType = TensorType::BF16;
    type Bytes = [u8; 2];

    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const [u8; 2]) -> V {
        // SAFETY: see above.
        unsafe { V::load_bf16(at) }
    }
}

/// `out[r] = row r · x`, for rows of a type of plain values; whether it is one.
pub(super) fn matvec(ty: TensorType, rows: &[u8], x: &[f32], out: &mut [f32]) -> bool {
    match ty {
        TensorType::F32 => matvec_as::<F32>(rows, x, out),
        TensorType::F16 => matvec_as::<F16>(rows, x, out),
        TensorType::BF16 => matvec_as::<BF16>(rows, x, out),
        _ => return false,
    }
    true
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx2+fma+f16c",
    "x86_64+avx2+fma+f16c"
))]
fn matvec_as<F: Float>(rows: &[u8], x: &[f32], out: &mut [f32]) {
    // SAFETY: these versions run where the processor has the vector's instructions.
    unsafe {
        match_target! {
            "x86_64+avx512f+avx512bw" => matvec_with::<F, core::arch::x86_64::__m512>(rows, x, out),
            "x86_64+avx2+fma+f16c" => matvec_with::<F, core::arch::x86_64::__m256>(rows, x, out),
            _ => matvec_with::<F, crate::vector::Plain>(rows, x, out),
        }
    }
}

/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
unsafe fn matvec_with<F: Float, V: Vector>(rows: &[u8], x: &[f32], out: &mut [f32]) {
    let row_bytes = x.len() * size_of::<F::Bytes>();
    let whole = x.len() / (2 * V::LANES) * 2 * V::LANES;
    let last = out.len().saturating_sub(1);
    let mut rest = [0.0; 32];
    for (i, out) in out.chunks_mut(ROWS).enumerate() {
        // Beyond the last row, that one once more.
        let row = |r: usize| &rows[(i * ROWS + r).min(last) * row_bytes..][..row_bytes];
        let rows: [&[u8]; ROWS] = std::array::from_fn(row);
        // SAFETY: the loads end before `whole`, in x and in the rows, which are as long.
        let mut sums = unsafe {
            let mut sums = [[V::zero(); 2]; ROWS];
            for at in (0..whole).step_by(2 * V::LANES) {
                for half in 0..2 {
                    let at = at + half * V::LANES;
                    let x = V::load(x.as_ptr().add(at));
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        let w = F::load(row.as_ptr().cast::<F::Bytes>().add(at));
                        sums[half] = sums[half].add_product(w, x);
                    }
                }
            }
            sums.map(|[a, b]| a.sum() + b.sum())
        };
        let (x, from) = (&x[whole..], whole * size_of::<F::Bytes>());
        if !x.is_empty() {
            for (sum, row) in sums.iter_mut().zip(rows) {
                let rest = &mut rest[..x.len()];
                decode(F::TYPE, &row[from..], rest);
                *sum += rest.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siskin_formats::encode;

    #[test]
    fn products_equal_those_of_the_decoded_values() {
        for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
            for (k, n) in [(1, 1), (31, 5), (64, 4), (200, 6)] {
                let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 64.0;
                let w: Vec<f32> = (0..n * k).map(value).collect();
                let x: Vec<f32> = (0..k).map(|i| value(3 * i + 1)).collect();
                let mut out = vec![0.0; n];
                assert!(matvec(ty, &encode(ty, &w).unwrap(), &x, &mut out));
                for (w, out) in w.chunks_exact(k).zip(out) {
                    let exact: f64 = w.iter().zip(&x).map(|(a, b)| f64::from(a * b)).sum();
                    assert!((exact - f64::from(out)).abs() < 1e-5, "{ty}: {exact} {out}");
                }
            }
        }
        assert!(!matvec(TensorType::Q8_0, &[], &[], &mut []));
    }
}
