//! The types that tensors are stored in.

use std::fmt;

use crate::blocks::Format;
use crate::{nf4, with_format};

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types)]
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    /// Codes of 16 values, with an f16 scale for each 32.
    IQ4_NL,
    /// Codes of the 16 values of a 4-bit float, with a power of two for each 32.
    MXFP4,
    /// bitsandbytes' 4 bits: codes of 16 values, with an f32 scale for each 64; GGUF does not have it.
    NF4,
}

use TensorType::{
    BF16, F16, F32, IQ4_NL, MXFP4, NF4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};

impl TensorType {
    pub const ALL: [TensorType; 16] = [
        F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, MXFP4,
        NF4,
    ];

    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.ggml() == Some(number))
    }

    /// ggml's number for it, where GGUF has it.
    pub fn ggml(self) -> Option<u32> {
        Some(match self {
            F32 => 0,
            F16 => 1,
            BF16 => 30,
            Q4_0 => 2,
            Q4_1 => 3,
            Q5_0 => 6,
            Q5_1 => 7,
            Q8_0 => 8,
            Q2_K => 10,
            Q3_K => 11,
            Q4_K => 12,
            Q5_K => 13,
            Q6_K => 14,
            IQ4_NL => 20,
            MXFP4 => 39,
            NF4 => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q2_K => "Q2_K",
            Q3_K => "Q3_K",
            Q4_K => "Q4_K",
            Q5_K => "Q5_K",
            Q6_K => "Q6_K",
            IQ4_NL => "IQ4_NL",
            MXFP4 => "MXFP4",
            NF4 => "NF4",
        }
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(" ")
    }

    /// Weights in one storage block (1 for the plain types).
    pub fn block_len(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            NF4 => nf4::LEN,
            _ => with_format!(self, F => F::LEN, 1),
        }
    }

    /// Bytes of one storage block.
    pub fn block_bytes(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            NF4 => nf4::BYTES,
            _ => with_format!(self, F => F::BYTES, 0),
        }
    }

    pub fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Whether its values are integers with scales: whether it has a [`Format`].
    pub fn is_integer(self) -> bool {
        self.is_quantised() && self != NF4
    }

    /// Bytes of `n` weights, `None` when `n` is no multiple of the block or the size overflows.
    pub fn bytes_of(self, n: usize) -> Option<usize> {
        n.is_multiple_of(self.block_len())
            .then(|| (n / self.block_len()).checked_mul(self.block_bytes()))
            .flatten()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
