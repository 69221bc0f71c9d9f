//! Formats in blocks of 32. Those with an encoder have that of ggml's reference (`ggml-quants.c`,
//! `quantize_row_*_ref`).

use half::f16;

use super::{NO_MIN, bytes, f16_at, same};
use crate::blocks::{Block32, Encode, Format, f16_to_f32};
use crate::isa::Isa;

/// The nibbles of 16 bytes from `at` on, and of the word before these a fifth bit of each.
#[inline(always)]
fn five_bits<I: Isa>(isa: I, b: &[u8], at: usize) -> I::Bytes {
    let high = isa.bits(u32::from_le_bytes(*bytes(b, at - 4)));
    isa.join(isa.nibbles(bytes(b, at)), high, 4)
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// f16 scale; 16 bytes of nibbles; `d (q − 8)`.
pub struct Q4_0;
impl Format for Q4_0 {
    const GGML: Option<u32> = Some(2);
    const LEN: usize = 32;
    const BYTES: usize = 18;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    const ENCODE: Option<Encode> =
        Some(|values, out| values.chunks_exact(32).for_each(|x| q4_0(x, out)));
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let q = isa.less(isa.nibbles(bytes(b, 2)), 8);
        same!(q, f16_at(isa, b, 0), NO_MIN)
    }
}

fn q4_0(x: &[f32], out: &mut Vec<u8>) {
    // The value of greatest magnitude, with its sign, becomes −8.
    let peak = x
        .iter()
        .fold(0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    let d = peak / -8.0;
    let id = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    let q = |v: f32| (v * id + 8.5).clamp(0.0, 15.0) as u8;
    out.extend((0..16).map(|i| q(x[i]) | (q(x[i + 16]) << 4)));
}

/// f16 scale and minimum; 16 bytes of nibbles; `d q + m`.
pub struct Q4_1;
impl Format for Q4_1 {
    const GGML: Option<u32> = Some(3);
    const LEN: usize = 32;
    const BYTES: usize = 20;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = true;
    const ENCODE: Option<Encode> =
        Some(|values, out| values.chunks_exact(32).for_each(|x| q4_1(x, out)));
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let q = isa.nibbles(bytes(b, 4));
        same!(q, f16_at(isa, b, 0), f16_at(isa, b, 2))
    }
}

fn q4_1(x: &[f32], out: &mut Vec<u8>) {
    let min = x.iter().copied().fold(f32::INFINITY, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (max - min) / 15.0;
    let id = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(f16::from_f32(min).to_le_bytes());
    let q = |v: f32| ((v - min) * id + 0.5).clamp(0.0, 15.0) as u8;
    out.extend((0..16).map(|i| q(x[i]) | (q(x[i + 16]) << 4)));
}

/// f16 scale; 32 high bits; 16 bytes of nibbles; `d (q − 16)`.
pub struct Q5_0;
impl Format for Q5_0 {
    const GGML: Option<u32> = Some(6);
    const LEN: usize = 32;
    const BYTES: usize = 22;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let q = isa.less(five_bits(isa, b, 6), 16);
        same!(q, f16_at(isa, b, 0), NO_MIN)
    }
}

/// f16 scale and minimum; 32 high bits; 16 bytes of nibbles; `d q + m`.
pub struct Q5_1;
impl Format for Q5_1 {
    const GGML: Option<u32> = Some(7);
    const LEN: usize = 32;
    const BYTES: usize = 24;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = true;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        same!(five_bits(isa, b, 8), f16_at(isa, b, 0), f16_at(isa, b, 2))
    }
}

/// f16 scale; 32 signed bytes; `d q`.
pub struct Q8_0;
impl Format for Q8_0 {
    const GGML: Option<u32> = Some(8);
    const LEN: usize = 32;
    const BYTES: usize = 34;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    const ENCODE: Option<Encode> =
        Some(|values, out| values.chunks_exact(32).for_each(|x| q8_0(x, out)));
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        same!(isa.load(bytes(b, 2)), f16_at(isa, b, 0), NO_MIN)
    }
}

fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let peak = x.iter().fold(0f32, |a, b| a.max(b.abs()));
    let d = peak / 127.0;
    let id = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(x.iter().map(|v| (v * id).round() as i8 as u8));
}

/// What the codes of IQ4_NL and IQ4_XS stand for.
pub(crate) const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the 4-bit floats (E2M1) that the codes of MXFP4 and NVFP4 stand for.
const FP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// f16 scale; 16 bytes of codes; `d values[code]`.
pub struct IQ4_NL;
impl Format for IQ4_NL {
    const GGML: Option<u32> = Some(20);
    const LEN: usize = 32;
    const BYTES: usize = 18;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let q = isa.looked_up(isa.nibbles(bytes(b, 2)), &IQ4_VALUES);
        same!(q, f16_at(isa, b, 0), NO_MIN)
    }
}

/// 8-bit exponent; 16 bytes of 4-bit floats (E2M1), here doubled: `2^(e − 128) values[code]`
/// (Open Compute Project, "OCP Microscaling Formats (MX) Specification").
pub struct MXFP4;
impl Format for MXFP4 {
    const GGML: Option<u32> = Some(39);
    const LEN: usize = 32;
    const BYTES: usize = 17;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        // The two smallest are subnormal.
        let scale = match b[0] {
            e @ 0..2 => 0x0020_0000 << e,
            e => u32::from(e - 1) << 23,
        };
        same!(
            isa.looked_up(isa.nibbles(bytes(b, 1)), &FP4_VALUES),
            f32::from_bits(scale),
            NO_MIN
        )
    }
}

/// 4 scales that are 8-bit floats without a sign (E4M3), and for each 8 bytes of 4-bit floats (E2M1), here doubled:
/// `scale / 2 · values[code]`.
pub struct NVFP4;
impl NVFP4 {
    /// What a scale's byte stands for: its highest bit has no meaning, and what is not a number counts as 0.
    #[inline(always)]
    pub fn scale(byte: u8) -> f32 {
        if byte == 0x7f {
            return 0.0;
        }
        // The bits of an f16 whose exponent is 8 too small.
        f16_to_f32(u16::from(byte & 0x7f) << 7) * 256.0
    }
}
impl Format for NVFP4 {
    const GGML: Option<u32> = Some(40);
    const LEN: usize = 64;
    const BYTES: usize = 36;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        // Of each 8 bytes, the low nibbles and then the high ones.
        let all = isa.store(isa.nibbles(bytes(b, 4 + 16 * run)));
        let mut codes = [0; 32];
        for (to, from) in [(0, 0), (8, 16), (16, 8), (24, 24)] {
            for i in 0..8 {
                codes[to + i] = all[from + i] as u8;
            }
        }
        let q = isa.looked_up(isa.load(&codes), &FP4_VALUES);
        let scale = |half| Self::scale(b[2 * run + half]) * 0.5;
        Block32 {
            q,
            d: [scale(0), scale(1)],
            m: [NO_MIN; 2],
        }
    }
}
