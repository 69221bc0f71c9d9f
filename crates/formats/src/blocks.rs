//! The block formats. Every format of integers is seen in one way: runs of 32 signed 8-bit integers
//! `q`, with a scale `d` and an offset `m` for each half of 16, where `value = d · q + m`.
//! Decoding, the CPU's integer dot products and the GPU's repacking all stand on this view.
//!
//! Layouts: ggml's `ggml-common.h` and the reference decoder `gguf/quants.py`. The order of the
//! f32 operations is the reference's, so decoded values are bit-exact.

use crate::TensorType::{self, BF16, F16, F32, NF4};
use crate::nf4;

/// Length of the run in which all formats of integers are seen.
pub const BLOCK_32: usize = 32;

/// 32 weights as integers with a scale and an offset per half: `value[i] = d[i/16] · q[i] + m[i/16]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block32 {
    pub q: [i8; 32],
    pub d: [f32; 2],
    pub m: [f32; 2],
}

/// One storage format of integers.
pub trait Format {
    /// Weights in a storage block: 32 or 256.
    const LEN: usize;
    /// Bytes of a storage block.
    const BYTES: usize;
    /// The `run`-th run of 32 weights (`0..LEN / 32`) of one storage block of `BYTES` bytes.
    fn unpack(block: &[u8], run: usize) -> Block32;
}

/// Runs `$body` with `$F` bound to the [`Format`] of a type of integers, or `$plain` for the others.
#[macro_export]
macro_rules! with_format {
    ($ty:expr, $F:ident => $body:expr, $plain:expr) => {
        match $ty {
            $crate::TensorType::Q4_0 => {
                type $F = $crate::formats::Q4_0;
                $body
            }
            $crate::TensorType::Q4_1 => {
                type $F = $crate::formats::Q4_1;
                $body
            }
            $crate::TensorType::Q5_0 => {
                type $F = $crate::formats::Q5_0;
                $body
            }
            $crate::TensorType::Q5_1 => {
                type $F = $crate::formats::Q5_1;
                $body
            }
            $crate::TensorType::Q8_0 => {
                type $F = $crate::formats::Q8_0;
                $body
            }
            $crate::TensorType::Q2_K => {
                type $F = $crate::formats::Q2_K;
                $body
            }
            $crate::TensorType::Q3_K => {
                type $F = $crate::formats::Q3_K;
                $body
            }
            $crate::TensorType::Q4_K => {
                type $F = $crate::formats::Q4_K;
                $body
            }
            $crate::TensorType::Q5_K => {
                type $F = $crate::formats::Q5_K;
                $body
            }
            $crate::TensorType::Q6_K => {
                type $F = $crate::formats::Q6_K;
                $body
            }
            $crate::TensorType::IQ4_NL => {
                type $F = $crate::formats::IQ4_NL;
                $body
            }
            $crate::TensorType::MXFP4 => {
                type $F = $crate::formats::MXFP4;
                $body
            }
            $crate::TensorType::F32
            | $crate::TensorType::F16
            | $crate::TensorType::BF16
            | $crate::TensorType::NF4 => $plain,
        }
    };
}

/// f16 bits to f32, exact for every finite value; written so that a loop over it vectorises.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = (u32::from(bits) & 0x8000) << 16;
    let rest = u32::from(bits) & 0x7fff;
    if rest >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | ((rest & 0x3ff) << 13));
    }
    // Reading the shifted bits as an f32 is short of 2^112 in the exponent; the product is exact,
    // and turns f16 subnormals into f32 normals.
    let magnitude = f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(sign | magnitude.to_bits())
}

/// A scale: [`f16_to_f32`] in fewer instructions and without a branch, but that what is no number becomes infinite.
#[inline(always)]
fn f16_at(block: &[u8], at: usize) -> f32 {
    const UP: f32 = f32::from_bits((127 + 112) << 23);
    const DOWN: f32 = f32::from_bits((127 - 112) << 23);
    let bits = i32::from(i16::from_le_bytes([block[at], block[at + 1]]));
    // The sign goes to its place, the rest as there.
    let shifted = f32::from_bits((bits << 13) as u32 & 0x8fff_e000);
    // By 2^112, on a way that only infinity does not come back from.
    shifted * UP * UP * DOWN
}

/// The quantised formats, one type each.
#[allow(non_camel_case_types, missing_debug_implementations)]
pub mod formats {
    use super::{Block32, Format, f16_at};

    /// The offset of formats without one: unlike +0.0, adding it changes no value's bits.
    const NO_MIN: f32 = -0.0;

    /// Nibbles of 16 bytes: the low ones first, then the high ones.
    #[inline(always)]
    fn nibbles(qs: &[u8], offset: i8) -> [i8; 32] {
        let mut q = [0i8; 32];
        let qs: &[u8; 16] = qs[..16].try_into().unwrap_or(&[0; 16]);
        for i in 0..16 {
            q[i] = (qs[i] & 0xf) as i8 - offset;
            q[i + 16] = (qs[i] >> 4) as i8 - offset;
        }
        q
    }

    /// Adds bit `i` of `high` as the fifth bit of `q[i]`.
    #[inline(always)]
    fn fifth_bits(q: &mut [i8; 32], high: &[u8]) {
        for (i, q) in q.iter_mut().enumerate() {
            *q += (((high[i / 8] >> (i % 8)) & 1) << 4) as i8;
        }
    }

    macro_rules! same {
        ($q:expr, $d:expr, $m:expr) => {
            Block32 {
                q: $q,
                d: [$d; 2],
                m: [$m; 2],
            }
        };
    }

    /// f16 scale; 16 bytes of nibbles; `d (q − 8)`.
    pub struct Q4_0;
    impl Format for Q4_0 {
        const LEN: usize = 32;
        const BYTES: usize = 18;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            same!(nibbles(&b[2..18], 8), f16_at(b, 0), NO_MIN)
        }
    }

    /// f16 scale and minimum; 16 bytes of nibbles; `d q + m`.
    pub struct Q4_1;
    impl Format for Q4_1 {
        const LEN: usize = 32;
        const BYTES: usize = 20;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            same!(nibbles(&b[4..20], 0), f16_at(b, 0), f16_at(b, 2))
        }
    }

    /// f16 scale; 32 high bits; 16 bytes of nibbles; `d (q − 16)`.
    pub struct Q5_0;
    impl Format for Q5_0 {
        const LEN: usize = 32;
        const BYTES: usize = 22;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            let mut q = nibbles(&b[6..22], 16);
            fifth_bits(&mut q, &b[2..6]);
            same!(q, f16_at(b, 0), NO_MIN)
        }
    }

    /// f16 scale and minimum; 32 high bits; 16 bytes of nibbles; `d q + m`.
    pub struct Q5_1;
    impl Format for Q5_1 {
        const LEN: usize = 32;
        const BYTES: usize = 24;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            let mut q = nibbles(&b[8..24], 0);
            fifth_bits(&mut q, &b[4..8]);
            same!(q, f16_at(b, 0), f16_at(b, 2))
        }
    }

    /// f16 scale; 32 signed bytes; `d q`.
    pub struct Q8_0;
    impl Format for Q8_0 {
        const LEN: usize = 32;
        const BYTES: usize = 34;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            let mut q = [0i8; 32];
            for (q, b) in q.iter_mut().zip(&b[2..34]) {
                *q = *b as i8;
            }
            same!(q, f16_at(b, 0), NO_MIN)
        }
    }

    /// Values of the nibbles of 16 bytes: of the low ones first, then of the high ones.
    #[inline(always)]
    fn looked_up(qs: &[u8], values: &[i8; 16]) -> [i8; 32] {
        nibbles(qs, 0).map(|code| values[code as usize & 0xf])
    }

    /// f16 scale; 16 bytes of codes; `d values[code]`.
    pub struct IQ4_NL;
    impl Format for IQ4_NL {
        const LEN: usize = 32;
        const BYTES: usize = 18;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            const VALUES: [i8; 16] = [
                -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
            ];
            same!(looked_up(&b[2..18], &VALUES), f16_at(b, 0), NO_MIN)
        }
    }

    /// 8-bit exponent; 16 bytes of 4-bit floats (E2M1), here doubled: `2^(e − 128) values[code]`
    /// (Open Compute Project, "OCP Microscaling Formats (MX) Specification").
    pub struct MXFP4;
    impl Format for MXFP4 {
        const LEN: usize = 32;
        const BYTES: usize = 17;
        #[inline(always)]
        fn unpack(b: &[u8], _: usize) -> Block32 {
            const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
            // The two smallest are subnormal.
            let scale = match b[0] {
                e @ 0..2 => 0x0020_0000 << e,
                e => u32::from(e - 1) << 23,
            };
            same!(looked_up(&b[1..17], &VALUES), f32::from_bits(scale), NO_MIN)
        }
    }

    /// 16 bytes of 4-bit scale and minimum; 64 bytes of 2-bit values; f16 `d`, `dmin`.
    pub struct Q2_K;
    impl Format for Q2_K {
        const LEN: usize = 256;
        const BYTES: usize = 84;
        #[inline(always)]
        fn unpack(b: &[u8], run: usize) -> Block32 {
            let (d, dmin) = (f16_at(b, 80), f16_at(b, 82));
            let qs = &b[16 + (run / 4) * 32..][..32];
            let shift = 2 * (run % 4);
            let mut q = [0i8; 32];
            for (q, b) in q.iter_mut().zip(qs) {
                *q = ((b >> shift) & 3) as i8;
            }
            let scale = [b[run * 2], b[run * 2 + 1]];
            Block32 {
                q,
                d: scale.map(|s| d * f32::from(s & 0xf)),
                m: scale.map(|s| -(dmin * f32::from(s >> 4))),
            }
        }
    }

    /// 32 bytes of high bits; 64 bytes of 2-bit values; 12 bytes of 6-bit scales; f16 `d`.
    pub struct Q3_K;
    impl Q3_K {
        /// The 16 signed scales.
        #[inline(always)]
        pub fn scale(b: &[u8], i: usize) -> i8 {
            let s = &b[96..108];
            let low = if i < 8 { s[i] & 0xf } else { s[i - 8] >> 4 };
            let high = (s[8 + i % 4] >> (2 * (i / 4))) & 3;
            (low | (high << 4)) as i8 - 32
        }
    }
    impl Format for Q3_K {
        const LEN: usize = 256;
        const BYTES: usize = 110;
        #[inline(always)]
        fn unpack(b: &[u8], run: usize) -> Block32 {
            let d = f16_at(b, 108);
            let qs = &b[32 + (run / 4) * 32..][..32];
            let shift = 2 * (run % 4);
            let mut q = [0i8; 32];
            for (l, q) in q.iter_mut().enumerate() {
                let high = (b[l] >> run) & 1;
                *q = ((qs[l] >> shift) & 3) as i8 - 4 * (1 - high as i8);
            }
            let scale = |h| d * f32::from(Self::scale(b, run * 2 + h));
            Block32 {
                q,
                d: [scale(0), scale(1)],
                m: [NO_MIN; 2],
            }
        }
    }

    /// The eight 6-bit scales and minima of Q4_K and Q5_K, packed into 12 bytes.
    #[inline(always)]
    pub fn k_scale_min(s: &[u8], run: usize) -> (u8, u8) {
        if run < 4 {
            (s[run] & 63, s[run + 4] & 63)
        } else {
            (
                (s[run + 4] & 0xf) | ((s[run - 4] >> 6) << 4),
                (s[run + 4] >> 4) | ((s[run] >> 6) << 4),
            )
        }
    }

    /// Nibbles of a K block: runs 2i and 2i + 1 are the low and high nibbles of the same 32 bytes.
    #[inline(always)]
    fn k_nibbles(qs: &[u8], run: usize) -> [i8; 32] {
        let qs = &qs[(run / 2) * 32..][..32];
        let shift = 4 * (run % 2);
        let mut q = [0i8; 32];
        for (q, b) in q.iter_mut().zip(qs) {
            *q = ((b >> shift) & 0xf) as i8;
        }
        q
    }

    /// f16 `d`, `dmin`; 12 bytes of 6-bit scales and minima; 128 bytes of nibbles.
    pub struct Q4_K;
    impl Format for Q4_K {
        const LEN: usize = 256;
        const BYTES: usize = 144;
        #[inline(always)]
        fn unpack(b: &[u8], run: usize) -> Block32 {
            let (scale, min) = k_scale_min(&b[4..16], run);
            let d = f16_at(b, 0) * f32::from(scale);
            let m = -(f16_at(b, 2) * f32::from(min));
            same!(k_nibbles(&b[16..144], run), d, m)
        }
    }

    /// As Q4_K, with 32 bytes of fifth bits before the nibbles.
    pub struct Q5_K;
    impl Format for Q5_K {
        const LEN: usize = 256;
        const BYTES: usize = 176;
        #[inline(always)]
        fn unpack(b: &[u8], run: usize) -> Block32 {
            let (scale, min) = k_scale_min(&b[4..16], run);
            let d = f16_at(b, 0) * f32::from(scale);
            let m = -(f16_at(b, 2) * f32::from(min));
            let mut q = k_nibbles(&b[48..176], run);
            for (q, high) in q.iter_mut().zip(&b[16..48]) {
                *q += (((high >> run) & 1) << 4) as i8;
            }
            same!(q, d, m)
        }
    }

    /// 128 bytes of nibbles; 64 bytes of 2 high bits; 16 signed scales; f16 `d`; `d s (q − 32)`.
    pub struct Q6_K;
    impl Format for Q6_K {
        const LEN: usize = 256;
        const BYTES: usize = 210;
        #[inline(always)]
        fn unpack(b: &[u8], run: usize) -> Block32 {
            let d = f16_at(b, 208);
            let (half, j) = (run / 4, run % 4);
            let low = &b[half * 64 + (j % 2) * 32..][..32];
            let high = &b[128 + half * 32..][..32];
            let (low_shift, high_shift) = (4 * (j / 2), 2 * j);
            let mut q = [0i8; 32];
            for (l, q) in q.iter_mut().enumerate() {
                let bits = ((low[l] >> low_shift) & 0xf) | (((high[l] >> high_shift) & 3) << 4);
                *q = bits as i8 - 32;
            }
            let scale = |h| d * f32::from(b[192 + run * 2 + h] as i8);
            Block32 {
                q,
                d: [scale(0), scale(1)],
                m: [NO_MIN; 2],
            }
        }
    }
}

/// Decodes whole blocks of `ty` to f32.
///
/// # Panics
/// If `bytes` does not hold exactly `out.len()` weights; callers check sizes when they open a file.
pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        ty.bytes_of(out.len()),
        Some(bytes.len()),
        "size of {ty} data"
    );
    fn integers<F: Format>(bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes
            .chunks_exact(F::BYTES)
            .zip(out.chunks_exact_mut(F::LEN));
        for (block, out) in blocks {
            for (run, out) in out.chunks_exact_mut(BLOCK_32).enumerate() {
                let Block32 { q, d, m } = F::unpack(block, run);
                for (i, (out, q)) in out.iter_mut().zip(q).enumerate() {
                    *out = d[i / 16] * f32::from(q) + m[i / 16];
                }
            }
        }
    }
    let pairs = bytes.as_chunks::<2>().0;
    match ty {
        F32 => out
            .iter_mut()
            .zip(bytes.as_chunks::<4>().0)
            .for_each(|(o, b)| *o = f32::from_le_bytes(*b)),
        F16 => out
            .iter_mut()
            .zip(pairs)
            .for_each(|(o, b)| *o = f16_to_f32(u16::from_le_bytes(*b))),
        BF16 => out
            .iter_mut()
            .zip(pairs)
            .for_each(|(o, b)| *o = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
        NF4 => nf4::decode(bytes, out),
        _ => with_format!(ty, F => integers::<F>(bytes, out), ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_becomes_what_it_is() {
        for bits in 0..=u16::MAX {
            let wanted = half::f16::from_bits(bits).to_f32();
            let (found, scale) = (f16_to_f32(bits), f16_at(&bits.to_le_bytes(), 0));
            if wanted.is_nan() {
                assert!(found.is_nan() && scale.is_infinite(), "{bits:04x}");
            } else {
                let same = [found, scale].map(|v| v.to_bits() == wanted.to_bits());
                assert_eq!(same, [true; 2], "{bits:04x}: {found} {scale} {wanted}");
            }
        }
    }
}
