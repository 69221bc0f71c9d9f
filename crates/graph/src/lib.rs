//! A model is a graph; everything else is a way to run it.
//!
//! [`Graph`] holds ops with checked shapes; [`Plan`] decides how a device runs them: which nodes go
//! into one step, how long each value lives, and where it is in one arena.

mod build;
mod fusion;
mod grad;
mod graph;
mod lora;
mod op;
mod optimiser;
mod plan;
mod step;
mod storage;
mod weight;

pub use fusion::{Fusion, Step};
pub use grad::Checkpointing;
pub use graph::{Cache, CacheId, Error, Graph, LoraId, Node, NodeId, Result, Rows};
pub use lora::{Dora, Lora, LoraSpec, Span};
pub use op::{Activation, AttentionSpec, Op, Pairs};
pub use optimiser::{AdamW, MOMENT_BLOCK, MomentType, Moments};
pub use plan::{Plan, View};
pub use step::{Batch, Noise, Sampling, dropout_factor};
pub use weight::{Part, Weight, WeightId, WeightKind};
