pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no GPU was found")]
    NoAdapter,
    #[error("there is no GPU {index}; {count} were found")]
    NoSuchAdapter { index: usize, count: usize },
    #[error("{adapter} could not be opened: {what}")]
    Open { adapter: String, what: String },
    #[error("{adapter} has no subgroups, which the profile `{profile}` needs")]
    Profile {
        adapter: String,
        profile: crate::Profile,
    },
    #[error("{what} needs {needed} bytes in one binding; {adapter} allows {limit}")]
    TooLarge {
        what: String,
        needed: u64,
        adapter: String,
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
