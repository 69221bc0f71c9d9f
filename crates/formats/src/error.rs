use std::path::PathBuf;

/// The result of reading or writing a file.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a model's files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused to read a file.
    #[error("cannot read {path}: {error}")]
    Io {
        /// The file's name.
        path: PathBuf,
        /// What the system reported.
        error: std::io::Error,
    },
    /// A folder, device or pipe where a file is needed.
    #[error("{path} is {what}, not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is: `a folder`, for example.
        what: &'static str,
    },
    /// A link in a model's folder that points outside it.
    #[error("{path} points outside the folder, to {target}")]
    Outside {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// Another kind of file: its first four bytes are not `GGUF`.
    #[error("{name} is not a GGUF file (it starts with {found:02x?})")]
    NotGguf {
        /// The file's name.
        name: String,
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// A GGUF file in big-endian byte order.
    #[error("{0} is a big-endian GGUF file, which is not supported")]
    BigEndian(String),
    /// A GGUF version other than 2 and 3.
    #[error("{name} is GGUF version {version}; only versions 2 and 3 are supported")]
    GgufVersion {
        /// The file's name.
        name: String,
        /// The version.
        version: u32,
    },
    /// One part of a split GGUF file, without the others.
    #[error("{name} is part {part} of {count} of a split GGUF file, {why}")]
    Split {
        /// The file's name.
        name: String,
        /// Which part it is, counted from 1.
        part: u64,
        /// How many parts there are.
        count: u64,
        /// Why the others were not found.
        why: String,
    },
    /// The file ends too early: an interrupted download, perhaps.
    #[error("{name} ends inside {what} (at byte {len}): it is truncated")]
    Truncated {
        /// The file's name.
        name: String,
        /// What is not there as a whole.
        what: String,
        /// The file's length in bytes.
        len: u64,
    },
    /// A length or an offset in the file that the file does not have.
    #[error("{name} is damaged: {what} at byte {offset} reaches beyond the file's {len} bytes")]
    BeyondFile {
        /// The file's name.
        name: String,
        /// What the length or offset belongs to.
        what: String,
        /// Where it begins, in bytes.
        offset: u64,
        /// The file's length in bytes.
        len: u64,
    },
    /// A file that contradicts its format or itself.
    #[error("{name} is damaged: {what}")]
    Damaged {
        /// The file's name.
        name: String,
        /// The contradiction.
        what: String,
    },
    /// A file that may be sound but exceeds a limit of this reader.
    #[error("{name} has {what}, which exceeds the limit")]
    TooLarge {
        /// The file's name.
        name: String,
        /// What exceeds the limit.
        what: String,
    },
    /// A tensor of a type that is not supported.
    #[error(
        "{name}: tensor `{tensor}` has the type {found}, which is not supported; supported: {known}",
        known = crate::TensorType::names()
    )]
    UnknownType {
        /// The file's name.
        name: String,
        /// The tensor's name.
        tensor: String,
        /// The type's name or number.
        found: String,
    },
    /// Weights that were quantised by a method, or with an option, that is not supported.
    #[error("{name}: `{key}` is {value}, which is not supported; supported: {supported}")]
    Quantisation {
        /// The configuration's name.
        name: String,
        /// The key in it.
        key: String,
        /// Its value, shortened.
        value: String,
        /// The values that are supported.
        supported: String,
    },
    /// Rows that are not a whole number of blocks of the tensor's type.
    #[error(
        "{name}: tensor `{tensor}` of shape {shape:?} does not fit its type {ty}, whose block size is {block}"
    )]
    BlockShape {
        /// The file's name.
        name: String,
        /// The tensor's name.
        tensor: String,
        /// Its dimensions, outermost first.
        shape: Vec<usize>,
        /// Its type.
        ty: crate::TensorType,
        /// Weights in a block of the type.
        block: usize,
    },
    /// A tensor that a model needs and its files do not contain.
    #[error("{name} has no tensor `{tensor}`")]
    MissingTensor {
        /// The file's name.
        name: String,
        /// The tensor's name.
        tensor: String,
    },
    /// GGUF metadata without a key, or with a value of another kind.
    #[error("{name}: metadata key `{key}` is missing or not {expected}")]
    Metadata {
        /// The file's name.
        name: String,
        /// The metadata key.
        key: String,
        /// What its value must be.
        expected: &'static str,
    },
    /// A type without an encoder, or whose encoder needs rows ([`crate::encode_rows`]).
    #[error(
        "cannot encode to {0}; supported: f32, f16, bf16, q4_0, q4_1, q8_0, nf4, and by rows q5_0, q5_1, q2_K to q6_K, iq4_nl, iq4_xs"
    )]
    CannotEncode(crate::TensorType),
    /// An importance for another number of columns.
    #[error(
        "an importance of {found} columns for a matrix of {cols}; use one made from this model"
    )]
    Importance {
        /// Columns of the matrix.
        cols: usize,
        /// Weights that were given.
        found: usize,
    },
    /// Values or importances that are infinite or not numbers.
    #[error("cannot encode to {0} what is infinite or not a number; use f32 or bf16")]
    NotFinite(crate::TensorType),
}
