//! Grammars for a model, as its sessions follow them.

use std::sync::Arc;

use siskin_engine::{Constraint, Grammar};
use siskin_text::TextModel;

use crate::{Compiled, Compiler, Error, Following, Shape, Source, Vocabulary, tokens_of};

/// Compiles shapes for one model's vocabulary.
#[derive(Debug)]
pub struct Grammars(Compiler);

impl Grammars {
    /// Reads the vocabulary, which takes a fraction of a second.
    ///
    /// # Errors
    /// If its tokens have no bytes, or none ends an answer.
    pub fn new(text: Arc<TextModel>) -> Result<Self, Error> {
        let own = text.clone();
        let tokenize = Box::new(move |bytes: &[u8]| tokens_of(&own, bytes));
        Compiler::new(&Vocabulary::of(&text)?, tokenize).map(Self)
    }

    /// Prepares a shape for answers.
    ///
    /// # Errors
    /// If it is not valid, or has what is not supported.
    pub fn compile(&self, shape: &Shape) -> Result<Arc<dyn Grammar>, Error> {
        self.compile_source(&shape.source()?)
    }

    /// The same for a grammar, such as that of an answer with calls of tools ([`crate::Calls::source`]).
    ///
    /// # Errors
    /// If it is not valid, or has what is not supported.
    pub fn compile_source(&self, source: &Source) -> Result<Arc<dyn Grammar>, Error> {
        Ok(Arc::new(self.0.compile(source)?))
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> Result<Box<dyn Constraint>, String> {
        Ok(Box::new(Self::begin(self)))
    }
}

impl Constraint for Following {
    fn allowed(&mut self) -> Result<Vec<u32>, String> {
        Self::allowed(self)
    }

    fn add(&mut self, token: u32, may_force: bool) -> Result<Vec<u32>, String> {
        Self::add(self, token, may_force)
    }

    fn is_complete(&self) -> bool {
        Self::is_complete(self)
    }
}
