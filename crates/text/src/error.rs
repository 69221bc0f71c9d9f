pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: {what}")]
    Tokenizer { name: String, what: String },
    #[error("{name}: the tokenizer kind `{kind}` is not known; known: {known}")]
    UnknownKind {
        name: String,
        kind: String,
        known: String,
    },
    #[error("{0} has no tokenizer.json, which a Hugging Face folder needs")]
    NoTokenizer(String),
    #[error("the model has no chat template")]
    NoTemplate,
    /// The source is no Jinja.
    #[error("the chat template is broken: {0}")]
    TemplateSyntax(String),
    #[error("the chat template uses {0}, which is not supported")]
    TemplateUnsupported(String),
    /// What the template gave to `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    TemplateRaised(String),
    #[error("the chat template needs {0}, which is beyond the limit")]
    TemplateLimit(String),
    /// What would be an exception of Python.
    #[error("the chat template failed: {0}")]
    TemplateFailed(String),
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
}

impl Error {
    /// An error of a template, once more: it is kept from loading to rendering.
    pub(crate) fn of_template(&self) -> Self {
        match self {
            Self::TemplateSyntax(what) => Self::TemplateSyntax(what.clone()),
            Self::TemplateUnsupported(what) => Self::TemplateUnsupported(what.clone()),
            Self::TemplateLimit(what) => Self::TemplateLimit(what.clone()),
            _ => Self::NoTemplate,
        }
    }
}
