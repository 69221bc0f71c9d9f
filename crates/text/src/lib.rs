#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod added;
mod bytes;
mod calls;
mod chat;
mod check;
mod document;
mod encode;
mod ends;
mod error;
mod folder;
mod gguf;
mod gguf_pre;
mod gguf_word_piece;
mod inputs;
mod jinja;
mod merges;
mod message;
mod stream;
mod template;
mod time;
mod to_folder;
mod to_gguf;
mod tokenizer;

pub use calls::{AnswerFormat, AnswerParser, CallStart, Part, ToolCall, is_tool_name, tool_names};
pub use document::{DocumentTemplate, python_value};
pub use error::{Error, Result};
pub use inputs::Input;
pub use merges::MergedWord;
pub use message::{Message, RenderRequest, Rendered};
pub use stream::{Emitted, TextStream};
pub use template::ChatTemplate;
pub use time::DateTime;
pub use to_gguf::gguf_metadata;
pub use tokenizer::{TextModel, Token};
