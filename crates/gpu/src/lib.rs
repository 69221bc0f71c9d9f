#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod adapter;
mod batch;
#[cfg(target_arch = "wasm32")]
mod browser;
mod buffers;
mod caches;
mod counts;
mod device;
mod error;
mod gpus;
mod lower;
mod opened;
mod pipeline;
mod prepared;
mod profile;
mod readback;
mod repack;
mod shader;
mod step;
#[cfg(feature = "training")]
mod train;
mod weights;

pub use counts::{Counts, KernelTime};
pub use device::GpuDevice;
pub use error::{Error, Result};
pub use gpus::{GpuReport, Limits, gpus};
pub use opened::LimitRequest;
pub use pipeline::KernelSource;
pub use profile::{Layout, Product, Profile, Reduce};
pub use repack::{GpuType, stored_as};
pub use shader::{Adapted, Variant, kernels, link, link_for_browser};
pub use weights::Upload;
