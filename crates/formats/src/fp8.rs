//! 8-bit floats (E4M3) with scales apart, as DeepSeek's checkpoints, transformers' `fp8` and compressed-tensors'
//! `float-quantized` have them: a weight is its code's value times its scale. They are read as F16, which holds both the
//! code's 4 bits and most of the scale's: a tensor is converted when it is read.

use half::f16;

use crate::blocks::f16_to_f32;
use crate::checkpoint::Apart;
use crate::formats::float_at;
use crate::{Place, TensorInfo, TensorType};

/// What the scales of `X.weight` are called, after its name.
pub(crate) const SCALES: [&str; 2] = ["_scale_inv", "_scale"];

/// Rows and columns that share a scale, where there is not one for each row or for all.
const BLOCK: usize = 128;

/// A tensor's scales.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scales {
    /// Where they are.
    pub at: Place,
    /// F32, F16 or BF16.
    pub ty: TensorType,
    /// Rows and columns of the weight.
    shape: [usize; 2],
    /// Rows and columns that share a scale.
    pub block: [usize; 2],
}

impl Scales {
    /// Of a matrix of this shape, if scales of their shape are understood: one for all, for each row, or for each
    /// 128 × 128.
    pub fn new(matrix: &[usize], scales: &[usize], ty: TensorType, at: Place) -> Option<Self> {
        let &[rows, cols] = matrix else { return None };
        let n: usize = scales.iter().product();
        let block = match scales {
            _ if n == 1 => [rows, cols],
            [n] | [n, 1] if *n == rows => [1, cols],
            [a, b] if [*a, *b] == [rows.div_ceil(BLOCK), cols.div_ceil(BLOCK)] => [BLOCK; 2],
            _ => return None,
        };
        let is_whole = rows > 0 && cols > 0 && ty.bytes_of(n) == Some(at.bytes as usize);
        is_whole.then_some(Self {
            at,
            ty,
            shape: [rows, cols],
            block,
        })
    }

    /// What the tensor with these codes is read as.
    pub fn tensor(self, name: String, shape: Vec<usize>, codes: Place) -> TensorInfo {
        TensorInfo {
            name,
            shape,
            ty: TensorType::F16,
            file: codes.file,
            offset: codes.offset,
            bytes: 2 * codes.bytes,
            apart: Some(Apart::Fp8(self)),
        }
    }

    /// The tensor as F16, from its codes and its scales.
    pub fn values(&self, codes: &[u8], scales: &[u8]) -> Vec<u8> {
        let [_, cols] = self.shape;
        let across = cols.div_ceil(self.block[1]);
        let mut out = Vec::with_capacity(2 * codes.len());
        for (row, codes) in codes.chunks_exact(cols).enumerate() {
            let first = row / self.block[0] * across;
            for (i, codes) in codes.chunks(self.block[1]).enumerate() {
                let scale = float_at(self.ty, scales, first + i);
                let values = codes.iter().map(|code| f16::from_f32(value(*code) * scale));
                out.extend(values.flat_map(f16::to_le_bytes));
            }
        }
        out
    }
}

/// What a code stands for: a sign, 4 bits of exponent and 3 of mantissa, without infinities (OCP, "OFP8", 2023).
fn value(code: u8) -> f32 {
    if code & 0x7f == 0x7f {
        return f32::NAN;
    }
    let bits = u16::from(code & 0x80) << 8 | u16::from(code & 0x7f) << 7;
    // The bits of an f16 whose exponent is 8 too small.
    f16_to_f32(bits) * 256.0
}
