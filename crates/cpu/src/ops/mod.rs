//! One op per file, named as its shader; an op's gradient is beside it.

pub mod adamw;
pub mod attention;
pub mod choose;
pub mod cross_entropy;
pub mod dora;
pub mod gated;
pub mod gemm;
pub mod linear;
pub mod lora;
pub mod rms_norm;
pub mod rope;
pub mod self_attention;
