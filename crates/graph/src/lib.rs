#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod build;
mod cache_bytes;
mod cache_type;
mod capacity;
mod experts;
mod fusion;
mod grad;
mod graph;
mod lora;
mod op;
mod optimiser;
mod plan;
mod recurrent;
mod sequences;
mod step;
mod storage;
mod streams;
mod training;
mod weight;

pub use cache_bytes::CacheBytes;
pub use cache_type::{CacheType, CacheTypes};
pub use capacity::{Capacity, Windowed};
pub use experts::{Experts, RouteSpec, Score};
pub use fusion::{Fusion, Step};
pub use grad::Checkpointing;
pub use graph::{Cache, CacheId, Error, Graph, LoraId, Node, NodeId, Result, Rows, StateId};
pub use lora::{Dora, Lora, LoraSpec, Span};
pub use op::{
    Activation, AttentionSpec, DeltaSpec, HeadsSpec, Map, Op, Pairs, Place, Pooling, RopeSpec,
    ScanSpec,
};
pub use optimiser::{AdamW, MOMENT_BLOCK, MomentType, Moments};
pub use plan::{Plan, View};
pub use sequences::{BANNED, BLOCK_TOKENS, NO_BLOCK, Sampled, SequenceRows, StepInput};
pub use step::{Batch, Noise, Sampling, dropout_factor};
pub use streams::MixSpec;
pub use training::{BatchPart, BatchPlan, TrainingGraphs};
pub use weight::{Part, Weight, WeightId, WeightKind};
