//! Formats of −1, 0 and 1 in blocks of 256, for models that were trained with such weights.

use super::{NO_MIN, same};
use crate::blocks::{Block32, Format, f16_at};

/// 48 and 4 bytes, of which each has five or four digits to the base of 3; f16 `d`; `d (digit − 1)`.
pub struct TQ1_0;
impl TQ1_0 {
    /// The byte and the digit of the `i`-th of 256 weights.
    #[inline(always)]
    fn place(i: usize) -> (usize, usize) {
        match i {
            0..160 => (i % 32, i / 32),
            160..240 => (32 + i % 16, (i - 160) / 16),
            _ => (48 + i % 4, (i - 240) / 4),
        }
    }
}
impl Format for TQ1_0 {
    const GGML: u32 = 34;
    const LEN: usize = 256;
    const BYTES: usize = 54;
    #[inline(always)]
    fn unpack(b: &[u8], run: usize) -> Block32 {
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        let mut q = [0i8; 32];
        for (i, q) in q.iter_mut().enumerate() {
            let (byte, digit) = Self::place(32 * run + i);
            // A byte is a fraction of 256: the digits before are shifted out, the next one is its integer part
            // after a multiplication by 3.
            let rest = b[byte].wrapping_mul(POWERS[digit]);
            *q = ((u16::from(rest) * 3) >> 8) as i8 - 1;
        }
        same!(q, f16_at(b, 52), NO_MIN)
    }
}

/// 64 bytes of 2-bit values; f16 `d`; `d (q − 1)`.
pub struct TQ2_0;
impl Format for TQ2_0 {
    const GGML: u32 = 35;
    const LEN: usize = 256;
    const BYTES: usize = 66;
    #[inline(always)]
    fn unpack(b: &[u8], run: usize) -> Block32 {
        let shift = 2 * (run % 4);
        let mut q = [0i8; 32];
        for (q, b) in q.iter_mut().zip(&b[(run / 4) * 32..][..32]) {
            *q = ((b >> shift) & 3) as i8 - 1;
        }
        same!(q, f16_at(b, 64), NO_MIN)
    }
}
