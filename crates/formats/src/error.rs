use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a model file. Each message names the thing and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{name} is not a GGUF file (it starts with {found:02x?}); give a .gguf file or a Hugging Face folder"
    )]
    NotGguf { name: String, found: Vec<u8> },
    #[error(
        "{name} is GGUF version {version}; only versions 2 and 3 are supported, convert it with a current llama.cpp"
    )]
    GgufVersion { name: String, version: u32 },
    #[error("{name} ends inside {what} (at byte {len}); it is truncated, download it again")]
    Truncated {
        name: String,
        what: String,
        len: u64,
    },
    #[error(
        "{name} is damaged: {what} at byte {offset} reaches beyond the file's {len} bytes; download it again"
    )]
    BeyondFile {
        name: String,
        what: String,
        offset: u64,
        len: u64,
    },
    #[error("{name} is damaged: {what}; download it again")]
    Damaged { name: String, what: String },
    #[error(
        "{name}: tensor `{tensor}` has the unknown type {found}; known: {known}",
        known = crate::TensorType::names()
    )]
    UnknownType {
        name: String,
        tensor: String,
        found: String,
    },
    #[error(
        "{name}: tensor `{tensor}` of shape {shape:?} does not fit its type {ty}, whose rows come in blocks of {block}"
    )]
    BlockShape {
        name: String,
        tensor: String,
        shape: Vec<usize>,
        ty: crate::TensorType,
        block: usize,
    },
    #[error("{name} has no tensor `{tensor}`; the file is incomplete or of another architecture")]
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
