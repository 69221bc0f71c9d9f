//! From examples and options to an adapter.
//!
//! [`Dataset`] reads examples in the field's usual formats, [`Tokens`] knows which tokens of an example
//! are learned, and a [`Trainer`] takes a session through the steps. Nothing here touches files: whoever
//! calls keeps checkpoints and adapters.

mod batch;
mod checkpoint;
mod data;
mod error;
mod example;
mod file_kind;
mod identity;
mod options;
mod plan;
mod record;
mod spans;
mod tokens;
mod trainer;
mod turns;

pub use batch::{pack, split};
pub use data::Dataset;
pub use error::{Error, Result};
pub use example::{BadRecord, Conversation, Example, Format, Record};
pub use options::{LossOn, Optim, Schedule, TrainOptions, nearest};
pub use plan::{Plan, Summary, Unusable};
pub use tokens::{Limit, Tokens};
pub use trainer::{StepReport, Trainer};
