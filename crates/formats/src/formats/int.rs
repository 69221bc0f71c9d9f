//! Integers with a scale and a zero point, as GPTQ, AWQ and compressed-tensors quantise: `scale (code − zero)`. GGUF has
//! no such type: Q4_0's and Q8_0's zero point is fixed, and Q4_1's minimum is an f16, which does not hold the product of
//! an f16 scale and a zero point.
//!
//! A block begins with a word: the zero point in its low bits, as many as a code has, and above them the upper bits of an
//! f32, the scale. These hold every f16 and bfloat16; an f32 is rounded, by at most 2^-20 of it for 4 bits, and 2^-16 for 8.
//!
//! torchao's 4-bit integers have an offset of any value instead, `scale code + offset`: a type of its own.

use super::{NO_MIN, bytes, f16_at, same};
use crate::blocks::{Block32, Format};
use crate::isa::Isa;

/// The word of a block whose codes have so many bits.
pub(crate) fn scale_and_zero(bits: u32, scale: f32, zero: u32) -> u32 {
    let low = (1 << bits) - 1;
    let scale = scale.to_bits();
    // To the nearest, and of two to the even one.
    let rounded = scale.saturating_add((low >> 1) + (scale >> bits & 1));
    (rounded & !low) | zero
}

fn parts(block: &[u8], bits: u32) -> (f32, u32) {
    let word = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    let low = (1 << bits) - 1;
    (f32::from_bits(word & !low), word & low)
}

/// A word of scale and zero point; 16 bytes of nibbles, those of weights i and i + 16 in byte i; `d (q − zero)`.
pub struct INT4;
impl Format for INT4 {
    const GGML: Option<u32> = None;
    const LEN: usize = 32;
    const BYTES: usize = 20;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let (d, zero) = parts(b, 4);
        let q = isa.less(isa.nibbles(bytes(b, 4)), zero as i8);
        same!(q, d, NO_MIN)
    }
}

/// f16 scale and offset; 16 bytes of nibbles, those of weights i and i + 16 in byte i, each 8 more than its code;
/// `d (q − 8) + m`.
pub struct INT4_1;
impl Format for INT4_1 {
    const GGML: Option<u32> = None;
    const LEN: usize = 32;
    const BYTES: usize = 20;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = true;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let q = isa.less(isa.nibbles(bytes(b, 4)), 8);
        same!(q, f16_at(isa, b, 0), f16_at(isa, b, 2))
    }
}

/// A word of scale and zero point; 32 signed bytes, each 128 less than its code; `d q + d (128 − zero)`.
pub struct INT8;
impl Format for INT8 {
    const GGML: Option<u32> = None;
    const LEN: usize = 32;
    const BYTES: usize = 36;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = true;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], _: usize) -> Block32<I::Bytes> {
        let (d, zero) = parts(b, 8);
        same!(isa.load(bytes(b, 4)), d, d * (128.0 - zero as f32))
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn scales_of_16_bits_are_exact() {
        for bits in 0..0x7c00 {
            let (a, b) = (
                f16::from_bits(bits).to_f32(),
                bf16::from_bits(bits).to_f32(),
            );
            for (bits, scale) in [(4, a), (8, a), (4, b), (8, b)] {
                let word = scale_and_zero(bits, scale, 9).to_le_bytes();
                assert_eq!(parts(&word, bits), (scale, 9));
            }
        }
    }

    #[test]
    fn scales_of_32_bits_are_rounded_to_the_nearest() {
        for i in 0..1000 {
            let scale = 0.001 + i as f32 * 1.2345e-5;
            for (bits, most) in [(4, 2f32.powi(-20)), (8, 2f32.powi(-16))] {
                let word = scale_and_zero(bits, scale, 15).to_le_bytes();
                let (found, zero) = parts(&word, bits);
                assert!(
                    (found - scale).abs() <= scale * most && zero == 15,
                    "{scale}"
                );
            }
        }
    }
}
