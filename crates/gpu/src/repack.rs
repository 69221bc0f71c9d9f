//! From a file's blocks to what kernels read: values in one buffer, 16 bytes at a time, scales in
//! another.

use half::f16;
use siskin_formats::formats::Q3_K;
use siskin_formats::{Format, TensorType, decode, formats};

/// How a matrix is kept on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub enum GpuType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q8_0,
    /// 8-bit with scale and minimum.
    Q8_1,
    Q4_K,
    Q6_K,
    NF4,
}

impl GpuType {
    pub const ALL: [Self; 10] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q8_0,
        Self::Q8_1,
        Self::Q4_K,
        Self::Q6_K,
        Self::NF4,
    ];

    /// How a file's type is kept.
    pub fn of(ty: TensorType) -> Self {
        match ty {
            TensorType::F32 => Self::F32,
            // A power of two with any exponent, as only BF16's scale-free values have.
            TensorType::BF16 | TensorType::MXFP4 => Self::BF16,
            TensorType::Q4_0 => Self::Q4_0,
            TensorType::Q4_1 => Self::Q4_1,
            TensorType::Q5_0 | TensorType::Q8_0 | TensorType::IQ4_NL => Self::Q8_0,
            TensorType::Q5_1 => Self::Q8_1,
            TensorType::Q4_K => Self::Q4_K,
            TensorType::Q3_K | TensorType::Q6_K => Self::Q6_K,
            TensorType::F16 | TensorType::Q2_K | TensorType::Q5_K => Self::F16,
            TensorType::NF4 => Self::NF4,
        }
    }

    /// Whether kernels can compute with its values as integers.
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::NF4)
    }

    /// Bytes of values of `n` weights.
    pub fn value_bytes(self, n: usize) -> usize {
        match self {
            Self::F32 => n * 4,
            Self::F16 | Self::BF16 => n * 2,
            Self::Q4_0 | Self::Q4_1 | Self::Q4_K | Self::NF4 => n / 2,
            Self::Q8_0 | Self::Q8_1 => n,
            Self::Q6_K => n / 4 * 3,
        }
    }
}

impl GpuType {
    /// Bytes of scales of `n` weights.
    pub fn scale_bytes(self, n: usize) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q4_0 | Self::Q8_0 => n / 32 * 2,
            Self::Q4_1 | Self::Q8_1 => n / 32 * 4,
            Self::Q4_K | Self::Q6_K => n / 256 * 20,
            Self::NF4 => n / 64 * 4,
        }
    }
}

/// What `inspect` says of how a type runs on the GPU.
pub fn stored_as(ty: TensorType) -> &'static str {
    match ty {
        TensorType::Q5_0 | TensorType::IQ4_NL => "as 8-bit with the same scale (exact)",
        TensorType::MXFP4 => "as BF16 (exact)",
        TensorType::Q5_1 => "as 8-bit with the same scale and minimum (exact)",
        TensorType::Q3_K => "as Q6_K (exact)",
        TensorType::Q2_K | TensorType::Q5_K => "as F16 (rounded)",
        _ => "as it is",
    }
}

fn pack(q: &[i8; 32]) -> impl Iterator<Item = u8> {
    q.map(|q| q as u8).into_iter()
}

/// Appends whole rows of `ty` to the values and scales of [`GpuType::of`] it.
pub(crate) fn repack(ty: TensorType, bytes: &[u8], values: &mut Vec<u8>, scales: &mut Vec<u8>) {
    let blocks = bytes.chunks_exact(ty.block_bytes());
    match ty {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => values.extend(bytes),
        TensorType::Q4_0 => blocks.for_each(|b| {
            scales.extend(&b[..2]);
            values.extend(&b[2..]);
        }),
        TensorType::Q4_1 | TensorType::NF4 => blocks.for_each(|b| {
            scales.extend(&b[..4]);
            values.extend(&b[4..]);
        }),
        TensorType::Q8_0 => blocks.for_each(|b| {
            scales.extend(&b[..2]);
            values.extend(&b[2..]);
        }),
        TensorType::Q5_0 => blocks.for_each(|b| {
            scales.extend(&b[..2]);
            values.extend(pack(&formats::Q5_0::unpack(b, 0).q));
        }),
        TensorType::IQ4_NL => blocks.for_each(|b| {
            scales.extend(&b[..2]);
            values.extend(pack(&formats::IQ4_NL::unpack(b, 0).q));
        }),
        TensorType::MXFP4 => blocks.for_each(|b| {
            let mut row = [0f32; 32];
            decode(ty, b, &mut row);
            // Two bits of each value are not zero: cutting it off loses nothing.
            values.extend(
                row.iter()
                    .flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()),
            );
        }),
        TensorType::Q5_1 => blocks.for_each(|b| {
            scales.extend(&b[..4]);
            values.extend(pack(&formats::Q5_1::unpack(b, 0).q));
        }),
        TensorType::Q4_K => blocks.for_each(|b| {
            scales.extend(&b[..4]);
            let pairs: Vec<_> = (0..8)
                .map(|run| formats::k_scale_min(&b[4..16], run))
                .collect();
            scales.extend(pairs.iter().map(|p| p.0));
            scales.extend(pairs.iter().map(|p| p.1));
            values.extend(&b[16..]);
        }),
        TensorType::Q6_K => blocks.for_each(|b| {
            scales.extend([b[208], b[209], 0, 0]);
            scales.extend(&b[192..208]);
            values.extend(&b[..192]);
        }),
        TensorType::Q3_K => blocks.for_each(|b| {
            scales.extend([b[108], b[109], 0, 0]);
            scales.extend((0..16).map(|i| Q3_K::scale(b, i) as u8));
            let (mut low, mut high) = ([0u8; 128], [0u8; 64]);
            for run in 0..8 {
                let (half, j) = (run / 4, run % 4);
                for (l, q) in Q3_K::unpack(b, run).q.iter().enumerate() {
                    let q = (q + 32) as u8;
                    low[half * 64 + (j % 2) * 32 + l] |= (q & 0xf) << (4 * (j / 2));
                    high[half * 32 + l] |= (q >> 4) << (2 * j);
                }
            }
            values.extend(low);
            values.extend(high);
        }),
        TensorType::Q2_K | TensorType::Q5_K => blocks.for_each(|b| {
            let mut row = [0f32; 256];
            decode(ty, b, &mut row);
            values.extend(row.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
        }),
    }
}
