/// The result of tokenising or rendering.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tokenizer or a chat template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tokenizer that is damaged or not supported, or a text that it cannot encode.
    #[error("{name}: {what}")]
    Tokenizer {
        /// The file's name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A GGUF tokenizer or pre-tokenizer that is not known.
    #[error("{name}: unknown tokenizer kind `{kind}`; known kinds: {known}")]
    UnknownKind {
        /// The file's name.
        name: String,
        /// The name that the file has.
        kind: String,
        /// The names of those that are supported.
        known: String,
    },
    /// A folder without `tokenizer.json`.
    #[error("{0} has no tokenizer.json, which a Hugging Face folder needs")]
    NoTokenizer(String),
    /// The model has no chat template, as base models do not.
    #[error("the model has no chat template")]
    NoTemplate,
    /// The source is not Jinja.
    #[error("the chat template is broken: {0}")]
    TemplateSyntax(String),
    /// A filter, test or statement that the interpreter does not have.
    #[error("the chat template uses {0}, which is not supported")]
    TemplateUnsupported(String),
    /// The message that the template passed to `raise_exception`.
    #[error("the chat template rejects this conversation: {0}")]
    TemplateRaised(String),
    /// More steps, output or depth than a template may use.
    #[error("the chat template needs {0}, which exceeds the limit")]
    TemplateLimit(String),
    /// What would be an exception in Python.
    #[error("the chat template failed: {0}")]
    TemplateFailed(String),
    /// A template of data that is broken, or cannot be rendered for a record.
    #[error("the template {0}")]
    Document(String),
    /// The model's files cannot be read.
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
}

impl Error {
    /// A copy of a template's error, which is stored at loading and returned at rendering.
    pub(crate) fn of_template(&self) -> Self {
        match self {
            Self::TemplateSyntax(what) => Self::TemplateSyntax(what.clone()),
            Self::TemplateUnsupported(what) => Self::TemplateUnsupported(what.clone()),
            Self::TemplateLimit(what) => Self::TemplateLimit(what.clone()),
            _ => Self::NoTemplate,
        }
    }
}
