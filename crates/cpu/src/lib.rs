//! Each op once more in plain Rust: the meaning of the op, the fallback where there is no GPU, and
//! the oracle of the tests.

mod arena;
mod cache;
mod device;
mod error;
pub mod ops;
mod q16;
mod q16_dot;
mod threads;
mod train;
mod weights;

pub use cache::{CacheType, KvCache};
pub use device::{CpuDevice, Precision};
pub use error::{Error, Result};
pub use q16::Q16Row;
pub use weights::{CpuPart, CpuWeight};
