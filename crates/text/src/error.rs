pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: {what}")]
    Tokenizer { name: String, what: String },
    #[error("{name}: the tokenizer kind `{kind}` is not known; known: {known}")]
    UnknownKind {
        name: String,
        kind: String,
        known: &'static str,
    },
    #[error("{0} has no tokenizer.json, which a Hugging Face folder needs")]
    NoTokenizer(String),
    #[error("the model has no chat template")]
    NoTemplate,
    #[error("the chat template is broken: {0}")]
    Template(String),
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
}
