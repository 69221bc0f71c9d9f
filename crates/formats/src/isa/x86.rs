use core::arch::x86_64::*;

use super::Isa;

/// AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// If the processor has it.
    pub fn detected() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    /// For code that is compiled for these instructions.
    ///
    /// # Safety
    /// The processor must have them.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY, for all: that there is an `Avx2` shows that the processor has the instructions; loads and stores are as large
// as the arrays, and need no alignment.
impl Isa for Avx2 {
    type Bytes = __m256i;

    #[inline(always)]
    fn load(self, bytes: &[u8; 32]) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, bytes: __m256i) -> [i8; 32] {
        let mut out = [0; 32];
        // SAFETY: see above.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
        out
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> __m256i {
        // SAFETY: see above.
        unsafe {
            let low = _mm_loadu_si128(bytes.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(low), low);
            _mm256_and_si256(both, _mm256_set1_epi8(0xf))
        }
    }

    #[inline(always)]
    fn field(self, bytes: __m256i, shift: usize, mask: u8) -> __m256i {
        // SAFETY: see above.
        unsafe {
            // The mask leaves out what comes from the neighbour.
            let shifted = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32));
            _mm256_and_si256(shifted, _mm256_set1_epi8(mask as i8))
        }
    }

    #[inline(always)]
    fn join(self, low: __m256i, high: __m256i, bits: usize) -> __m256i {
        // SAFETY: see above.
        unsafe {
            let high = _mm256_sll_epi16(high, _mm_cvtsi32_si128(bits as i32));
            _mm256_or_si256(low, high)
        }
    }

    #[inline(always)]
    fn bits(self, word: u32) -> __m256i {
        // SAFETY: see above.
        unsafe {
            let byte = |at: i64| at * 0x0101_0101_0101_0101;
            let places = _mm256_setr_epi64x(byte(0), byte(1), byte(2), byte(3));
            let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(word as i32), places);
            let one = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let is_set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, one), one);
            _mm256_and_si256(is_set, _mm256_set1_epi8(1))
        }
    }

    #[inline(always)]
    fn less(self, bytes: __m256i, offset: i8) -> __m256i {
        // SAFETY: see above.
        unsafe { _mm256_sub_epi8(bytes, _mm256_set1_epi8(offset)) }
    }

    #[inline(always)]
    fn looked_up(self, codes: __m256i, values: &[i8; 16]) -> __m256i {
        // SAFETY: see above.
        unsafe {
            let values = _mm_loadu_si128(values.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes)
        }
    }

    #[inline(always)]
    fn f16(self, bits: u16) -> f32 {
        // SAFETY: see above.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
    }

    #[inline(always)]
    fn f16s(self, bytes: &[u8; 16]) -> [f32; 8] {
        let mut out = [0.0; 8];
        // SAFETY: see above.
        unsafe {
            let values = _mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast()));
            _mm256_storeu_ps(out.as_mut_ptr(), values);
        }
        out
    }
}
