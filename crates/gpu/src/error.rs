/// The result of what a device does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a GPU cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine, or the page, has no GPU that wgpu can use.
    #[error("no GPU was found")]
    NoGpu,
    /// A GPU's index that is too high.
    #[error("there is no GPU {index}; {count} were found")]
    NoSuchGpu {
        /// The index that was given.
        index: usize,
        /// How many GPUs there are.
        count: usize,
    },
    /// The driver refused the device.
    #[error("{gpu} could not be opened: {what}")]
    Open {
        /// The GPU's name.
        gpu: String,
        /// What the driver reported.
        what: String,
    },
    /// A profile with subgroups on a GPU without them.
    #[error("{gpu} has no subgroups, which the profile `{profile}` needs")]
    Profile {
        /// The GPU's name.
        gpu: String,
        /// The profile.
        profile: crate::Profile,
    },
    /// A buffer that exceeds a limit of the GPU.
    #[error("{what} needs {needed} bytes in one binding; {gpu} allows {limit}")]
    TooLarge {
        /// The buffer: a weight, keys, values, ….
        what: String,
        /// Bytes of the buffer.
        needed: u64,
        /// The GPU's name.
        gpu: String,
        /// Bytes that the GPU allows.
        limit: u64,
    },
    /// A matrix whose rows are not whole blocks of 32 weights.
    #[error("weight `{name}` has {cols} columns; on the GPU they must be a multiple of 32")]
    Columns {
        /// The weight's name.
        name: String,
        /// Its columns.
        cols: usize,
    },
    /// A weight of the graph that was not uploaded.
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
    /// An op, or an order of calls, for which there is no kernel.
    #[error("no kernel implements a step of the plan: {0}")]
    Unsupported(String),
    /// The device no longer exists; another one can be opened.
    #[error("the GPU was lost: its driver was reset or the page released it")]
    Lost,
    /// Memory of the GPU is exhausted.
    #[error("the GPU does not have enough memory for the model: {0}")]
    OutOfMemory(String),
    /// Another error of wgpu.
    #[error("the GPU failed: {0}")]
    Device(String),
    /// A kernel that cannot be linked.
    #[error("shader {name}: {what}")]
    Shader {
        /// The kernel or library file.
        name: String,
        /// What is missing.
        what: String,
    },
}
