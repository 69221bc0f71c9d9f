//! A session with a model: load, prefill, decode, stop; the KV cache is reused between prompts.
//!
//! Everything that may wait for a device is `async`: on a page, reading back cannot block.

mod answer;
mod device;
mod error;
mod load;
mod memory;
mod session;

pub use answer::{Answer, Event, FinishReason, GenerateOptions, TokenLogprob, TopLogprob};
pub use device::{Device, DeviceRequest};
pub use error::{Error, Result};
pub use load::{CacheType, OpenOptions, Precision, Progress, read_part, read_text};
pub use memory::MemoryFigure;
pub use session::{Session, TRACE_ROWS, Traced};

pub use siskin_graph::Sampling;
