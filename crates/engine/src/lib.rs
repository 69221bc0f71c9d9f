#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod adapter;
mod adapter_config;
mod adapter_gguf;
mod adapter_initial;
mod adapter_peft;
mod adapters;
mod answer;
mod backend;
mod beams;
mod bias;
mod constraint;
mod cpu;
mod embed;
mod error;
mod files;
mod fit;
mod generate;
mod gpu;
mod guess;
mod importance;
mod load;
mod look;
mod memory;
mod probe;
mod recurrent;
mod request;
mod rerank;
mod saved;
mod schedule;
mod score;
#[cfg(feature = "training")]
pub mod self_test;
mod session;
mod stepping;
mod store;
mod trace;
#[cfg(feature = "training")]
mod training;
#[cfg(feature = "training")]
mod training_backend;

pub use adapter::{Adapter, AdapterModule};
pub use adapter_config::AdapterConfig;
pub use answer::{
    Answer, Event, FinishReason, GenerateOptions, TokenLogprob, TopLogprob, new_seed,
};
pub use backend::{Backend, DeviceRequest, LocalFuture, MatrixUpload, Movable};
pub use beams::{Beam, BeamOptions};
pub use constraint::{Constraint, Grammar};
pub use embed::{EmbedOptions, Embeddings};
pub use error::{Error, Result};
pub use files::{AsyncSource, ModelFiles, Reading, WeightFiles, read_text, read_text_of};
pub use fit::{Fit, FitRequest};
pub use guess::GUESSES;
pub use importance::{ColumnSquares, Squares};
pub use load::{CacheType, CacheTypes, OpenOptions, Precision, Progress, read_cache_types};
pub use look::{Look, LookOptions};
pub use memory::MemoryFigure;
pub use request::{RequestEvent, RequestId, Update};
pub use saved::{Restored, saved_note};
pub use score::{ScoredText, TokenScore};
pub use session::Session;
pub use trace::{TRACE_ROWS, Traced};
#[cfg(feature = "training")]
pub use training::{TrainingMemory, TrainingSetup, TrainingState};
#[cfg(feature = "training")]
pub use training_backend::TrainingBackend;

pub use siskin_cpu::{Neighbor, VectorIndex};
pub use siskin_graph::{AdamW, Batch, Checkpointing, MomentType, Moments, Sampling};
pub use siskin_models::{Head, Model, Pooling, RopeScaling, RopeScalingKind, Sentence};
pub use siskin_text::{Message, TextModel};
