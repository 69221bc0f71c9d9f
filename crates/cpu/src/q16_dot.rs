//! A block's products with 16-bit activations, added to running sums.
//!
//! Compilers do not find the processors' instructions for products of pairs by themselves: with these here, decoding
//! SmolLM2 is 1.6 times as fast in Chromium, and natively about twice (AVX2 and AVX-512).

use siskin_formats::Block32;
use siskin_formats::isa::Isa;

/// 32 activations and their scale.
pub(crate) type Input<'a> = (&'a [i16; 32], f32);

/// A set of instructions for such products.
pub(crate) trait Dot: Copy {
    type Isa: Isa;
    /// The sums of one row, as they are kept in registers.
    type Sums: Copy;

    fn isa(self) -> Self::Isa;

    fn zero(self) -> Self::Sums;

    /// Adds the products of a block, both halves of which have the same scale if it is `UNIFORM`.
    fn add<const UNIFORM: bool>(
        self,
        sums: Self::Sums,
        w: &Block<Self>,
        x: Input<'_>,
    ) -> Self::Sums;

    fn total(self, sums: Self::Sums) -> f32;
}

/// A block in the processor's registers.
pub(crate) type Block<D> = Block32<<<D as Dot>::Isa as Isa>::Bytes>;

#[cfg(not(target_feature = "simd128"))]
mod plain {
    use siskin_formats::isa::Portable;

    use super::{Block, Dot, Input};

    impl Dot for Portable {
        type Isa = Self;
        /// Lane i takes the dimensions 2i and 2i + 1.
        type Sums = [f32; 16];

        #[inline(always)]
        fn isa(self) -> Self {
            self
        }

        #[inline(always)]
        fn zero(self) -> [f32; 16] {
            [0.0; 16]
        }

        #[inline(always)]
        fn add<const UNIFORM: bool>(
            self,
            sums: [f32; 16],
            w: &Block<Self>,
            (xq, xd): Input<'_>,
        ) -> [f32; 16] {
            std::array::from_fn(|i| {
                let (a, b) = (2 * i, 2 * i + 1);
                let pair = i32::from(i16::from(w.q[a])) * i32::from(xq[a])
                    + i32::from(i16::from(w.q[b])) * i32::from(xq[b]);
                sums[i] + xd * w.d[i / 8] * pair as f32
            })
        }

        #[inline(always)]
        fn total(self, sums: [f32; 16]) -> f32 {
            sums.iter().sum()
        }
    }
}

#[cfg(target_feature = "simd128")]
mod wasm {
    use core::arch::wasm32::*;

    use siskin_formats::isa::Simd128;

    use super::{Block, Dot, Input};

    impl Dot for Simd128 {
        type Isa = Self;
        type Sums = [v128; 4];

        #[inline(always)]
        fn isa(self) -> Self {
            self
        }

        #[inline(always)]
        fn zero(self) -> [v128; 4] {
            [f32x4_splat(0.0); 4]
        }

        #[inline(always)]
        fn add<const UNIFORM: bool>(
            self,
            mut sums: [v128; 4],
            w: &Block<Self>,
            (xq, xd): Input<'_>,
        ) -> [v128; 4] {
            let mut pairs = [i32x4_splat(0); 4];
            for (half, q) in w.q.into_iter().enumerate() {
                let parts = [i16x8_extend_low_i8x16(q), i16x8_extend_high_i8x16(q)];
                for (i, part) in parts.into_iter().enumerate() {
                    let at = 2 * half + i;
                    // SAFETY: the loads lie within the 4 × 16 bytes of `xq`; they need no alignment.
                    let x = unsafe { v128_load(xq.as_ptr().add(8 * at).cast()) };
                    pairs[at] = i32x4_dot_i16x8(part, x);
                }
            }
            let scaled = |sum: v128, half: usize, pairs: v128| {
                let scale = f32x4_splat(xd * w.d[half]);
                f32x4_add(sum, f32x4_mul(scale, f32x4_convert_i32x4(pairs)))
            };
            if UNIFORM {
                // Below 2^25: an i32 holds the sum, and its f32 is as good as any.
                let low = i32x4_add(pairs[0], pairs[1]);
                let high = i32x4_add(pairs[2], pairs[3]);
                sums[0] = scaled(sums[0], 0, i32x4_add(low, high));
                return sums;
            }
            for (half, at) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
                sums[at] = scaled(sums[at], half, pairs[at]);
            }
            sums
        }

        #[inline(always)]
        fn total(self, [a, b, c, d]: [v128; 4]) -> f32 {
            use f32x4_extract_lane as lane;
            let sum = f32x4_add(f32x4_add(a, b), f32x4_add(c, d));
            (lane::<0>(sum) + lane::<2>(sum)) + (lane::<1>(sum) + lane::<3>(sum))
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Avx512;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use siskin_formats::isa::Avx2;

    use super::{Block, Dot, Input};
    use crate::vector::Vector;

    // SAFETY, for both: that there is an `Avx2` or an `Avx512` shows that the processor has the instructions; the loads
    // lie within `xq`, and need no alignment.
    impl Dot for Avx2 {
        type Isa = Self;
        type Sums = __m256;

        #[inline(always)]
        fn isa(self) -> Self {
            self
        }

        #[inline(always)]
        fn zero(self) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        fn add<const UNIFORM: bool>(
            self,
            sums: __m256,
            w: &Block<Self>,
            (xq, xd): Input<'_>,
        ) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let pairs = |q: __m128i, half: usize| {
                    let x = _mm256_loadu_si256(xq.as_ptr().add(16 * half).cast());
                    _mm256_madd_epi16(_mm256_cvtepi8_epi16(q), x)
                };
                let low = pairs(_mm256_castsi256_si128(w.q), 0);
                let high = pairs(_mm256_extracti128_si256::<1>(w.q), 1);
                let scale = |half: usize| _mm256_set1_ps(xd * w.d[half]);
                if UNIFORM {
                    // Below 2^25: an i32 holds the sum, and its f32 is as good as any.
                    let both = _mm256_cvtepi32_ps(_mm256_add_epi32(low, high));
                    return _mm256_fmadd_ps(scale(0), both, sums);
                }
                let sums = _mm256_fmadd_ps(scale(0), _mm256_cvtepi32_ps(low), sums);
                _mm256_fmadd_ps(scale(1), _mm256_cvtepi32_ps(high), sums)
            }
        }

        #[inline(always)]
        fn total(self, sums: __m256) -> f32 {
            // SAFETY: see above.
            unsafe { sums.sum() }
        }
    }

    /// AVX-512 with what of it works on 16-bit integers, and AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(Avx2);

    impl Avx512 {
        /// # Safety
        /// The processor must have the instructions.
        #[inline(always)]
        pub unsafe fn new() -> Self {
            // SAFETY: as the caller says.
            Self(unsafe { Avx2::new() })
        }
    }

    impl Dot for Avx512 {
        type Isa = Avx2;
        type Sums = __m512;

        #[inline(always)]
        fn isa(self) -> Avx2 {
            self.0
        }

        #[inline(always)]
        fn zero(self) -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn add<const UNIFORM: bool>(
            self,
            sums: __m512,
            w: &Block<Self>,
            (xq, xd): Input<'_>,
        ) -> __m512 {
            // SAFETY: see above.
            unsafe {
                let x = _mm512_loadu_si512(xq.as_ptr().cast());
                let pairs = _mm512_madd_epi16(_mm512_cvtepi8_epi16(w.q), x);
                let mut scale = _mm512_set1_ps(xd * w.d[0]);
                if !UNIFORM {
                    let high = _mm512_set1_ps(xd * w.d[1]);
                    scale = _mm512_mask_blend_ps(0xff00, scale, high);
                }
                _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(pairs), sums)
            }
        }

        #[inline(always)]
        fn total(self, sums: __m512) -> f32 {
            // SAFETY: see above.
            unsafe { sums.sum() }
        }
    }
}

/// Asks for what is `ahead` bytes behind a block to be brought near. It need not be there.
#[inline(always)]
pub(crate) fn fetch(block: &[u8], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: no address is wrong to ask for; nothing is read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (block, ahead);
}
