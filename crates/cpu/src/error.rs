/// The result of what a device does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a plan cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A weight of the graph that was not added before the plan was made.
    #[error("the weight `{0}` was not loaded")]
    MissingWeight(String),
    /// More tokens than the KV cache has room for, or than the plan was made for.
    #[error("{rows} tokens from position {position} do not fit a context of {context}")]
    ContextFull {
        /// Tokens of the run.
        rows: usize,
        /// The position of the first.
        position: usize,
        /// Tokens that there is room for.
        context: usize,
    },
    /// A token that the embedding has no row for.
    #[error("token {id} is not in the vocabulary of {vocab}")]
    Token {
        /// The token's id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A place in a text that a learned embedding has no row for.
    #[error(
        "row {row} of an embedding of {rows} rows was requested: the text is longer than the model's positions"
    )]
    Place {
        /// The row that is missing.
        row: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// An op over sequences in a batch of whole texts.
    #[error("`{0}` does not run over a batch")]
    NotSequences(&'static str),
    /// A step of several sequences, of a model with recurrent states.
    #[error("a model with recurrent states runs one sequence at a time")]
    OneState,
    /// Saved caches of another model, or of caches of another type.
    #[error("the saved caches are of another shape")]
    OtherCaches,
    /// An op over whole texts, or of the backward pass, outside a batch.
    #[error("`{0}` runs only over a batch")]
    NotTraining(&'static str),
}
