//! Formats in blocks of 256, whose scales are quantised, too.

use super::{NO_MIN, bytes, f16_at, same};
use crate::blocks::{Block32, Format};
use crate::isa::Isa;

/// 16 bytes of 4-bit scale and minimum; 64 bytes of 2-bit values; f16 `d`, `dmin`.
pub struct Q2_K;
impl Format for Q2_K {
    const GGML: Option<u32> = Some(10);
    const LEN: usize = 256;
    const BYTES: usize = 84;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = true;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let (d, dmin) = (f16_at(isa, b, 80), f16_at(isa, b, 82));
        let qs = isa.load(bytes(b, 16 + (run / 4) * 32));
        let q = isa.field(qs, 2 * (run % 4), 3);
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
    const GGML: Option<u32> = Some(11);
    const LEN: usize = 256;
    const BYTES: usize = 110;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let d = f16_at(isa, b, 108);
        let high = isa.field(isa.load(bytes(b, 0)), run, 1);
        let low = isa.load(bytes(b, 32 + (run / 4) * 32));
        let low = isa.field(low, 2 * (run % 4), 3);
        let q = isa.less(isa.join(low, high, 2), 4);
        let scale = |h| d * f32::from(Self::scale(b, run * 2 + h));
        Block32 {
            q,
            d: [scale(0), scale(1)],
            m: [NO_MIN; 2],
        }
    }
}

/// The 6-bit scale and minimum of the `run`-th of eight runs of a [`Q4_K`] or [`Q5_K`] block, which are packed into 12
/// bytes.
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
fn k_nibbles<I: Isa>(isa: I, qs: &[u8], run: usize) -> I::Bytes {
    let both = isa.load(bytes(qs, (run / 2) * 32));
    isa.field(both, 4 * (run % 2), 0xf)
}

/// f16 `d`, `dmin`; 12 bytes of 6-bit scales and minima; 128 bytes of nibbles.
pub struct Q4_K;
impl Format for Q4_K {
    const GGML: Option<u32> = Some(12);
    const LEN: usize = 256;
    const BYTES: usize = 144;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = true;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let (scale, min) = k_scale_min(&b[4..16], run);
        let d = f16_at(isa, b, 0) * f32::from(scale);
        let m = -(f16_at(isa, b, 2) * f32::from(min));
        same!(k_nibbles(isa, &b[16..144], run), d, m)
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the nibbles.
pub struct Q5_K;
impl Format for Q5_K {
    const GGML: Option<u32> = Some(13);
    const LEN: usize = 256;
    const BYTES: usize = 176;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = true;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let (scale, min) = k_scale_min(&b[4..16], run);
        let d = f16_at(isa, b, 0) * f32::from(scale);
        let m = -(f16_at(isa, b, 2) * f32::from(min));
        let high = isa.field(isa.load(bytes(b, 16)), run, 1);
        let q = isa.join(k_nibbles(isa, &b[48..176], run), high, 4);
        same!(q, d, m)
    }
}

/// 128 bytes of nibbles; 64 bytes of 2 high bits; 16 signed scales; f16 `d`; `d s (q − 32)`.
pub struct Q6_K;
impl Format for Q6_K {
    const GGML: Option<u32> = Some(14);
    const LEN: usize = 256;
    const BYTES: usize = 210;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let d = f16_at(isa, b, 208);
        let (half, j) = (run / 4, run % 4);
        let low = isa.load(bytes(b, half * 64 + (j % 2) * 32));
        let high = isa.load(bytes(b, 128 + half * 32));
        let low = isa.field(low, 4 * (j / 2), 0xf);
        let q = isa.less(isa.join(low, isa.field(high, 2 * j, 3), 4), 32);
        let scale = |h| d * f32::from(b[192 + run * 2 + h] as i8);
        Block32 {
            q,
            d: [scale(0), scale(1)],
            m: [NO_MIN; 2],
        }
    }
}
