#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

#[cfg(feature = "model")]
mod calls;
#[cfg(feature = "compiler")]
mod compiler;
mod gbnf;
#[cfg(all(feature = "compiler", feature = "model"))]
mod grammars;
mod source;
mod vocabulary;

#[cfg(feature = "model")]
pub use crate::calls::Calls;
#[cfg(feature = "compiler")]
pub use crate::compiler::{Compiled, Compiler, Following};
#[cfg(all(feature = "compiler", feature = "model"))]
pub use crate::grammars::Grammars;
pub use crate::source::{Shape, Source};
pub use crate::vocabulary::Vocabulary;
#[cfg(feature = "model")]
pub use crate::vocabulary::tokens_of;

/// A shape that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The vocabulary cannot be read.
    #[error("the model's vocabulary cannot be restricted: {0}")]
    Vocabulary(String),
    /// The grammar is not valid, or has what is not supported.
    #[error("the {kind} cannot be used: {what}")]
    Shape {
        /// Which kind it is.
        kind: String,
        /// What is wrong.
        what: String,
    },
}
