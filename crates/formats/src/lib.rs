#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod blocks;
mod checkpoint;
mod dynamic;
mod error;
pub mod formats;
mod fp8;
mod ggml_types;
mod gguf;
mod gguf_header;
mod gguf_write;
mod integer_tensors;
mod integers;
pub mod isa;
mod mxfp4;
mod nf4;
mod offsets;
mod order;
mod pickle;
mod quantisation;
mod safetensors;
mod search;
mod side_files;
mod source;
mod split;
mod tensor_type;
mod torchao;

pub use blocks::{
    BLOCK_32, Block32, Encode, ForFormat, Format, Values, decode, encode, f16_to_f32,
};
pub use checkpoint::{Checkpoint, Place, TensorInfo, UnreadTensor, shard_names};
pub use dynamic::{dynamic_map, nearest_code};
pub use error::{Error, Result};
pub use gguf::{Array, Gguf, Header, Value};
pub use gguf_header::{Parsed, parse_header};
pub use gguf_write::{GgufTensor, write_gguf};
pub use nf4::{Nf4Parts, nf4_codes};
pub use order::sort_by;
pub use pickle::{TorchTensor, read_torch};
pub use safetensors::quant_states;
pub use search::encode_rows;
pub use side_files::SideFiles;
pub use source::{ByteSource, FileSource, read_regular};
pub use split::part_of;
pub use tensor_type::TensorType;
