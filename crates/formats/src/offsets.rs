//! Matrices of 4-bit integers with a scale and an offset for each group of columns, `scale code + offset`, which are
//! tensors of their own: torchao's `Int4Tensor`. They become [INT4_1], whose scales and offsets are f16: every bfloat16
//! from 2^-17 to 65504 is one, and smaller ones are rounded by at most 2^-25.
//!
//! [INT4_1]: crate::formats::INT4_1

use half::f16;

use crate::formats::float_at;
use crate::integers::LEN;
use crate::{Error, Place, Result, TensorType};

/// What makes up a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offsets {
    /// Its name, for error messages.
    pub name: String,
    pub shape: [usize; 2],
    /// Columns of a group; the last may be shorter.
    pub group: usize,
    /// Signed codes, two in a byte, the first in the low bits.
    pub codes: Place,
    /// F32, F16 or BF16, a row for each group.
    pub scales: (TensorType, Place),
    pub zeros: (TensorType, Place),
}

impl Offsets {
    pub fn places(&self) -> Vec<Place> {
        vec![self.codes, self.scales.1, self.zeros.1]
    }

    /// The bytes of INT4_1, from those of [`Self::places`].
    ///
    /// # Errors
    /// If a scale or an offset is not a number, or larger than an f16.
    pub fn blocks(&self, parts: &[Vec<u8>]) -> Result<Vec<u8>> {
        let [rows, cols] = self.shape;
        let mut out = Vec::with_capacity(rows * cols / LEN * 20);
        for (row, codes) in parts[0].chunks_exact(cols / 2).enumerate() {
            for (i, codes) in codes.as_chunks::<{ LEN / 2 }>().0.iter().enumerate() {
                let group = i * LEN / self.group;
                let at = group * rows + row;
                let scale = float_at(self.scales.0, &parts[1], at);
                let zero = float_at(self.zeros.0, &parts[2], at);
                let head = [scale, zero].map(f16::from_f32);
                if head.iter().any(|v| !v.is_finite()) {
                    return Err(Error::Damaged {
                        name: self.name.clone(),
                        what: format!(
                            "the scale of row {row}, group {group} is {scale}, its offset {zero}"
                        ),
                    });
                }
                out.extend(head.into_iter().flat_map(f16::to_le_bytes));
                let code = |i: usize| (codes[i / 2] >> (4 * (i % 2)) & 15) ^ 8;
                out.extend((0..LEN / 2).map(|i| code(i) | code(i + LEN / 2) << 4));
            }
        }
        Ok(out)
    }
}
