//! What a training run runs.

use crate::Graph;

/// The graphs of a training run, over batches of whole texts. The first output of each is the loss of each row.
#[derive(Debug, Clone)]
pub struct TrainingGraphs {
    /// The model with its adapter, and the backward pass.
    pub learn: Graph,
    /// The model with its adapter, without dropout and without a backward pass.
    pub score: Graph,
    /// The model without its adapter, for objectives that compare the two.
    pub reference: Option<Graph>,
}

/// Which of the graphs of [`TrainingGraphs`] a batch runs through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchPlan {
    /// Losses and gradients, or one of both.
    Learn(BatchPart),
    /// Losses of the model with its adapter, without dropout.
    Score,
    /// Losses of the model without its adapter.
    Reference,
}

/// Which part of a plan with a backward pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchPart {
    /// All of it.
    Whole,
    /// Up to the losses of the rows.
    Losses,
    /// What follows the losses. The run before must have been that of the losses of the same batch; only the rows' weights
    /// may differ, of which those that had none there must not have any here.
    Gradients,
}

impl BatchPlan {
    /// The part that runs: of a plan without a backward pass, always the whole.
    pub fn part(self) -> BatchPart {
        match self {
            Self::Learn(part) => part,
            Self::Score | Self::Reference => BatchPart::Whole,
        }
    }
}
