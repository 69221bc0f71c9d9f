pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the weight `{0}` was not loaded")]
    MissingWeight(String),
    #[error("{rows} tokens from position {position} do not fit a context of {context}")]
    ContextFull {
        rows: usize,
        position: usize,
        context: usize,
    },
    #[error("token {id} is not in the vocabulary of {vocab}")]
    Token { id: u32, vocab: usize },
    #[error("`{0}` runs only in training")]
    NotTraining(&'static str),
}
