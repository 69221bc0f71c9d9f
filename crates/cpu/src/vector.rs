//! Vectors of f32 with the processors' instructions, where compilers do not find them by themselves.

/// Some f32s in a register.
pub(crate) trait Vector: Copy {
    /// How many.
    const LANES: usize;

    /// # Safety
    /// For this and all others: the processor must have the instructions.
    unsafe fn zero() -> Self;

    /// # Safety
    /// `LANES` values must be readable there.
    unsafe fn load(at: *const f32) -> Self;

    /// From f16s; what is not a number may become infinite.
    ///
    /// # Safety
    /// `LANES` of them must be readable there.
    unsafe fn load_f16(at: *const [u8; 2]) -> Self;

    /// From bfloat16s.
    ///
    /// # Safety
    /// `LANES` of them must be readable there.
    unsafe fn load_bf16(at: *const [u8; 2]) -> Self;

    /// `self + a · b`
    ///
    /// # Safety
    /// See `zero`.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    /// The sum of the lanes.
    ///
    /// # Safety
    /// See `zero`.
    unsafe fn sum(self) -> f32;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::Vector;

    impl Vector for __m512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as the trait says; so are those below.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_loadu_ps(at) }
        }

        #[inline(always)]
        unsafe fn load_f16(at: *const [u8; 2]) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
        }

        #[inline(always)]
        unsafe fn load_bf16(at: *const [u8; 2]) -> Self {
            // SAFETY: see above.
            unsafe {
                let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: see above.
            unsafe { _mm512_reduce_add_ps(self) }
        }
    }

    impl Vector for __m256 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as the trait says; so are those below.
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_loadu_ps(at) }
        }

        #[inline(always)]
        unsafe fn load_f16(at: *const [u8; 2]) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
        }

        #[inline(always)]
        unsafe fn load_bf16(at: *const [u8; 2]) -> Self {
            // SAFETY: see above.
            unsafe {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: see above.
            unsafe {
                let halves = _mm_add_ps(
                    _mm256_castps256_ps128(self),
                    _mm256_extractf128_ps::<1>(self),
                );
                let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
                _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
            }
        }
    }
}

#[cfg(target_feature = "simd128")]
pub(crate) type Plain = core::arch::wasm32::v128;

#[cfg(target_feature = "simd128")]
impl Vector for Plain {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        core::arch::wasm32::f32x4_splat(0.0)
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as the trait says; WebAssembly's loads need no alignment.
        unsafe { core::arch::wasm32::v128_load(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(at: *const [u8; 2]) -> Self {
        use core::arch::wasm32::*;
        // The sign goes to its place, the rest as there, short of 2^112 in the exponent; the three products lead there
        // on a way that only infinity does not come back from.
        let up = f32x4_splat(f32::from_bits((127 + 112) << 23));
        let down = f32x4_splat(f32::from_bits((127 - 112) << 23));
        // SAFETY: see above.
        let bits = i32x4_shl(unsafe { i32x4_load_extend_i16x4(at.cast()) }, 13);
        let value = v128_and(bits, u32x4_splat(0x8fff_e000));
        f32x4_mul(f32x4_mul(f32x4_mul(value, up), up), down)
    }

    #[inline(always)]
    unsafe fn load_bf16(at: *const [u8; 2]) -> Self {
        use core::arch::wasm32::*;
        // SAFETY: see above.
        i32x4_shl(unsafe { i32x4_load_extend_i16x4(at.cast()) }, 16)
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        use core::arch::wasm32::{f32x4_add, f32x4_mul};
        f32x4_add(self, f32x4_mul(a, b))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        use core::arch::wasm32::f32x4_extract_lane as lane;
        (lane::<0>(self) + lane::<2>(self)) + (lane::<1>(self) + lane::<3>(self))
    }
}

/// Four f32s in plain Rust.
#[cfg(not(target_feature = "simd128"))]
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 4]);

#[cfg(not(target_feature = "simd128"))]
impl Vector for Plain {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as the trait says; an array of f32s needs no more alignment than one.
        Self(unsafe { *at.cast() })
    }

    #[inline(always)]
    unsafe fn load_f16(at: *const [u8; 2]) -> Self {
        // SAFETY: see above; arrays of bytes need no alignment.
        let values: [[u8; 2]; 4] = unsafe { *at.cast() };
        Self(values.map(|b| siskin_formats::f16_to_f32(u16::from_le_bytes(b))))
    }

    #[inline(always)]
    unsafe fn load_bf16(at: *const [u8; 2]) -> Self {
        // SAFETY: see above.
        let values: [[u8; 2]; 4] = unsafe { *at.cast() };
        Self(values.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)))
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}
