use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a model file. Each message names the thing and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {error}")]
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{path} is {what}, not a regular file")]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{path} points outside the folder, to {target}")]
    Outside { path: PathBuf, target: PathBuf },
    #[error("{name} is not a GGUF file (it starts with {found:02x?})")]
    NotGguf { name: String, found: Vec<u8> },
    #[error("{0} is a big-endian GGUF file, which is not supported")]
    BigEndian(String),
    #[error("{name} is GGUF version {version}; only versions 2 and 3 are supported")]
    GgufVersion { name: String, version: u32 },
    /// A part of a file that was split, where its other parts cannot be had.
    #[error("{name} is part {part} of {count} of a split GGUF file, {why}")]
    Split {
        name: String,
        part: u64,
        count: u64,
        why: String,
    },
    #[error("{name} ends inside {what} (at byte {len}): it is truncated")]
    Truncated {
        name: String,
        what: String,
        len: u64,
    },
    #[error("{name} is damaged: {what} at byte {offset} reaches beyond the file's {len} bytes")]
    BeyondFile {
        name: String,
        what: String,
        offset: u64,
        len: u64,
    },
    #[error("{name} is damaged: {what}")]
    Damaged { name: String, what: String },
    /// Possibly valid, but beyond the limits of this reader.
    #[error("{name} has {what}, which exceeds the limit")]
    TooLarge { name: String, what: String },
    #[error(
        "{name}: tensor `{tensor}` has the type {found}, which is not supported; supported: {known}",
        known = crate::TensorType::names()
    )]
    UnknownType {
        name: String,
        tensor: String,
        found: String,
    },
    #[error(
        "{name}: tensor `{tensor}` of shape {shape:?} does not fit its type {ty}, whose block size is {block}"
    )]
    BlockShape {
        name: String,
        tensor: String,
        shape: Vec<usize>,
        ty: crate::TensorType,
        block: usize,
    },
    #[error("{name} has no tensor `{tensor}`")]
    MissingTensor { name: String, tensor: String },
    #[error("{name}: metadata key `{key}` is missing or not {expected}")]
    Metadata {
        name: String,
        key: String,
        expected: &'static str,
    },
    #[error("cannot encode to {0}; supported: f32, f16, bf16, q4_0, q4_1, q8_0, nf4")]
    CannotEncode(crate::TensorType),
}
