use core::arch::wasm32::*;

use super::{Isa, Portable};
use crate::blocks::scale_of;

/// WebAssembly's `simd128`, for which the whole program is compiled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simd128;

fn each(bytes: [v128; 2], f: impl Fn(v128) -> v128) -> [v128; 2] {
    [f(bytes[0]), f(bytes[1])]
}

impl Isa for Simd128 {
    type Bytes = [v128; 2];

    #[inline(always)]
    fn load(self, bytes: &[u8; 32]) -> [v128; 2] {
        // SAFETY: both loads lie within the array, and need no alignment.
        [0, 16].map(|at| unsafe { v128_load(bytes.as_ptr().add(at).cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: [v128; 2]) -> [i8; 32] {
        let mut out = [0; 32];
        for (out, bytes) in out.as_chunks_mut::<16>().0.iter_mut().zip(bytes) {
            // SAFETY: the array is as long as a vector; it need not be aligned.
            unsafe { v128_store(out.as_mut_ptr().cast(), bytes) };
        }
        out
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> [v128; 2] {
        // SAFETY: the array is as long as a vector; it need not be aligned.
        let both = unsafe { v128_load(bytes.as_ptr().cast()) };
        [v128_and(both, u8x16_splat(0xf)), u8x16_shr(both, 4)]
    }

    #[inline(always)]
    fn field(self, bytes: [v128; 2], shift: usize, mask: u8) -> [v128; 2] {
        each(bytes, |b| {
            v128_and(u8x16_shr(b, shift as u32), u8x16_splat(mask))
        })
    }

    #[inline(always)]
    fn join(self, low: [v128; 2], high: [v128; 2], bits: usize) -> [v128; 2] {
        let high = each(high, |b| u8x16_shl(b, bits as u32));
        [v128_or(low[0], high[0]), v128_or(low[1], high[1])]
    }

    #[inline(always)]
    fn bits(self, word: u32) -> [v128; 2] {
        let word = u32x4_splat(word);
        let one = u64x2_splat(0x8040_2010_0804_0201);
        let halves = [
            i8x16_shuffle::<0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1>(word, word),
            i8x16_shuffle::<2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3>(word, word),
        ];
        each(halves, |b| {
            v128_and(u8x16_eq(v128_and(b, one), one), u8x16_splat(1))
        })
    }

    #[inline(always)]
    fn less(self, bytes: [v128; 2], offset: i8) -> [v128; 2] {
        each(bytes, |b| i8x16_sub(b, i8x16_splat(offset)))
    }

    #[inline(always)]
    fn looked_up(self, codes: [v128; 2], values: &[i8; 16]) -> [v128; 2] {
        // SAFETY: the array is as long as a vector; it need not be aligned.
        let values = unsafe { v128_load(values.as_ptr().cast()) };
        each(codes, |codes| i8x16_swizzle(values, codes))
    }

    #[inline(always)]
    fn f16(self, bits: u16) -> f32 {
        scale_of(bits)
    }

    #[inline(always)]
    fn f16s(self, bytes: &[u8; 16]) -> [f32; 8] {
        Portable.f16s(bytes)
    }
}
