//! MXFP4 as gpt-oss's checkpoints have it: a tensor of codes and one of scales, which are combined into ggml's blocks
//! (`transformers.integrations.mxfp4.convert_moe_packed_tensors`).

use crate::TensorType;

/// What the two tensors are called, after the name of the tensor that they make up.
pub(crate) const CODES: &str = "_blocks";
pub(crate) const SCALES: &str = "_scales";

/// Bytes of codes for a scale: two in a byte, the first in the low bits.
const CODE_BYTES: usize = 16;

/// A tensor's scales: a byte for each 32 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scales {
    /// Offset in the file.
    pub offset: u64,
}

/// The shape `[…, 32 · n]` of the tensor with codes `[…, n, 16]` and scales `[…, n]`; `None` if they are not that.
pub(crate) fn shape_of(codes: &[usize], scales: &[usize]) -> Option<Vec<usize>> {
    let (bytes, groups) = codes.split_last()?;
    let (n, outer) = groups.split_last()?;
    let cols = n.checked_mul(TensorType::MXFP4.block_len())?;
    (*bytes == CODE_BYTES && groups == scales).then(|| [outer, &[cols]].concat())
}

/// Bytes of codes and of scales for so many values.
pub(crate) fn bytes_of(values: usize) -> [u64; 2] {
    [values as u64 / 2, values as u64 / 32]
}

/// ggml's blocks: the scale, then codes i and i + 16 in the low and the high bits of the i-th byte.
pub(crate) fn blocks(codes: &[u8], scales: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(codes.len() + scales.len());
    for (codes, scale) in codes.as_chunks::<CODE_BYTES>().0.iter().zip(scales) {
        let code = |i: usize| codes[i / 2] >> (4 * (i % 2)) & 15;
        out.push(*scale);
        out.extend((0..CODE_BYTES).map(|i| code(i) | code(i + CODE_BYTES) << 4));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn codes_are_in_order() {
        // 0, 0.5, 1, … of both signs, twice, times 2.
        let codes: Vec<u8> = (0..16).map(|i| i % 8 * 2 | (i % 8 * 2 + 1) << 4).collect();
        let mut out = [0.0; 32];
        decode(TensorType::MXFP4, &blocks(&codes, &[128]), &mut out);
        let half = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (i, v) in out.iter().enumerate() {
            let sign = if i % 16 < 8 { 2.0 } else { -2.0 };
            assert_eq!(*v, sign * half[i % 8], "{i}");
        }
        assert_eq!(shape_of(&[2, 6, 3, 16], &[2, 6, 3]), Some(vec![2, 6, 96]));
        assert_eq!(shape_of(&[6, 3, 16], &[6, 2]), None);
    }
}
