//! Matrices of integers with a scale and a zero point for each group of columns, `scale (code − zero)`, whose codes,
//! scales and zero points are tensors of their own: GPTQ, AWQ, compressed-tensors, LLM.int8(), torchao. They become
//! [INT4] or [INT8]; where the columns of a group are apart, as GPTQ's act-order leaves them, F16.
//!
//! [INT4]: crate::formats::INT4
//! [INT8]: crate::formats::INT8

use half::f16;

use crate::formats::{float_at, scale_and_zero};
use crate::{Error, Place, Result, TensorType};

/// Weights in a block of either type.
pub(crate) const LEN: usize = 32;
/// Rows whose blocks are made together: in GPTQ's and AWQ's order of words their codes share cache lines.
const TILE: usize = 128;

/// Rows or columns of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// How many share a word, as a power of two.
    pub log2: u32,
    /// Words from one of these to the next.
    pub stride: usize,
}

impl Axis {
    pub fn packed(per_word: usize, stride: usize) -> Self {
        Self {
            log2: per_word.ilog2(),
            stride,
        }
    }

    pub fn apart(stride: usize) -> Self {
        Self::packed(1, stride)
    }

    fn word(self, i: usize) -> usize {
        (i >> self.log2) * self.stride
    }

    fn within(self, i: usize) -> u32 {
        (i & ((1 << self.log2) - 1)) as u32
    }
}

/// How the integers of a tensor are stored, which has a row for each of the matrix, and a column for each of its columns
/// or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Without a sign, in words of 32 bits.
    Words {
        rows: Axis,
        cols: Axis,
        /// Whether a word has first the even ones of its eight, then the odd ones.
        interleaved: bool,
        /// Added to each word.
        plus: u32,
    },
    /// Signed bytes: a code is half of its range more.
    Bytes {
        /// From one row to the next.
        stride: usize,
    },
}

impl Field {
    fn get(self, bytes: &[u8], bits: u32, row: usize, col: usize) -> u32 {
        match self {
            Self::Words {
                rows,
                cols,
                interleaved,
                plus,
            } => {
                let word = word_at(bytes, rows.word(row) + cols.word(col)).wrapping_add(plus);
                let mut i = rows.within(row) | cols.within(col);
                if interleaved {
                    i = i >> 1 | (i & 1) << 2;
                }
                word >> (bits * i) & ((1 << bits) - 1)
            }
            Self::Bytes { stride } => {
                let value = i32::from(bytes[row * stride + col] as i8);
                (value + (1 << (bits - 1))) as u32
            }
        }
    }

    /// The codes of a block: as [`Self::get`], but each word is read once.
    fn block(self, bytes: &[u8], bits: u32, row: usize, col: usize) -> [u8; LEN] {
        let mut out = [0; LEN];
        match self {
            Self::Words {
                rows,
                cols,
                plus: 0,
                ..
            } if rows.log2 == 0 => {
                let mask = ((1u32 << bits) - 1) as u8;
                let first = rows.word(row) + cols.word(col);
                let words = out.chunks_exact_mut(1 << cols.log2).enumerate();
                for (i, out) in words {
                    let mut word = word_at(bytes, first + i * cols.stride);
                    for out in out {
                        *out = word as u8 & mask;
                        word >>= bits;
                    }
                }
            }
            _ => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = self.get(bytes, bits, row, col + i) as u8;
                }
            }
        }
        out
    }
}

fn word_at(bytes: &[u8], i: usize) -> u32 {
    let word = bytes[4 * i..].first_chunk();
    word.map_or(0, |b| u32::from_le_bytes(*b))
}

/// Floats, a scale each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scales {
    /// F32, F16 or BF16.
    pub ty: TensorType,
    /// From one row's to the next, and from one group's.
    pub strides: [usize; 2],
    /// What they are divided by.
    pub divisor: f32,
}

/// What a tensor is for that names each column's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// All groups are of columns side by side, which is checked.
    Checked,
    /// Columns of any group; or as if there were no such tensor, if it has a −1.
    Any,
}

/// A small tensor that must say what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The matrix's shape, as 64-bit integers.
    Shape,
    /// 0, for rows that are side by side.
    RowFormat,
}

/// What makes up a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Integers {
    /// Its name, for error messages.
    pub name: String,
    pub shape: [usize; 2],
    pub bits: u32,
    /// Columns of a group.
    pub group: usize,
    pub codes: (Field, Place),
    pub scales: (Scales, Place),
    /// Without them, zero points are half of the range.
    pub zeros: Option<(Field, Place)>,
    pub order: Option<(Order, Place)>,
    pub check: Option<(Check, Place)>,
}

impl Integers {
    /// The type that the matrix becomes.
    pub fn ty(&self) -> TensorType {
        match self.order {
            Some((Order::Any, _)) => TensorType::F16,
            _ if self.bits == 4 => TensorType::INT4,
            _ => TensorType::INT8,
        }
    }

    pub fn places(&self) -> Vec<Place> {
        let more = [
            self.zeros.map(|z| z.1),
            self.order.map(|o| o.1),
            self.check.map(|c| c.1),
        ];
        let all = [self.codes.1, self.scales.1].into_iter();
        all.chain(more.into_iter().flatten()).collect()
    }

    /// The bytes of the type, from those of [`Self::places`].
    ///
    /// # Errors
    /// If a zero point or a group is out of range, groups are in another order than the configuration says, or a check
    /// fails.
    pub fn blocks(&self, parts: &[Vec<u8>]) -> Result<Vec<u8>> {
        let mut rest = parts.iter().map(Vec::as_slice);
        let mut next = || rest.next().unwrap_or_default();
        let (codes, scales) = (next(), next());
        let zeros = self.zeros.map(|z| (z.0, next()));
        let order = self.order.map(|o| (o.0, next()));
        self.check(self.check.map(|c| (c.0, next())))?;
        let group_of = self.groups(order)?;
        let [rows, cols] = self.shape;
        let mask = (1 << self.bits) - 1;
        let zero = |row: usize, group: usize| match zeros {
            None => Ok(1 << (self.bits - 1)),
            Some((field, bytes)) => match field.get(bytes, self.bits, row, group) {
                zero if zero <= mask => Ok(zero),
                _ => Err(self.damaged(&format!(
                    "the zero point of row {row}, group {group} is out of the range of {} bits",
                    self.bits
                ))),
            },
        };
        let code = |row, col| self.codes.0.get(codes, self.bits, row, col);
        let ty = self.ty();
        let mut out = Vec::with_capacity(ty.bytes_of(rows * cols).unwrap_or_default());
        if let Some(group_of) = group_of.filter(|_| ty == TensorType::F16) {
            let n_groups = cols.div_ceil(self.group);
            for row in 0..rows {
                let mut of_group = vec![];
                for group in 0..n_groups {
                    of_group.push((self.scale(scales, row, group), zero(row, group)? as f32));
                }
                let values = group_of.iter().enumerate().map(|(col, group)| {
                    let (scale, zero) = of_group[*group];
                    f16::from_f32(scale * (code(row, col) as f32 - zero))
                });
                out.extend(values.flat_map(f16::to_le_bytes));
            }
            return Ok(out);
        }
        let (bytes, per_row) = (ty.block_bytes(), cols / LEN);
        out.resize(rows * per_row * bytes, 0);
        for first in (0..rows).step_by(TILE) {
            for (i, col) in (0..cols).step_by(LEN).enumerate() {
                let group = col / self.group;
                for row in first..rows.min(first + TILE) {
                    let scale = self.scale(scales, row, group);
                    let word = scale_and_zero(self.bits, scale, zero(row, group)?);
                    let q = self.codes.0.block(codes, self.bits, row, col);
                    // Codes of 4 bits may be stored in bytes.
                    if q.iter().any(|q| u32::from(*q) > mask) {
                        return Err(self.damaged(&format!(
                            "a code of row {row} is out of the range of {} bits",
                            self.bits
                        )));
                    }
                    let out = &mut out[(row * per_row + i) * bytes..][..bytes];
                    let (head, values) = out.split_at_mut(4);
                    head.copy_from_slice(&word.to_le_bytes());
                    for (j, value) in values.iter_mut().enumerate() {
                        *value = match self.bits {
                            4 => q[j] | q[j + 16] << 4,
                            _ => q[j] ^ 0x80,
                        };
                    }
                }
            }
        }
        Ok(out)
    }

    fn scale(&self, bytes: &[u8], row: usize, group: usize) -> f32 {
        let Scales {
            ty,
            strides,
            divisor,
        } = self.scales.0;
        float_at(ty, bytes, row * strides[0] + group * strides[1]) / divisor
    }

    fn check(&self, found: Option<(Check, &[u8])>) -> Result<()> {
        match found {
            Some((Check::Shape, bytes)) => {
                let words = bytes.as_chunks::<8>().0.iter();
                let shape: Vec<_> = words.map(|w| u64::from_le_bytes(*w)).collect();
                match shape == self.shape.map(|n| n as u64) {
                    true => Ok(()),
                    false => Err(self.damaged(&format!(
                        "its `weight_shape` is {shape:?}, but its codes are {:?}",
                        self.shape
                    ))),
                }
            }
            Some((Check::RowFormat, bytes)) if bytes.iter().any(|b| *b != 0) => {
                Err(self.damaged("its `weight_format` is not that of rows"))
            }
            _ => Ok(()),
        }
    }

    /// The group of each column, if any tensor says it.
    fn groups(&self, order: Option<(Order, &[u8])>) -> Result<Option<Vec<usize>>> {
        let Some((order, bytes)) = order else {
            return Ok(None);
        };
        let words = bytes.as_chunks::<4>().0.iter();
        let found: Vec<i32> = words.map(|w| i32::from_le_bytes(*w)).collect();
        let in_order = |col: usize| col / self.group;
        if order == Order::Any && found.contains(&-1) {
            return Ok(Some((0..found.len()).map(in_order).collect()));
        }
        let n = self.shape[1].div_ceil(self.group);
        let mut out = Vec::with_capacity(found.len());
        for (col, group) in found.into_iter().enumerate() {
            let known = usize::try_from(group).ok().filter(|g| *g < n);
            let Some(known) = known else {
                return Err(self.damaged(&format!(
                    "column {col} is of group {group}, but there are {n} groups"
                )));
            };
            if order == Order::Checked && known != in_order(col) {
                return Err(self.damaged(&format!(
                    "column {col} is of group {known}, but `desc_act` is false in config.json; set it to true"
                )));
            }
            out.push(known);
        }
        Ok(Some(out))
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged {
            name: self.name.clone(),
            what: what.into(),
        }
    }
}
