pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: the architecture `{arch}` is not supported; known: {known}")]
    UnknownArchitecture {
        name: String,
        arch: String,
        known: String,
    },
    #[error(
        "{name}: tensor `{tensor}` has the shape {found:?}, the configuration requires {wanted:?}"
    )]
    Shape {
        name: String,
        tensor: String,
        found: Vec<usize>,
        wanted: Vec<usize>,
    },
    #[error("{name}: a range of the tensor `{tensor}` cannot be taken: {what}")]
    Range {
        name: String,
        tensor: String,
        what: &'static str,
    },
    #[error("cannot read {path}: {what}")]
    Config { path: String, what: String },
    #[error("{name}: `{key}` is {value}, which is not supported")]
    Unsupported {
        name: String,
        key: String,
        value: String,
    },
    #[error(
        "{name}: the tensor `{tensor}`{} is not part of the supported architecture {arch}",
        if *more > 0 { format!(" (and {more} more)") } else { String::new() }
    )]
    UnusedTensor {
        name: String,
        tensor: String,
        arch: String,
        more: usize,
    },
    #[error("{name}: `{key}` is missing or not {expected}")]
    Key {
        name: String,
        key: String,
        expected: &'static str,
    },
    #[error("the configuration is inconsistent: {0}")]
    Graph(#[from] siskin_graph::Error),
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
    #[error("config.json: `{key}` must be {needed} to convert the model to GGUF")]
    NoGguf { key: String, needed: &'static str },
    #[error("{name} cannot be converted to a Hugging Face folder: {what}")]
    NoFolder { name: String, what: &'static str },
}
