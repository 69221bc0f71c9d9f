//! Encoders that search for the scales of least error: of the K formats, of those in blocks of 32 with five bits or with
//! a table, and of all of them where columns have an importance.
//!
//! They are not in the table of formats: what calls only [`encode`] does not contain them.

mod fit;
mod k;
mod small;

use crate::{Error, Result, TensorType, encode};

/// The values of one storage block, and what their errors weigh.
#[derive(Clone, Copy)]
struct Block<'a> {
    x: &'a [f32],
    /// Of each value's column.
    importance: Option<&'a [f32]>,
    /// Mean square of the row's values.
    row_power: f32,
}

impl<'a> Block<'a> {
    /// Its parts of `len` values.
    fn parts(self, len: usize) -> impl Iterator<Item = Self> {
        let part = move |i: usize| Self {
            x: &self.x[i * len..][..len],
            importance: self.importance.map(|w| &w[i * len..][..len]),
            ..self
        };
        (0..self.x.len() / len).map(part)
    }

    fn power(self) -> f32 {
        power(self.x)
    }

    /// What the errors weigh: `importance · √(power + x²)`, or without an importance what `plain` makes of a value.
    fn weights(self, power: f32, plain: impl Fn(f32) -> f32) -> Vec<f32> {
        match self.importance {
            Some(w) => {
                let pairs = w.iter().zip(self.x);
                pairs.map(|(w, x)| w * (power + x * x).sqrt()).collect()
            }
            None => self.x.iter().map(|x| plain(*x)).collect(),
        }
    }
}

/// Mean square.
fn power(x: &[f32]) -> f32 {
    x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32
}

/// Appends one storage block.
type EncodeBlock = fn(Block<'_>, &mut Vec<u8>);

/// The encoder of a type that is searched for, with or without an importance.
fn searched(ty: TensorType, is_weighted: bool) -> Option<EncodeBlock> {
    Some(match ty {
        TensorType::Q4_0 if is_weighted => small::q4_0,
        TensorType::Q4_1 if is_weighted => small::q4_1,
        TensorType::Q5_0 => small::q5_0,
        TensorType::Q5_1 => small::q5_1,
        TensorType::IQ4_NL => small::iq4_nl,
        TensorType::IQ4_XS => small::iq4_xs,
        TensorType::Q2_K => k::q2,
        TensorType::Q3_K => k::q3,
        TensorType::Q4_K => k::q4,
        TensorType::Q5_K => k::q5,
        TensorType::Q6_K => k::q6,
        _ => return None,
    })
}

/// Encodes the rows of a matrix `[rows, cols]`. `importance` has a weight, not negative, for the squared error of each
/// column: the mean square of what the column is multiplied by (ggml's importance matrix). Types whose encoder has
/// nothing to choose ignore it.
///
/// # Errors
/// [`Error::BlockShape`] if rows are not whole blocks, [`Error::CannotEncode`] for a type without an encoder,
/// [`Error::Importance`] if there is not one weight for each column, [`Error::NotFinite`] for values that no scale holds.
///
/// ```
/// use siskin_formats::{TensorType, decode, encode_rows};
///
/// let values: Vec<f32> = (0..512).map(|i| (i as f32).sin()).collect();
/// let bytes = encode_rows(TensorType::Q6_K, &values, 256, None)?;
/// let mut decoded = vec![0.0; 512];
/// decode(TensorType::Q6_K, &bytes, &mut decoded);
/// assert!(values.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 0.03));
/// # Ok::<(), siskin_formats::Error>(())
/// ```
pub fn encode_rows(
    ty: TensorType,
    values: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>> {
    if importance.is_some_and(|w| w.len() != cols) {
        return Err(Error::Importance {
            cols,
            found: importance.map_or(0, <[f32]>::len),
        });
    }
    let Some(encoder) = searched(ty, importance.is_some()) else {
        return encode(ty, values);
    };
    let block = ty.block_len();
    let whole = cols > 0 && cols.is_multiple_of(block) && values.len().is_multiple_of(cols);
    let bytes = ty.bytes_of(values.len()).filter(|_| whole);
    let Some(bytes) = bytes else {
        return Err(Error::BlockShape {
            name: "encoder".into(),
            tensor: "input".into(),
            shape: vec![values.len() / cols.max(1), cols],
            ty,
            block,
        });
    };
    let all = values.iter().chain(importance.into_iter().flatten());
    if !all.copied().all(f32::is_finite) {
        return Err(Error::NotFinite(ty));
    }
    let mut out = Vec::with_capacity(bytes);
    for row in values.chunks_exact(cols) {
        let row = Block {
            x: row,
            importance,
            row_power: power(row),
        };
        row.parts(block).for_each(|b| encoder(b, &mut out));
    }
    Ok(out)
}
