use half::{bf16, f16};

use crate::{Error, Result, TensorType};

/// Encodes f32 values, as ggml's reference quantisers do (`ggml-quants.c`, `quantize_row_*_ref`), and for NF4
/// bitsandbytes' (`quantize_4bit`).
///
/// # Errors
/// For the types without an encoder, and when `values` is no multiple of the block length.
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
    let mut out = Vec::with_capacity(bytes);
    match ty {
        TensorType::F32 => values.iter().for_each(|v| out.extend(v.to_le_bytes())),
        TensorType::F16 => values
            .iter()
            .for_each(|v| out.extend(f16::from_f32(*v).to_le_bytes())),
        TensorType::BF16 => values
            .iter()
            .for_each(|v| out.extend(bf16::from_f32(*v).to_le_bytes())),
        TensorType::Q4_0 => values.chunks_exact(32).for_each(|x| q4_0(x, &mut out)),
        TensorType::Q4_1 => values.chunks_exact(32).for_each(|x| q4_1(x, &mut out)),
        TensorType::Q8_0 => values.chunks_exact(32).for_each(|x| q8_0(x, &mut out)),
        TensorType::NF4 => crate::nf4::encode(values, &mut out),
        other => return Err(Error::CannotEncode(other)),
    }
    Ok(out)
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn q4_0(x: &[f32], out: &mut Vec<u8>) {
    // The value of greatest magnitude, with its sign, becomes −8.
    let peak = x
        .iter()
        .fold(0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    let d = peak / -8.0;
    let id = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    let q = |v: f32| (v * id + 8.5).clamp(0.0, 15.0) as u8;
    out.extend((0..16).map(|i| q(x[i]) | (q(x[i + 16]) << 4)));
}

fn q4_1(x: &[f32], out: &mut Vec<u8>) {
    let min = x.iter().copied().fold(f32::INFINITY, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (max - min) / 15.0;
    let id = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(f16::from_f32(min).to_le_bytes());
    let q = |v: f32| ((v - min) * id + 0.5).clamp(0.0, 15.0) as u8;
    out.extend((0..16).map(|i| q(x[i]) | (q(x[i + 16]) << 4)));
}

fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let peak = x.iter().fold(0f32, |a, b| a.max(b.abs()));
    let d = peak / 127.0;
    let id = inverse(d);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(x.iter().map(|v| (v * id).round() as i8 as u8));
}
