//! Every format, one type each: what it declares is all there is to know of it. A new one is a type here and a name
//! in the list of `tensor_type.rs`.

#![allow(non_camel_case_types, missing_debug_implementations)]

mod grids;
mod int;
mod iq;
mod k;
mod plain;
mod small;
mod ternary;

use crate::isa::Isa;

pub use crate::nf4::NF4;
pub(crate) use int::scale_and_zero;
pub use int::{INT4, INT4_1, INT8};
pub use iq::{Grid, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_XS};
pub use k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, k_scale_min};
pub(crate) use plain::float_at;
pub use plain::{BF16, F16, F32};
pub(crate) use small::IQ4_VALUES;
pub use small::{IQ4_NL, MXFP4, NVFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub use ternary::{TQ1_0, TQ2_0};

/// The offset of formats without one: unlike +0.0, adding it changes no value's bits.
const NO_MIN: f32 = -0.0;

/// The bytes of a block from `at` on.
#[inline(always)]
fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().unwrap_or(&[0; N])
}

/// The little-endian 16-bit integer at this place of a block.
#[inline(always)]
fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The f16 at this place of a block.
#[inline(always)]
fn f16_at<I: Isa>(isa: I, block: &[u8], at: usize) -> f32 {
    isa.f16(u16_at(block, at))
}

macro_rules! same {
    ($q:expr, $d:expr, $m:expr) => {
        Block32 {
            q: $q,
            d: [$d; 2],
            m: [$m; 2],
        }
    };
}
use same;
