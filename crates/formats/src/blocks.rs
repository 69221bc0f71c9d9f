//! The block formats. Every format of integers is seen in one way: runs of 32 signed 8-bit integers
//! `q`, with a scale `d` and an offset `m` for each half of 16, where `value = d · q + m`.
//! Decoding, the CPU's integer dot products and the GPU's repacking all use this view.
//!
//! Layouts: ggml's `ggml-common.h` and the reference decoder `gguf/quants.py`. The order of the
//! f32 operations is the reference's, so decoded values are bit-exact.

use multiversion::{multiversion, target::match_target};

use crate::isa::Isa;
use crate::{Error, Result, TensorType};

/// Length of the runs in which all formats of integers are viewed.
pub const BLOCK_32: usize = 32;

/// 32 weights as integers with a scale and an offset for each half of 16: `value[i] = d[i / 16] · q[i] + m[i / 16]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block32<B> {
    /// The integers, as a processor has them in its registers.
    pub q: B,
    /// The scale of each half.
    pub d: [f32; 2],
    /// The offset of each half; −0.0 for formats without one, since adding it changes no bit.
    pub m: [f32; 2],
}

/// Appends the encoded blocks of values, whose number is a multiple of the block length.
pub type Encode = fn(&[f32], &mut Vec<u8>);

/// One storage format of integers.
pub trait Format {
    /// ggml's number for it, where GGUF has it.
    const GGML: Option<u32>;
    /// Weights in a storage block: a multiple of 32.
    const LEN: usize;
    /// Bytes of a storage block.
    const BYTES: usize;
    /// Whether both halves of each run have the same scale and offset.
    const IS_UNIFORM: bool;
    /// Whether a run may have an offset.
    const HAS_OFFSET: bool;
    /// The encoder; `None` for a format that is only read.
    const ENCODE: Option<Encode> = None;
    /// The `run`-th run of 32 weights (`0..LEN / 32`) of one storage block of `BYTES` bytes.
    fn unpack<I: Isa>(isa: I, block: &[u8], run: usize) -> Block32<I::Bytes>;
}

/// One storage format whose codes are not integers with scales.
pub trait Values {
    /// ggml's number for it, where GGUF has it.
    const GGML: Option<u32>;
    /// Weights in a storage block: 1 for plain values.
    const LEN: usize;
    /// Bytes of a storage block.
    const BYTES: usize;
    /// The encoder.
    const ENCODE: Encode;
    /// Decodes whole blocks.
    fn decode<I: Isa>(isa: I, blocks: &[u8], out: &mut [f32]);
}

/// Code that is compiled once for each format of integers; [`TensorType::with_format`] runs it.
pub trait ForFormat {
    /// What the code returns.
    type Out;
    /// Runs the code for one format.
    fn run<F: Format>(self) -> Self::Out;
}

/// Converts f16 bits to f32, exactly for every finite value; written so that a loop over it vectorises.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = (u32::from(bits) & 0x8000) << 16;
    let rest = u32::from(bits) & 0x7fff;
    if rest >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | ((rest & 0x3ff) << 13));
    }
    // Reading the shifted bits as an f32 is short of 2^112 in the exponent; the product is exact,
    // and turns f16 subnormals into f32 normals.
    let magnitude = f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(sign | magnitude.to_bits())
}

/// [`f16_to_f32`] in fewer instructions and without a branch, but that what is not a number becomes infinite.
#[inline(always)]
pub(crate) fn scale_of(bits: u16) -> f32 {
    const UP: f32 = f32::from_bits((127 + 112) << 23);
    const DOWN: f32 = f32::from_bits((127 - 112) << 23);
    // The sign goes to its place, the rest as there.
    let shifted = f32::from_bits((i32::from(bits as i16) << 13) as u32 & 0x8fff_e000);
    // By 2^112, on a way that only infinity does not come back from.
    shifted * UP * UP * DOWN
}

/// Decodes whole blocks of `ty` to f32.
///
/// # Panics
/// If `bytes` does not hold exactly `out.len()` weights; callers check sizes when they open a file.
pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        ty.bytes_of(out.len()),
        Some(bytes.len()),
        "size of {ty} data"
    );
    ty.decoder()(bytes, out);
}

/// Decodes whole blocks of a format of integers.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx2+fma+f16c",
    "x86_64+avx2+fma+f16c"
))]
pub(crate) fn decode_integers<F: Format>(bytes: &[u8], out: &mut [f32]) {
    match_target! {
        "x86_64+avx2+fma+f16c" => {
            // SAFETY: these versions run where the processor has the instructions.
            let isa = unsafe { crate::isa::Avx2::new() };
            decode_with::<F, _>(isa, bytes, out);
        },
        _ => decode_with::<F, _>(crate::isa::Baseline::default(), bytes, out),
    }
}

#[inline(always)]
fn decode_with<F: Format, I: Isa>(isa: I, bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes
        .chunks_exact(F::BYTES)
        .zip(out.chunks_exact_mut(F::LEN));
    for (block, out) in blocks {
        for (run, out) in out.chunks_exact_mut(BLOCK_32).enumerate() {
            let Block32 { q, d, m } = F::unpack(isa, block, run);
            for (i, (out, q)) in out.iter_mut().zip(isa.store(q)).enumerate() {
                *out = d[i / 16] * f32::from(q) + m[i / 16];
            }
        }
    }
}

/// Decodes whole blocks of a format of values.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx2+fma+f16c",
    "x86_64+avx2+fma+f16c"
))]
pub(crate) fn decode_values<V: Values>(bytes: &[u8], out: &mut [f32]) {
    match_target! {
        "x86_64+avx2+fma+f16c" => {
            // SAFETY: as in `decode_integers`.
            let isa = unsafe { crate::isa::Avx2::new() };
            V::decode(isa, bytes, out);
        },
        _ => V::decode(crate::isa::Baseline::default(), bytes, out),
    }
}

/// Encodes f32 values as blocks of `ty`.
///
/// # Errors
/// [`Error::BlockShape`] if the number of values is not a multiple of the block length, [`Error::CannotEncode`] for a
/// type without an encoder.
///
/// ```
/// use siskin_formats::{TensorType, decode, encode};
///
/// let values = [0.5; 64];
/// let bytes = encode(TensorType::Q4_0, &values)?;
/// assert_eq!(Some(bytes.len()), TensorType::Q4_0.bytes_of(64));
/// let mut decoded = [0.0; 64];
/// decode(TensorType::Q4_0, &bytes, &mut decoded);
/// assert_eq!(decoded, values);
/// # Ok::<(), siskin_formats::Error>(())
/// ```
pub fn encode(ty: TensorType, values: &[f32]) -> Result<Vec<u8>> {
    let Some(bytes) = ty.bytes_of(values.len()) else {
        return Err(Error::BlockShape {
            name: "encoder".into(),
            tensor: "input".into(),
            shape: vec![values.len()],
            ty,
            block: ty.block_len(),
        });
    };
    let encode = ty.encoder().ok_or(Error::CannotEncode(ty))?;
    let mut out = Vec::with_capacity(bytes);
    encode(values, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_becomes_what_it_is() {
        for bits in 0..=u16::MAX {
            let wanted = half::f16::from_bits(bits).to_f32();
            let (found, scale) = (f16_to_f32(bits), scale_of(bits));
            if wanted.is_nan() {
                assert!(found.is_nan() && scale.is_infinite(), "{bits:04x}");
            } else {
                let same = [found, scale].map(|v| v.to_bits() == wanted.to_bits());
                assert_eq!(same, [true; 2], "{bits:04x}: {found} {scale} {wanted}");
            }
        }
    }
}
