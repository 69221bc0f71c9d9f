use siskin_graph::CacheType;

/// The result of what a session does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a session cannot be opened or cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More tokens than the session's context.
    #[error(
        "the prompt has {prompt} tokens and the context holds {context} (the model was trained for \
         {trained})"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
        /// The longest context of the model.
        trained: usize,
    },
    /// A tensor whose importance cannot be stored by a name that GGUF files have.
    #[error("`{tensor}` is not in GGUF files by itself; use the model's GGUF file")]
    NoImportance {
        /// Its name.
        tensor: String,
    },
    /// A request that names an adapter which the session does not have.
    #[error("there is no adapter `{name}`; {}", known_adapters(known))]
    NoAdapter {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Tokens that stay when the context is full, which leave no room for others.
    #[error("{keep} tokens cannot stay of a context of {context}; keep fewer")]
    Keep {
        /// How many.
        keep: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A model that cannot guess for another one.
    #[error("the draft model does not fit: {what}")]
    Draft {
        /// Why.
        what: String,
    },
    /// Beams of a search that cannot be.
    #[error(
        "a search with {beams} beams is not possible; it has from 1 to {vocab}, the tokens of the vocabulary"
    )]
    Beams {
        /// How many.
        beams: usize,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
    /// A saved sequence that cannot be used.
    #[error("the saved sequence cannot be used: {what}")]
    Saved {
        /// Why.
        what: String,
    },
    /// A grammar that an answer cannot follow.
    #[error("the grammar cannot be followed: {what}")]
    Grammar {
        /// Why.
        what: String,
    },
    /// A prompt without tokens.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// A text to be scored that has nothing to score, or nothing before it.
    #[error("a text of {tokens} tokens cannot be scored from token {from} on")]
    NothingScored {
        /// The first token to be scored.
        from: usize,
        /// Its tokens.
        tokens: usize,
    },
    /// A text to be embedded that has more tokens than the model takes.
    #[error("text {number} has {tokens} tokens, and the model takes {max}")]
    TextTooLong {
        /// Which text it is, from 1 on.
        number: usize,
        /// Its tokens.
        tokens: usize,
        /// The most that the model takes.
        max: usize,
    },
    /// A text to be embedded that has no tokens.
    #[error("text {0} is empty")]
    EmptyText(usize),
    /// A model whose files do not say how the rows of a text become its embedding.
    #[error("{arch}: its files do not say how a text's embedding is made of its tokens' (pooling)")]
    NoPooling {
        /// The architecture's name.
        arch: String,
    },
    /// A model for scores that was to make embeddings.
    #[error("{arch} with a classifier makes scores of texts and no embeddings")]
    Scores {
        /// The architecture's name.
        arch: String,
    },
    /// A prompt for embeddings that the model does not have.
    #[error("the model has no prompt `{name}`; it has: {known}")]
    NoPrompt {
        /// The prompt's name.
        name: String,
        /// The names of those that there are.
        known: String,
    },
    /// A number of dimensions that embeddings cannot be cut to.
    #[error("{wanted} dimensions were requested, and embeddings have {max}")]
    Dimensions {
        /// How many were requested.
        wanted: usize,
        /// How many there are.
        max: usize,
    },
    /// A classifier of several classes, which gives no single score.
    #[error("the model's classifier has {0} classes; a reranker has one")]
    Classes(usize),
    /// A token that is not in the vocabulary.
    #[error("token {id} is not in the vocabulary of {vocab}")]
    Token {
        /// The token's id.
        id: u32,
        /// Tokens of the vocabulary.
        vocab: usize,
    },
    /// A sampling parameter out of its range.
    #[error("{field} is {value}, which is out of range; {range}")]
    Sampling {
        /// The name of the parameter.
        field: &'static str,
        /// Its value.
        value: f32,
        /// Its range, as a sentence.
        range: &'static str,
    },
    /// Biases of tokens that cannot be applied.
    #[error("logit_bias: {what}")]
    Bias {
        /// Why not.
        what: String,
    },
    /// A context that the model was not trained for.
    #[error(
        "a context of {wanted} tokens was requested; it must be from 1 to {max}, the model's own"
    )]
    Context {
        /// The context that was requested, in tokens.
        wanted: usize,
        /// The longest context of the model.
        max: usize,
    },
    /// A quantised cache for heads that are not whole blocks.
    #[error(
        "a KV cache of {ty} needs heads of a multiple of 32 dimensions, and the model's have {head_dim}"
    )]
    CacheType {
        /// The type that was requested.
        ty: CacheType,
        /// Dimensions of a head.
        head_dim: usize,
    },
    /// A device's name that is none of `auto`, `cpu`, `gpu` and `gpu:N`.
    #[error("`{0}` is not a device; devices are auto, cpu, gpu and gpu:N")]
    NoDevice(String),
    /// The model needs more memory than the process can have, as a page's 32-bit heap.
    #[error("{needed} bytes more than the available memory are needed")]
    OutOfMemory {
        /// Bytes that are missing.
        needed: u64,
    },
    /// An adapter that does not fit the model.
    #[error("the adapter {name} does not fit the model: {what}")]
    Adapter {
        /// The adapter.
        name: String,
        /// Why it does not fit.
        what: String,
    },
    /// A call that needs a training run, without one: `Session::prepare_training` starts one.
    #[error(
        "no training run is in progress; a lost device or another adapter ends one: resume from its checkpoint"
    )]
    NotTraining,
    /// Logits that are infinite or not numbers.
    #[error(
        "the model's values are not finite from `{place}` on: its weights or its configuration are damaged"
    )]
    NotFinite {
        /// The first of `embed`, the layers and `model.norm` where they are.
        place: String,
    },
    /// A file that cannot be read, of an adapter or by a page.
    #[error("cannot read {name}: {what}")]
    Read {
        /// The file's name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A tokenizer or a chat template that cannot be used.
    #[error(transparent)]
    Text(#[from] siskin_text::Error),
    /// A configuration that is not supported, or tensors that do not match it.
    #[error(transparent)]
    Models(#[from] siskin_models::Error),
    /// A model's file that cannot be read.
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
    /// A plan that cannot run on the CPU.
    #[error(transparent)]
    Cpu(#[from] siskin_cpu::Error),
    /// A GPU that cannot be opened, or has failed.
    #[error(transparent)]
    Gpu(#[from] siskin_gpu::Error),
}

impl Error {
    /// Whether the GPU was lost: opened again, it may do what was requested.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Self::Gpu(siskin_gpu::Error::Lost))
    }
}

fn known_adapters(known: &[String]) -> String {
    match known {
        [] => "the session has none".into(),
        known => format!("there are {}", known.join(", ")),
    }
}
