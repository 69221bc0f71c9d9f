//! Formats of −1, 0 and 1 in blocks of 256, for models that were trained with such weights.

use super::{NO_MIN, bytes, f16_at, same};
use crate::blocks::{Block32, Format};
use crate::isa::Isa;

/// 48 and 4 bytes, of which each has five or four digits to the base of 3; f16 `d`; `d (digit − 1)`.
pub struct TQ1_0;
impl TQ1_0 {
    /// A byte is a fraction of 256: the digits before are shifted out, the next one is its integer part after a
    /// multiplication by 3.
    #[inline(always)]
    fn digit(byte: u8, i: usize) -> i8 {
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        ((u16::from(byte.wrapping_mul(POWERS[i])) * 3) >> 8) as i8 - 1
    }
}
impl Format for TQ1_0 {
    const GGML: Option<u32> = Some(34);
    const LEN: usize = 256;
    const BYTES: usize = 54;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let mut q = [0; 32];
        for (half, q) in q.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            // The same digit of 16 bytes, but for the last half: four digits of four bytes.
            let (at, digit) = match 2 * run + half {
                h @ 0..10 => (16 * (h % 2), h / 2),
                h @ 10..15 => (32, h - 10),
                _ => {
                    let digit = |i| Self::digit(b[48 + i % 4], i / 4) as u8;
                    *q = std::array::from_fn(digit);
                    continue;
                }
            };
            for (q, byte) in q.iter_mut().zip(&b[at..at + 16]) {
                *q = Self::digit(*byte, digit) as u8;
            }
        }
        same!(isa.load(&q), f16_at(isa, b, 52), NO_MIN)
    }
}

/// 64 bytes of 2-bit values; f16 `d`; `d (q − 1)`.
pub struct TQ2_0;
impl Format for TQ2_0 {
    const GGML: Option<u32> = Some(35);
    const LEN: usize = 256;
    const BYTES: usize = 66;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let codes = isa.field(isa.load(bytes(b, (run / 4) * 32)), 2 * (run % 4), 3);
        let q = isa.less(codes, 1);
        same!(q, f16_at(isa, b, 64), NO_MIN)
    }
}
