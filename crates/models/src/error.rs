pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: the architecture `{arch}` is not supported; known: {known}")]
    UnknownArchitecture {
        name: String,
        arch: String,
        known: &'static str,
    },
    #[error(
        "{name}: tensor `{tensor}` has the shape {found:?}, the configuration asks for {wanted:?}"
    )]
    Shape {
        name: String,
        tensor: String,
        found: Vec<usize>,
        wanted: Vec<usize>,
    },
    #[error("cannot read {path}: {what}; a Hugging Face folder needs config.json")]
    Config { path: String, what: String },
    #[error("{name}: `{key}` is missing or not {expected}")]
    Key {
        name: String,
        key: String,
        expected: &'static str,
    },
    #[error("the configuration does not fit together: {0}")]
    Graph(#[from] siskin_graph::Error),
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
    #[error("{name} cannot become a Hugging Face folder: {what}; give an --out that ends in .gguf")]
    NoFolder { name: String, what: &'static str },
}
