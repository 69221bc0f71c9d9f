//! A block's products with 16-bit activations, added to 16 running sums: lane i takes the dimensions 2i and 2i + 1.
//!
//! Compilers do not find the processors' instructions for products of pairs by themselves: with these here, decoding
//! SmolLM2 is 1.6 times as fast in Chromium, and natively about twice (AVX2 and AVX-512).

use siskin_formats::Block32;

/// 32 activations and their scale.
pub(crate) type Input<'a> = (&'a [i16; 32], f32);

#[cfg(target_feature = "simd128")]
#[inline(always)]
pub(crate) fn plain(w: &Block32, (xq, xd): Input<'_>, lanes: &mut [f32; 16]) {
    use core::arch::wasm32::*;
    // SAFETY: every load and store lies within the arrays: 2 × 16 bytes of `w.q`, 4 × 16 of `xq`,
    // and 4 × 16 of `lanes`; WebAssembly's need no alignment.
    unsafe {
        for half in 0..2 {
            let q = v128_load(w.q.as_ptr().add(16 * half).cast());
            let scale = f32x4_splat(xd * w.d[half]);
            let parts = [i16x8_extend_low_i8x16(q), i16x8_extend_high_i8x16(q)];
            for (i, part) in parts.into_iter().enumerate() {
                let at = 2 * half + i;
                let x = v128_load(xq.as_ptr().add(8 * at).cast());
                let pairs = f32x4_convert_i32x4(i32x4_dot_i16x8(part, x));
                let lane = lanes.as_mut_ptr().add(4 * at).cast();
                v128_store(lane, f32x4_add(v128_load(lane), f32x4_mul(scale, pairs)));
            }
        }
    }
}

#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
pub(crate) fn plain(w: &Block32, (xq, xd): Input<'_>, lanes: &mut [f32; 16]) {
    let mut pairs = [0i32; 16];
    for (i, pair) in pairs.iter_mut().enumerate() {
        let (a, b) = (2 * i, 2 * i + 1);
        *pair = i32::from(i16::from(w.q[a])) * i32::from(xq[a])
            + i32::from(i16::from(w.q[b])) * i32::from(xq[b]);
    }
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane += xd * w.d[i / 8] * pairs[i] as f32;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn avx2(w: &Block32, (xq, xd): Input<'_>, lanes: &mut [f32; 16]) {
    use core::arch::x86_64::*;
    for half in 0..2 {
        // SAFETY: the loads and the store lie within the arrays: 16 bytes of each half of `w.q`, 32 of `xq` and of
        // `lanes`; these need no alignment.
        unsafe {
            let q = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.q.as_ptr().add(16 * half).cast()));
            let x = _mm256_loadu_si256(xq.as_ptr().add(16 * half).cast());
            let pairs = _mm256_cvtepi32_ps(_mm256_madd_epi16(q, x));
            let scale = _mm256_set1_ps(xd * w.d[half]);
            let lane = lanes.as_mut_ptr().add(8 * half);
            _mm256_storeu_ps(lane, _mm256_fmadd_ps(scale, pairs, _mm256_loadu_ps(lane)));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn avx512(w: &Block32, (xq, xd): Input<'_>, lanes: &mut [f32; 16]) {
    use core::arch::x86_64::*;
    let scales = [xd * w.d[0], xd * w.d[1]];
    // SAFETY: the loads and the store are as large as the arrays; these need no alignment.
    unsafe {
        let q = _mm512_cvtepi8_epi16(_mm256_loadu_si256(w.q.as_ptr().cast()));
        let x = _mm512_loadu_si512(xq.as_ptr().cast());
        let pairs = _mm512_cvtepi32_ps(_mm512_madd_epi16(q, x));
        let low = _mm512_set1_ps(scales[0]);
        let scale = _mm512_mask_blend_ps(0xff00, low, _mm512_set1_ps(scales[1]));
        let lane = lanes.as_mut_ptr();
        _mm512_storeu_ps(lane, _mm512_fmadd_ps(scale, pairs, _mm512_loadu_ps(lane)));
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
