//! Scores of language models on tasks, as [lm-evaluation-harness](https://github.com/EleutherAI/lm-evaluation-harness)
//! defines them: the task's mapping and the data come in, per record scores come out. Files are the caller's.
#![warn(missing_docs, clippy::missing_errors_doc)]

mod encoding;
mod error;
mod field;
mod fields;
mod filter;
mod generation;
mod metric;
mod prompt;
mod random;
mod record;
mod run;
mod stats;
mod task;
mod windows;

pub use error::{Error, Result};
pub use field::Document;
pub use prompt::{Data, Item};
pub use record::{ItemResult, Score};
pub use run::Event;
pub use stats::{Comparison, Summary, comparisons, summaries};
pub use task::{DataFormat, DataSource, Kind, Task};
