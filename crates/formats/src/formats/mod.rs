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

/// Nibbles of 16 bytes: the low ones first, then the high ones.
#[inline(always)]
fn nibbles(qs: &[u8], offset: i8) -> [i8; 32] {
    let mut q = [0i8; 32];
    let qs: &[u8; 16] = qs[..16].try_into().unwrap_or(&[0; 16]);
    for i in 0..16 {
        q[i] = (qs[i] & 0xf) as i8 - offset;
        q[i + 16] = (qs[i] >> 4) as i8 - offset;
    }
    q
}

/// Values of the nibbles of 16 bytes: of the low ones first, then of the high ones.
#[inline(always)]
fn looked_up(qs: &[u8], values: &[i8; 16]) -> [i8; 32] {
    let mut q = nibbles(qs, 0);
    for q in &mut q {
        *q = value_of(*q, values);
    }
    q
}

/// `values[code]`, from one of each two, of each four, … by the code's bits: a loop over it vectorises.
#[inline(always)]
fn value_of(code: i8, values: &[i8; 16]) -> i8 {
    let either = |a: i8, b: i8, bit: i8| a ^ ((a ^ b) & -((code >> bit) & 1));
    let four = |i: usize| {
        let low = either(values[i], values[i + 1], 0);
        either(low, either(values[i + 2], values[i + 3], 0), 1)
    };
    let low = either(four(0), four(4), 2);
    either(low, either(four(8), four(12), 2), 3)
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
