#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod arena;
mod batch_nodes;
mod cache;
mod device;
mod error;
mod nodes;
pub mod ops;
mod params;
mod plan;
mod precision;
mod q16;
mod q16_dot;
mod recurrent_nodes;
mod stream_nodes;
mod threads;
mod train;
#[cfg(feature = "training")]
mod training_nodes;
mod vector;
mod vector_index;
mod weights;

pub use cache::KvCache;
pub use device::CpuDevice;
pub use error::{Error, Result};
pub use plan::CpuPlan;
pub use precision::Precision;
pub use q16::Q16Row;
pub use vector_index::{Neighbor, VectorIndex};
pub use weights::{CpuPart, CpuWeight};
