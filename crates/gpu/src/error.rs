pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no GPU adapter was found; install a driver (on Debian or Ubuntu: \
         `apt install mesa-vulkan-drivers libvulkan1`) or use --device cpu"
    )]
    NoAdapter,
    #[error("there is no adapter {index}; `siskin devices` lists the {count} there are")]
    NoSuchAdapter { index: usize, count: usize },
    #[error("{adapter} does not open: {what}; use --device cpu")]
    Open { adapter: String, what: String },
    #[error("{adapter} has no subgroups, which the profile `{profile}` needs; use --profile base")]
    Profile {
        adapter: String,
        profile: crate::Profile,
    },
    #[error("{what} needs {needed} bytes in one binding, {adapter} allows {limit}; {remedy}")]
    TooLarge {
        what: String,
        needed: u64,
        adapter: String,
        limit: u64,
        remedy: &'static str,
    },
    #[error(
        "weight `{name}` has {cols} columns; on the GPU they must be a multiple of 32; use --device cpu"
    )]
    Columns { name: String, cols: usize },
    #[error("the weight `{0}` was not loaded")]
    MissingWeight(String),
    #[error("{rows} tokens from position {position} do not fit a context of {context}")]
    ContextFull {
        rows: usize,
        position: usize,
        context: usize,
    },
    #[error("the plan has a step that no kernel runs: {0}")]
    Unsupported(String),
    #[error("the GPU was lost: its driver was reset or the page gave it up")]
    Lost,
    #[error("the GPU has no room for the model: {0}; a smaller model or --device cpu may fit")]
    OutOfMemory(String),
    #[error("the GPU failed: {0}; free some of its memory, or use --device cpu")]
    Device(String),
    #[error("shader {name}: {what}")]
    Shader { name: String, what: String },
}
