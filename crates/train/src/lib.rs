//! Turns examples and options into an adapter.
//!
//! [`Dataset`] reads examples in the usual formats, [`Tokens`] determines which tokens of an example
//! are learned, and a [`Trainer`] runs the steps on a session. Nothing here touches files: the
//! caller stores checkpoints and adapters.

mod batch;
mod best;
mod data;
mod error;
mod example;
mod file_kind;
mod identity;
mod items;
mod objective;
mod objective_options;
mod options;
mod policy_loss;
mod preference;
mod preference_step;
mod prepared;
mod prompt;
mod record;
mod record_preference;
mod record_prompt;
mod rollout;
mod rollout_options;
mod rollout_step;
mod schedule;
mod spans;
mod texts;
mod tokens;
mod trainer;
mod training_checkpoint;
mod training_plan;
mod turns;

pub use batch::{epoch_order, pack, split};
pub use data::Dataset;
pub use error::{Error, Result};
pub use example::{BadRecord, Conversation, Example, Record, RecordFormat};
pub use items::Item;
pub use objective::{DataKind, LossType, Objective};
pub use options::{LossOn, Optim, TrainOptions, nearest};
pub use policy_loss::{ImportanceSamplingLevel, ScaleRewards};
pub use preference::{Preference, Rated, Said, TemplateInputs};
pub use preference_step::Preferences;
pub use prepared::Prepared;
pub use prompt::{Prompt, render_question};
pub use rollout::{Rollout, RolloutProgress};
pub use rollout_step::Rewarded;
pub use schedule::Schedule;
pub use tokens::{Limit, Tokens};
pub use trainer::{HeldOut, StepReport, Trainer};
pub use training_plan::{Summary, TrainingPlan, Unusable};
