//! The types that tensors are stored in.

use std::fmt;

use crate::blocks::{Encode, ForFormat, Format, Values, decode_integers, decode_values};
use crate::formats;

/// What a type's format declares.
struct Row {
    name: &'static str,
    ggml: Option<u32>,
    block_len: usize,
    block_bytes: usize,
    is_integer: bool,
    decode: fn(&[u8], &mut [f32]),
    encode: Option<Encode>,
}

impl Row {
    const fn integers<F: Format>(name: &'static str) -> Self {
        Self {
            name,
            ggml: F::GGML,
            block_len: F::LEN,
            block_bytes: F::BYTES,
            is_integer: true,
            decode: decode_integers::<F>,
            encode: F::ENCODE,
        }
    }

    const fn values<F: Values>(name: &'static str) -> Self {
        Self {
            name,
            ggml: F::GGML,
            block_len: F::LEN,
            block_bytes: F::BYTES,
            is_integer: false,
            decode: decode_values::<F>,
            encode: Some(F::ENCODE),
        }
    }
}

macro_rules! run {
    (integers $code:ident $T:ident) => {
        Some($code.run::<formats::$T>())
    };
    (values $code:ident $T:ident) => {
        None
    };
}

macro_rules! types {
    ($($(#[$doc:meta])* $T:ident: $kind:ident,)*) => {
        /// How the values of a tensor are stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)]
        pub enum TensorType {
            $($(#[$doc])* $T,)*
        }

        /// One row a type, in their order.
        static ROWS: [Row; TensorType::ALL.len()] =
            [$(Row::$kind::<formats::$T>(stringify!($T))),*];

        impl TensorType {
            /// All types.
            pub const ALL: [Self; [$(Self::$T),*].len()] = [$(Self::$T),*];

            /// Runs code for the type's [`Format`]; `None` for types that are not of integers.
            #[inline]
            pub fn with_format<C: ForFormat>(self, code: C) -> Option<C::Out> {
                match self {
                    $(Self::$T => run!($kind code $T),)*
                }
            }
        }
    };
}

types! {
    /// IEEE 754 single precision.
    F32: values,
    /// IEEE 754 half precision.
    F16: values,
    /// bfloat16: the upper half of an f32.
    BF16: values,
    /// 4 bits, with a scale for each 32.
    Q4_0: integers,
    /// 4 bits, with a scale and a minimum for each 32.
    Q4_1: integers,
    /// 5 bits, with a scale for each 32.
    Q5_0: integers,
    /// 5 bits, with a scale and a minimum for each 32.
    Q5_1: integers,
    /// 8 bits, with a scale for each 32.
    Q8_0: integers,
    /// 2 bits, with a 4-bit scale and minimum for each 16, in blocks of 256.
    Q2_K: integers,
    /// 3 bits, with a 6-bit scale for each 16, in blocks of 256.
    Q3_K: integers,
    /// 4 bits, with a 6-bit scale and minimum for each 32, in blocks of 256.
    Q4_K: integers,
    /// 5 bits, with a 6-bit scale and minimum for each 32, in blocks of 256.
    Q5_K: integers,
    /// 6 bits, with an 8-bit scale for each 16, in blocks of 256.
    Q6_K: integers,
    /// 4-bit codes of 16 values that are not evenly spaced, with a scale for each 32.
    IQ4_NL: integers,
    /// 4-bit codes of the same values, with a 6-bit scale for each 32, in blocks of 256.
    IQ4_XS: integers,
    /// 3.4 bits: groups of 4 from a grid of 512, with a sign each and a 4-bit scale for each 32, in blocks of 256.
    IQ3_S: integers,
    /// 3.1 bits: groups of 4 from a grid of 256, with signs and a 4-bit scale for each 32, in blocks of 256.
    IQ3_XXS: integers,
    /// 2.6 bits: groups of 8 from a grid of 1024, with a sign each and a 4-bit scale for each 16, in blocks of 256.
    IQ2_S: integers,
    /// 2.3 bits: groups of 8 from a grid of 512, with signs and a 4-bit scale for each 16, in blocks of 256.
    IQ2_XS: integers,
    /// 2.1 bits: groups of 8 from a grid of 256, with signs and a 4-bit scale for each 32, in blocks of 256.
    IQ2_XXS: integers,
    /// 1.8 bits: groups of 8 from a grid of 2048, with a 3-bit scale for each 16, in blocks of 256.
    IQ1_M: integers,
    /// 1.6 bits: groups of 8 from a grid of 2048, with a 3-bit scale for each 32, in blocks of 256.
    IQ1_S: integers,
    /// −1, 0 and 1 in 1.6 bits, with a scale for each 256.
    TQ1_0: integers,
    /// −1, 0 and 1 in 2 bits, with a scale for each 256.
    TQ2_0: integers,
    /// 4-bit floats (E2M1), with a power of two for each 32.
    MXFP4: integers,
    /// 4-bit floats (E2M1), with an 8-bit float (E4M3) for each 16, in blocks of 64.
    NVFP4: integers,
    /// bitsandbytes' 4-bit codes of 16 values, with an f32 scale for each 64; GGUF does not have it.
    NF4: values,
    /// 4 bits, with a scale of 28 bits and a zero point for each 32; GGUF does not have it.
    INT4: integers,
    /// 4 bits, with a scale and an offset of the middle code for each 32; GGUF does not have it.
    INT4_1: integers,
    /// 8 bits, with a scale of 24 bits and a zero point for each 32; GGUF does not have it.
    INT8: integers,
}

impl TensorType {
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The type of ggml's number, if it is supported.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.ggml() == Some(number))
    }

    /// ggml's number for it; `None` for a type that GGUF does not have.
    pub fn ggml(self) -> Option<u32> {
        self.row().ggml
    }

    /// Its name, which is ggml's: `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(" ")
    }

    /// Weights in one block: 1 for F32, F16 and BF16.
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    pub(crate) fn decoder(self) -> fn(&[u8], &mut [f32]) {
        self.row().decode
    }

    pub(crate) fn encoder(self) -> Option<Encode> {
        self.row().encode
    }

    /// Whether several weights share a block.
    pub fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Whether its values are integers with scales, so that it has a [`Format`].
    pub fn is_integer(self) -> bool {
        self.row().is_integer
    }

    /// Bytes of `n` weights; `None` if `n` is not a multiple of the block length or the size overflows.
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
