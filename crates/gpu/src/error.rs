pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no GPU was found")]
    NoGpu,
    #[error("there is no GPU {index}; {count} were found")]
    NoSuchGpu { index: usize, count: usize },
    #[error("{gpu} could not be opened: {what}")]
    Open { gpu: String, what: String },
    #[error("{gpu} has no subgroups, which the profile `{profile}` needs")]
    Profile {
        gpu: String,
        profile: crate::Profile,
    },
    #[error("{what} needs {needed} bytes in one binding; {gpu} allows {limit}")]
    TooLarge {
        what: String,
        needed: u64,
        gpu: String,
        limit: u64,
    },
    #[error("weight `{name}` has {cols} columns; on the GPU they must be a multiple of 32")]
    Columns { name: String, cols: usize },
    #[error("the weight `{0}` was not loaded")]
    MissingWeight(String),
    #[error("{rows} tokens from position {position} do not fit a context of {context}")]
    ContextFull {
        rows: usize,
        position: usize,
        context: usize,
    },
    #[error("no kernel implements a step of the plan: {0}")]
    Unsupported(String),
    #[error("the GPU was lost: its driver was reset or the page released it")]
    Lost,
    #[error("the GPU does not have enough memory for the model: {0}")]
    OutOfMemory(String),
    #[error("the GPU failed: {0}")]
    Device(String),
    #[error("shader {name}: {what}")]
    Shader { name: String, what: String },
}
