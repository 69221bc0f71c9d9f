//! One op a file, named as its shader.

pub mod attention;
pub mod choose;
pub mod gated;
pub mod linear;
pub mod rms_norm;
pub mod rope;
