pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: {what}")]
    Tokenizer { name: String, what: String },
    #[error("{name}: unknown tokenizer kind `{kind}`; known kinds: {known}")]
    UnknownKind {
        name: String,
        kind: String,
        known: String,
    },
    #[error("{0} has no tokenizer.json, which a Hugging Face folder needs")]
    NoTokenizer(String),
    #[error("the model has no chat template")]
    NoTemplate,
    /// The source is not Jinja.
    #[error("the chat template is broken: {0}")]
    TemplateSyntax(String),
    #[error("the chat template uses {0}, which is not supported")]
    TemplateUnsupported(String),
    /// The message that the template passed to `raise_exception`.
    #[error("the chat template rejects this conversation: {0}")]
    TemplateRaised(String),
    #[error("the chat template needs {0}, which exceeds the limit")]
    TemplateLimit(String),
    /// What would be an exception in Python.
    #[error("the chat template failed: {0}")]
    TemplateFailed(String),
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
