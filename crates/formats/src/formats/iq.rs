//! ggml's IQ formats in blocks of 256. Those of 1 to 3 bits store indices of groups of weights in a grid (`grids.rs`),
//! and signs.

use super::{NO_MIN, bytes, f16_at, grids, same, u16_at};
use crate::blocks::{Block32, Format};
use crate::formats::IQ4_VALUES;
use crate::isa::Isa;

/// A format of groups of weights from a grid.
pub trait Grid: Format {
    /// All values that its integers have, with zeros after them.
    const VALUES: [i8; 16];
    /// What `d` times a scale is multiplied by.
    const FRACTION: f32;
    /// The f16 `d` of a block.
    #[inline(always)]
    fn d(b: &[u8]) -> [u8; 2] {
        [b[0], b[1]]
    }
    /// The scale of the `half`-th of a block's 16 halves: an odd number up to 31.
    fn scale(b: &[u8], half: usize) -> u8;
}

/// A run with these integers. ggml's `d (s + 1/2) / 4` is `d (2s + 1) / 8`: no such product is rounded.
#[inline(always)]
fn block<F: Grid, I: Isa>(isa: I, b: &[u8], run: usize, q: [u8; 32]) -> Block32<I::Bytes> {
    let d = f16_at(isa, &F::d(b), 0) * F::FRACTION;
    Block32 {
        q: isa.load(&q),
        d: [0, 1].map(|half| d * f32::from(F::scale(b, 2 * run + half))),
        m: [NO_MIN; 2],
    }
}

/// The `i`-th nibble, of each byte the low one first.
#[inline(always)]
fn nibble(b: &[u8], i: usize) -> u8 {
    (b[i / 2] >> (4 * (i % 2))) & 0xf
}

/// A little-endian 32-bit integer.
#[inline(always)]
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from(u16_at(b, at)) | (u32::from(u16_at(b, at + 2)) << 16)
}

/// The 8 signs that 7 bits stand for: the last one makes the number of negative ones even.
#[inline(always)]
fn even_signs(bits: u32) -> u8 {
    let bits = (bits & 0x7f) as u8;
    bits | (((bits.count_ones() & 1) as u8) << 7)
}

/// 1 in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The 8 indices of 2 bits of a grid's entry, one in each byte.
#[inline(always)]
fn eight(entry: u16) -> u64 {
    let x = u64::from(entry);
    let x = (x | (x << 24)) & 0x0000_00ff_0000_00ff;
    let x = (x | (x << 12)) & 0x000f_000f_000f_000f;
    (x | (x << 6)) & (3 * ONES)
}

/// The 4 indices of 3 bits of each of two entries, one in each byte.
#[inline(always)]
fn four(entries: [u16; 2]) -> u64 {
    let x = u64::from(entries[0]) | (u64::from(entries[1]) << 32);
    let x = (x | (x << 10)) & 0x003f_003f_003f_003f;
    (x | (x << 5)) & (7 * ONES)
}

/// The values of IQ2's grids: 8, 25, 43.
#[inline(always)]
fn values_2(indices: u64) -> u64 {
    8 * ONES + 17 * indices + ((indices >> 1) & ONES)
}

/// Bytes from 1 to 127, negative where a bit of `signs` is set.
#[inline(always)]
fn signed(values: u64, signs: u8) -> [u8; 8] {
    // Each byte keeps its own bit, which is then moved to its lowest.
    let bits = (u64::from(signs) * ONES) & 0x8040_2010_0804_0201;
    let is_negative = ((bits + 0x7f * ONES) | bits) >> 7 & ONES;
    // All bits turned, and one more; no byte overflows.
    ((values ^ (is_negative * 0xff)) + is_negative).to_le_bytes()
}

/// A run of four groups of 8 weights.
#[inline(always)]
fn groups(group: impl Fn(usize) -> [u8; 8]) -> [u8; 32] {
    let mut q = [0; 32];
    for (g, q) in q.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *q = group(g);
    }
    q
}

const VALUES_1: [i8; 16] = [-9, -7, -1, 1, 7, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const VALUES_2: [i8; 16] = [-43, -25, -8, 8, 25, 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A group of IQ1: eighths of its grid's −1, 0, 1, with one added or subtracted.
#[inline(always)]
fn group_1(index: u16, is_negative: bool) -> [u8; 8] {
    let indices = eight(grids::IQ1[usize::from(index) & 2047]);
    let add = if is_negative { -9i8 } else { -7 };
    (8 * indices)
        .to_le_bytes()
        .map(|q| q.wrapping_add(add as u8))
}

/// f16 `d`; 32 low bytes of indices; 8 words of 16 bits, one for each run: 3 high bits of each of four indices, a 3-bit
/// scale and the sign of an eighth, which is added to every weight; `d (2s + 1) (grid ± 1/8)`.
pub struct IQ1_S;
impl Grid for IQ1_S {
    const VALUES: [i8; 16] = VALUES_1;
    const FRACTION: f32 = 0.125;
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * ((b[35 + 2 * (half / 2)] >> 4) & 7) + 1
    }
}
impl Format for IQ1_S {
    const GGML: Option<u32> = Some(19);
    const LEN: usize = 256;
    const BYTES: usize = 50;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let qs = &b[2 + 4 * run..][..4];
        let high = u16_at(b, 34 + 2 * run);
        let q = groups(|g| {
            let index = u16::from(qs[g]) | (((high >> (3 * g)) & 7) << 8);
            group_1(index, high & 0x8000 != 0)
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// 32 low bytes of indices; 16 bytes with a nibble for each group of 8: 3 high bits of the index, and the sign of an
/// eighth, which is added to each weight of the group; 4 words of 16 bits with 3-bit scales of four halves and, in the
/// highest 4 bits, a quarter of the f16 `d`; `d (2s + 1) (grid ± 1/8)`.
pub struct IQ1_M;
impl Grid for IQ1_M {
    const VALUES: [i8; 16] = VALUES_1;
    const FRACTION: f32 = 0.125;
    #[inline(always)]
    fn d(b: &[u8]) -> [u8; 2] {
        [(b[49] >> 4) | (b[51] & 0xf0), (b[53] >> 4) | (b[55] & 0xf0)]
    }
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * ((u16_at(b, 48 + 2 * (half / 4)) >> (3 * (half % 4))) as u8 & 7) + 1
    }
}
impl Format for IQ1_M {
    const GGML: Option<u32> = Some(29);
    const LEN: usize = 256;
    const BYTES: usize = 56;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let qs = &b[4 * run..][..4];
        let high = &b[32 + 2 * run..][..2];
        let q = groups(|g| {
            let high = nibble(high, g);
            let index = u16::from(qs[g]) | (u16::from(high & 7) << 8);
            group_1(index, high & 8 != 0)
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// f16 `d`; for each run 4 bytes of indices and 32 bits: four times 7 bits of signs, and a 4-bit scale;
/// `d (s + 1/2) / 4 · ±grid`.
pub struct IQ2_XXS;
impl Grid for IQ2_XXS {
    const VALUES: [i8; 16] = VALUES_2;
    const FRACTION: f32 = 0.125;
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * (b[9 + 8 * (half / 2)] >> 4) + 1
    }
}
impl Format for IQ2_XXS {
    const GGML: Option<u32> = Some(16);
    const LEN: usize = 256;
    const BYTES: usize = 66;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let at = 2 + 8 * run;
        let rest = u32_at(b, at + 4);
        let q = groups(|g| {
            let entry = grids::IQ2_XXS[usize::from(b[at + g])];
            signed(values_2(eight(entry)), even_signs(rest >> (7 * g)))
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// f16 `d`; 32 words of 16 bits: 9 bits of index and 7 of signs; 8 bytes with a 4-bit scale for each half;
/// `d (s + 1/2) / 4 · ±grid`.
pub struct IQ2_XS;
impl Grid for IQ2_XS {
    const VALUES: [i8; 16] = VALUES_2;
    const FRACTION: f32 = 0.125;
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * nibble(&b[66..74], half) + 1
    }
}
impl Format for IQ2_XS {
    const GGML: Option<u32> = Some(17);
    const LEN: usize = 256;
    const BYTES: usize = 74;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let q = groups(|g| {
            let word = u16_at(b, 2 + 8 * run + 2 * g);
            let entry = grids::IQ2_XS[usize::from(word) & 511];
            signed(values_2(eight(entry)), even_signs(u32::from(word >> 9)))
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// f16 `d`; 32 low bytes of indices; 32 bytes of signs; 8 bytes with 2 high bits of four indices; 8 bytes with a 4-bit
/// scale for each half; `d (s + 1/2) / 4 · ±grid`.
pub struct IQ2_S;
impl Grid for IQ2_S {
    const VALUES: [i8; 16] = VALUES_2;
    const FRACTION: f32 = 0.125;
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * nibble(&b[74..82], half) + 1
    }
}
impl Format for IQ2_S {
    const GGML: Option<u32> = Some(22);
    const LEN: usize = 256;
    const BYTES: usize = 82;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let high = u16::from(b[66 + run]);
        let q = groups(|g| {
            let at = u16::from(b[2 + 4 * run + g]) | (((high >> (2 * g)) & 3) << 8);
            let entry = grids::IQ2_S[usize::from(at) & 1023];
            signed(values_2(eight(entry)), b[34 + 4 * run + g])
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// f16 `d`; 64 bytes of indices; for each run 32 bits: four times 7 bits of signs, and a 4-bit scale;
/// `d (s + 1/2) / 2 · ±grid`.
pub struct IQ3_XXS;
impl Grid for IQ3_XXS {
    const VALUES: [i8; 16] = [
        -62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62,
    ];
    const FRACTION: f32 = 0.25;
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * (b[69 + 4 * (half / 2)] >> 4) + 1
    }
}
impl Format for IQ3_XXS {
    const GGML: Option<u32> = Some(18);
    const LEN: usize = 256;
    const BYTES: usize = 98;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let qs = &b[2 + 8 * run..][..8];
        let rest = u32_at(b, 66 + 4 * run);
        let q = groups(|g| {
            let entry = |i: usize| grids::IQ3_XXS[usize::from(qs[2 * g + i])];
            let i = four([entry(0), entry(1)]);
            // 4, 12, 20, …, and 62.
            let values = 4 * ONES + 8 * i + 2 * (i & (i >> 1) & (i >> 2) & ONES);
            signed(values, even_signs(rest >> (7 * g)))
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// f16 `d`; 64 low bytes of indices; 8 bytes with a high bit of eight indices; 32 bytes of signs; 4 bytes with a 4-bit
/// scale for each run; `d (2s + 1) · ±grid`.
pub struct IQ3_S;
impl Grid for IQ3_S {
    const VALUES: [i8; 16] = [-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15];
    const FRACTION: f32 = 1.0;
    #[inline(always)]
    fn scale(b: &[u8], half: usize) -> u8 {
        2 * nibble(&b[106..110], half / 2) + 1
    }
}
impl Format for IQ3_S {
    const GGML: Option<u32> = Some(21);
    const LEN: usize = 256;
    const BYTES: usize = 110;
    const IS_UNIFORM: bool = false;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let qs = &b[2 + 8 * run..][..8];
        let high = u16::from(b[66 + run]);
        let q = groups(|g| {
            let entry = |i: usize| {
                let at = u16::from(qs[i]) | (((high >> i) & 1) << 8);
                grids::IQ3_S[usize::from(at) & 511]
            };
            // 1, 3, 5, …
            let values = ONES + 2 * four([entry(2 * g), entry(2 * g + 1)]);
            signed(values, b[74 + 4 * run + g])
        });
        block::<Self, _>(isa, b, run, q)
    }
}

/// f16 `d`; 2 bytes with 2 high bits of each run's scale, 4 bytes with its 4 low bits; 128 bytes of codes;
/// `d (s − 32) values[code]`, with the values of [`IQ4_NL`](super::IQ4_NL).
pub struct IQ4_XS;
impl IQ4_XS {
    /// The signed scale of the `run`-th of eight runs.
    #[inline(always)]
    pub fn scale(b: &[u8], run: usize) -> i8 {
        let low = nibble(&b[4..8], run);
        let high = (u16_at(b, 2) >> (2 * run)) as u8 & 3;
        (low | (high << 4)) as i8 - 32
    }
}
impl Format for IQ4_XS {
    const GGML: Option<u32> = Some(23);
    const LEN: usize = 256;
    const BYTES: usize = 136;
    const IS_UNIFORM: bool = true;
    const HAS_OFFSET: bool = false;
    #[inline(always)]
    fn unpack<I: Isa>(isa: I, b: &[u8], run: usize) -> Block32<I::Bytes> {
        let d = f16_at(isa, b, 0) * f32::from(Self::scale(b, run));
        let q = isa.looked_up(isa.nibbles(bytes(b, 8 + 16 * run)), &IQ4_VALUES);
        same!(q, d, NO_MIN)
    }
}
