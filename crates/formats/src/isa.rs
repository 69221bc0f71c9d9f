//! What the block formats ask of a processor: operations on 32 bytes at a time, since compilers find the instructions
//! for few of them by themselves.
//!
//! A value of a type that is an [`Isa`] shows that the processor has the instructions, so that the operations are safe.

use crate::blocks::{f16_to_f32, scale_of};

#[cfg(target_feature = "simd128")]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_feature = "simd128")]
pub use wasm::Simd128;
#[cfg(target_arch = "x86_64")]
pub use x86::Avx2;

/// What every processor of the target has.
#[cfg(target_feature = "simd128")]
pub type Baseline = Simd128;
/// What every processor of the target has.
#[cfg(not(target_feature = "simd128"))]
pub type Baseline = Portable;

/// A set of instructions.
pub trait Isa: Copy {
    /// 32 bytes.
    type Bytes: Copy;

    /// Reads them.
    fn load(self, bytes: &[u8; 32]) -> Self::Bytes;
    /// Writes them.
    fn store(self, bytes: Self::Bytes) -> [i8; 32];
    /// The low nibbles of 16 bytes, then the high ones.
    fn nibbles(self, bytes: &[u8; 16]) -> Self::Bytes;
    /// `(b >> shift) & mask` of each byte.
    fn field(self, bytes: Self::Bytes, shift: usize, mask: u8) -> Self::Bytes;
    /// `low | high << bits` of each two, where no byte of `high` gets too large.
    fn join(self, low: Self::Bytes, high: Self::Bytes, bits: usize) -> Self::Bytes;
    /// 1 for each bit of the word that is set, from the lowest on, and 0 for the others.
    fn bits(self, word: u32) -> Self::Bytes;
    /// Each less `offset`, modulo 256.
    fn less(self, bytes: Self::Bytes, offset: i8) -> Self::Bytes;
    /// The value of each code below 16.
    fn looked_up(self, codes: Self::Bytes, values: &[i8; 16]) -> Self::Bytes;
    /// The value of an f16's bits; what is not a number may become infinite.
    fn f16(self, bits: u16) -> f32;
    /// The values of eight f16s.
    fn f16s(self, bytes: &[u8; 16]) -> [f32; 8];
}

/// Plain Rust.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portable;

impl Isa for Portable {
    type Bytes = [i8; 32];

    #[inline(always)]
    fn load(self, bytes: &[u8; 32]) -> [i8; 32] {
        bytes.map(|b| b as i8)
    }

    #[inline(always)]
    fn store(self, bytes: [i8; 32]) -> [i8; 32] {
        bytes
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> [i8; 32] {
        std::array::from_fn(|i| (bytes[i % 16] >> (4 * (i / 16)) & 0xf) as i8)
    }

    #[inline(always)]
    fn field(self, bytes: [i8; 32], shift: usize, mask: u8) -> [i8; 32] {
        bytes.map(|b| (b as u8 >> shift & mask) as i8)
    }

    #[inline(always)]
    fn join(self, low: [i8; 32], high: [i8; 32], bits: usize) -> [i8; 32] {
        std::array::from_fn(|i| low[i] | high[i] << bits)
    }

    #[inline(always)]
    fn bits(self, word: u32) -> [i8; 32] {
        std::array::from_fn(|i| (word >> i & 1) as i8)
    }

    #[inline(always)]
    fn less(self, bytes: [i8; 32], offset: i8) -> [i8; 32] {
        bytes.map(|b| b.wrapping_sub(offset))
    }

    #[inline(always)]
    fn looked_up(self, codes: [i8; 32], values: &[i8; 16]) -> [i8; 32] {
        codes.map(|code| values[usize::from(code as u8 & 0xf)])
    }

    #[inline(always)]
    fn f16(self, bits: u16) -> f32 {
        scale_of(bits)
    }

    #[inline(always)]
    fn f16s(self, bytes: &[u8; 16]) -> [f32; 8] {
        let bits = |i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
        std::array::from_fn(|i| f16_to_f32(bits(i)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation, on bytes of all kinds.
    fn results<I: Isa>(isa: I) -> Vec<[i8; 32]> {
        let mut results = vec![];
        for seed in 0..64u32 {
            let byte = |i: usize| (seed * 37 + i as u32 * 91 + (i as u32 * seed) % 13) as u8;
            let bytes: [u8; 32] = std::array::from_fn(byte);
            let half: [u8; 16] = std::array::from_fn(byte);
            let values: [i8; 16] = std::array::from_fn(|i| byte(i) as i8);
            let all = isa.load(&bytes);
            let codes = isa.nibbles(&half);
            let mut found = vec![all, codes, isa.looked_up(codes, &values)];
            found.extend((0..8).map(|shift| isa.field(all, shift, 0xff >> shift)));
            found.extend((0..5).map(|bits| isa.join(codes, codes, bits.min(4))));
            found.extend([-128, -1, 0, 8, 127].map(|offset| isa.less(all, offset)));
            found.push(isa.bits(seed.wrapping_mul(0x9e37_79b9)));
            results.extend(found.into_iter().map(|bytes| isa.store(bytes)));
        }
        results
    }

    #[test]
    fn fields_bits_and_values_are_found() {
        let bytes: [u8; 32] = std::array::from_fn(|i| 7 * i as u8);
        let field = Portable.field(Portable.load(&bytes), 2, 3);
        assert_eq!(field[31], 2);
        assert_eq!(Portable.join([1; 32], [2; 32], 4), [0x21; 32]);
        let bits = Portable.bits(0x8000_0002);
        assert_eq!((bits[1], bits[30], bits[31]), (1, 0, 1));
        let nibbles = Portable.nibbles(&[0x3a; 16]);
        assert_eq!((nibbles[0], nibbles[16]), (0xa, 3));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn all_sets_of_instructions_agree() {
        let Some(avx2) = Avx2::detected() else {
            println!("this processor does not have AVX2");
            return;
        };
        assert_eq!(results(avx2), results(Portable));
        for bits in (0..=u16::MAX).filter(|b| b & 0x7c00 != 0x7c00) {
            let value = Portable.f16(bits).to_bits();
            assert_eq!(avx2.f16(bits).to_bits(), value);
            let eight: Vec<u8> = bits.to_le_bytes().repeat(8);
            let eight: &[u8; 16] = eight.first_chunk().unwrap();
            assert_eq!(avx2.f16s(eight).map(f32::to_bits), [value; 8]);
            assert_eq!(Portable.f16s(eight).map(f32::to_bits), [value; 8]);
        }
    }
}
