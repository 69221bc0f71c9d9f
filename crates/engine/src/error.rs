pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the prompt has {prompt} tokens and the context holds {context} (the model was trained for \
         {trained})"
    )]
    PromptTooLong {
        prompt: usize,
        context: usize,
        trained: usize,
    },
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    #[error("token {id} is not in the vocabulary of {vocab}")]
    Token { id: u32, vocab: usize },
    #[error("{field} is {value}, which is out of range; {range}")]
    Sampling {
        field: &'static str,
        value: f32,
        range: &'static str,
    },
    #[error(
        "a context of {wanted} tokens was asked for; give 1 to {max}, what the model was trained for"
    )]
    Context { wanted: usize, max: usize },
    #[error("{needed} bytes more are needed than there is memory; a smaller model may fit")]
    OutOfMemory { needed: u64 },
    #[error("the adapter {name} does not fit the model: {what}")]
    Adapter { name: String, what: String },
    #[error(
        "no training is under way; a lost device or another adapter ends one: go on from its checkpoint"
    )]
    NotTraining,
    #[error(
        "the model's values are infinite or not numbers from `{place}` on: its weights or its configuration \
         are not sound"
    )]
    NotFinite { place: String },
    #[error("cannot read {name}: {what}")]
    Read { name: String, what: String },
    #[error(transparent)]
    Text(#[from] siskin_text::Error),
    #[error(transparent)]
    Models(#[from] siskin_models::Error),
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
    #[error(transparent)]
    Cpu(#[from] siskin_cpu::Error),
    #[error(transparent)]
    Gpu(#[from] siskin_gpu::Error),
}

impl Error {
    /// Whether the device is gone: opened again, it may do what was asked.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Self::Gpu(siskin_gpu::Error::Lost))
    }
}
