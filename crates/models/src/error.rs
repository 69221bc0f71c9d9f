/// The result of reading or converting a model.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model cannot be built or converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An architecture that is not one of the table's.
    #[error("{name}: the architecture `{arch}` is not supported; known: {known}")]
    UnknownArchitecture {
        /// The file's or folder's name.
        name: String,
        /// The architecture's name.
        arch: String,
        /// The names of those that are supported.
        known: String,
    },
    /// A tensor whose shape is not that of the configuration.
    #[error(
        "{name}: tensor `{tensor}` has the shape {found:?}, the configuration requires {wanted:?}"
    )]
    Shape {
        /// The file's or folder's name.
        name: String,
        /// The tensor's name.
        tensor: String,
        /// Its dimensions in the file.
        found: Vec<usize>,
        /// Its dimensions by the configuration.
        wanted: Vec<usize>,
    },
    /// A part of a tensor that cannot be read by itself.
    #[error("{name}: a range of the tensor `{tensor}` cannot be taken: {what}")]
    Range {
        /// The file's or folder's name.
        name: String,
        /// The tensor's name.
        tensor: String,
        /// Why it cannot.
        what: &'static str,
    },
    /// A `config.json` that is missing or not a JSON object.
    #[error("cannot read {path}: {what}")]
    Config {
        /// The name of the file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A key that would change what the model computes, with a value that is not supported.
    #[error("{name}: `{key}` is {value}, which is not supported")]
    Unsupported {
        /// The file's or folder's name.
        name: String,
        /// The key in the configuration or the metadata.
        key: String,
        /// Its value, shortened.
        value: String,
    },
    /// A tensor that the architecture does not use, so that the file may be another model.
    #[error(
        "{name}: the tensor `{tensor}`{} is not part of the supported architecture {arch}",
        if *more > 0 { format!(" (and {more} more)") } else { String::new() }
    )]
    UnusedTensor {
        /// The file's or folder's name.
        name: String,
        /// The tensor's name.
        tensor: String,
        /// The architecture's name.
        arch: String,
        /// How many more there are.
        more: usize,
    },
    /// A key that is missing, or whose value is of another kind.
    #[error("{name}: `{key}` is missing or not {expected}")]
    Key {
        /// The file's or folder's name.
        name: String,
        /// The key in the configuration or the metadata.
        key: String,
        /// What its value must be.
        expected: &'static str,
    },
    /// Sizes that contradict one another.
    #[error("the configuration is inconsistent: {0}")]
    Graph(#[from] siskin_graph::Error),
    /// The model's files cannot be read.
    #[error(transparent)]
    Formats(#[from] siskin_formats::Error),
    /// A configuration that GGUF files of the architecture cannot express.
    #[error("config.json: `{key}` must be {needed} to convert the model to GGUF")]
    NoGguf {
        /// The key in the configuration or the metadata.
        key: String,
        /// The value that GGUF files imply.
        needed: &'static str,
    },
    /// A family that only opens.
    #[error("{arch} cannot be converted between GGUF and a Hugging Face folder")]
    NoConversion {
        /// The architecture's name.
        arch: &'static str,
    },
    /// A model for embeddings or scores that was to make text.
    #[error("{arch} {why}: it makes {makes} of texts, and no text")]
    NoText {
        /// The architecture's name.
        arch: String,
        /// `is an encoder`, or `without a head`.
        why: &'static str,
        /// `embeddings` or `scores`.
        makes: &'static str,
    },
    /// A model with a recurrent state that was to make embeddings.
    #[error("{0} has a recurrent state, and makes no embeddings")]
    NoTexts(String),
    /// A model without a classifier that was to make scores.
    #[error("{0} without a classifier makes no scores of texts")]
    NoScores(String),
    /// A GGUF file of a BERT with a classifier, whose pooler the converter left out.
    #[error("{0}: the file has a classifier without the pooler (`cls.weight`) that it reads")]
    NoPooler(String),
    /// A model that cannot be trained.
    #[error("a model with {0} cannot be trained")]
    NoTraining(&'static str),
    /// A GGUF file that a `config.json` of the architecture cannot express.
    #[error("{name} cannot be converted to a Hugging Face folder: {what}")]
    NoFolder {
        /// The file's or folder's name.
        name: String,
        /// What cannot be expressed.
        what: &'static str,
    },
}
