//! One op a file, named as its shader; an op's gradient stands beside it.

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
