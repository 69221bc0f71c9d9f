#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod grad;
mod graph;
mod lora;
mod optimiser;
mod plan;
mod step;
mod weight;

pub use grad::Checkpointing;
pub use graph::{
    Activation, AttentionSpec, Cache, CacheId, Error, Graph, LoraId, Node, NodeId, Op, Pairs,
    Result, Rows,
};
pub use lora::{Dora, Lora, LoraSpec, Span};
pub use optimiser::{AdamW, MOMENT_BLOCK, MomentType, Moments};
pub use plan::{Fusion, Plan, Step, View};
pub use step::{Batch, Noise, Sampling, dropout_factor};
pub use weight::{Part, Weight, WeightId, WeightKind};
