//! Values as they are.

use half::{bf16, f16};

use crate::TensorType;
use crate::blocks::{Encode, Values, f16_to_f32};
use crate::isa::Isa;

/// The value of this index, of F32, F16 or BF16.
pub(crate) fn float_at(ty: TensorType, bytes: &[u8], i: usize) -> f32 {
    let two = |i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    match ty {
        TensorType::F16 => f16::from_bits(two(i)).to_f32(),
        TensorType::BF16 => bf16::from_bits(two(i)).to_f32(),
        _ => bytes[4 * i..]
            .first_chunk()
            .map_or(0.0, |b| f32::from_le_bytes(*b)),
    }
}

/// IEEE 754 single precision, 4 bytes.
pub struct F32;
impl Values for F32 {
    const GGML: Option<u32> = Some(0);
    const LEN: usize = 1;
    const BYTES: usize = 4;
    const ENCODE: Encode = |values, out| values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    #[inline(always)]
    fn decode<I: Isa>(_: I, bytes: &[u8], out: &mut [f32]) {
        out.iter_mut()
            .zip(bytes.as_chunks::<4>().0)
            .for_each(|(o, b)| *o = f32::from_le_bytes(*b));
    }
}

/// IEEE 754 half precision, 2 bytes.
pub struct F16;
impl Values for F16 {
    const GGML: Option<u32> = Some(1);
    const LEN: usize = 1;
    const BYTES: usize = 2;
    const ENCODE: Encode = |values, out| {
        let bits = values.iter().map(|v| f16::from_f32(*v).to_le_bytes());
        bits.for_each(|b| out.extend(b));
    };
    #[inline(always)]
    fn decode<I: Isa>(isa: I, bytes: &[u8], out: &mut [f32]) {
        let (eights, rest) = out.as_chunks_mut::<8>();
        let (from, from_rest) = bytes.as_chunks::<16>();
        for (out, bytes) in eights.iter_mut().zip(from) {
            *out = isa.f16s(bytes);
        }
        for (out, bytes) in rest.iter_mut().zip(from_rest.as_chunks::<2>().0) {
            *out = f16_to_f32(u16::from_le_bytes(*bytes));
        }
    }
}

/// The upper 2 bytes of an [`F32`]: bfloat16.
pub struct BF16;
impl Values for BF16 {
    const GGML: Option<u32> = Some(30);
    const LEN: usize = 1;
    const BYTES: usize = 2;
    const ENCODE: Encode = |values, out| {
        let bits = values.iter().map(|v| bf16::from_f32(*v).to_le_bytes());
        bits.for_each(|b| out.extend(b));
    };
    #[inline(always)]
    fn decode<I: Isa>(_: I, bytes: &[u8], out: &mut [f32]) {
        out.iter_mut()
            .zip(bytes.as_chunks::<2>().0)
            .for_each(|(o, b)| *o = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
    }
}
