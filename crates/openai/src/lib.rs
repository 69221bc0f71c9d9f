//! OpenAI's chat completions, text completions and responses over siskin's engine, without a transport: a request becomes
//! prompts, and their answers become what is sent back, as a whole or as the events of a stream. The server sends it over
//! HTTP; in a page it is what the package's calls return.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference>. What is not supported is refused by name, never ignored.

mod best_of;
mod chat;
mod chunks;
mod common;
mod conversation;
mod ends;
mod error;
mod exchange;
mod fields;
mod input;
mod messages;
mod parsing;
mod response;
mod response_events;
mod response_items;
mod response_shapes;
mod shape;
mod shapes;
mod stream;
mod text;
mod tools;

pub use conversation::Conversation;
pub use error::{ApiError, Result};
pub use exchange::{Exchange, Prompt, Request, Route};
pub use fields::Fields;
pub use stream::{Stream, StreamEvent};
pub use tools::Tools;
