//! Grammars that the other wasm has compiled, and what it needs to do so.

use std::fmt;

use send_wrapper::SendWrapper;
use siskin_engine::{Constraint, Grammar};
use siskin_grammar::{Vocabulary, tokens_of};
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid};
use crate::tokenizer::Tokenizer;

#[wasm_bindgen]
extern "C" {
    /// A grammar at its beginning.
    pub type CompiledGrammar;
    #[wasm_bindgen(method)]
    fn begin(this: &CompiledGrammar) -> FollowingGrammar;

    /// A grammar after some tokens.
    type FollowingGrammar;
    #[wasm_bindgen(method, catch)]
    fn allowed(this: &FollowingGrammar) -> Result<Vec<u32>>;
    #[wasm_bindgen(method, catch)]
    fn add(this: &FollowingGrammar, token: u32, may_force: bool) -> Result<Vec<u32>>;
    #[wasm_bindgen(method, js_name = isComplete)]
    fn is_complete(this: &FollowingGrammar) -> bool;
    #[wasm_bindgen(method)]
    fn free(this: &FollowingGrammar);
}

/// For the engine, which may use several threads where there are any.
pub struct Compiled(pub SendWrapper<CompiledGrammar>);

struct Following(SendWrapper<FollowingGrammar>);

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> std::result::Result<Box<dyn Constraint>, String> {
        Ok(Box::new(Following(SendWrapper::new(self.0.begin()))))
    }
}

impl Constraint for Following {
    fn allowed(&mut self) -> std::result::Result<Vec<u32>, String> {
        self.0.allowed().map_err(said)
    }

    fn add(&mut self, token: u32, may_force: bool) -> std::result::Result<Vec<u32>, String> {
        self.0.add(token, may_force).map_err(said)
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.free();
    }
}

/// A thrown error's message.
fn said(thrown: JsValue) -> String {
    let error = thrown.dyn_into::<js_sys::Error>();
    error.map_or_else(|_| "it failed".into(), |e| e.message().into())
}

#[wasm_bindgen]
impl Tokenizer {
    /// The bytes of all tokens, one after another; where those of each end; and the tokens that end an answer.
    pub fn vocabulary(&self) -> Result<js_sys::Array> {
        let found = Vocabulary::of(&self.0).map_err(|e| invalid(&e.to_string()))?;
        Ok(js_sys::Array::of3(
            &js_sys::Uint8Array::from(&found.bytes[..]),
            &js_sys::Uint32Array::from(&found.offsets[..]),
            &js_sys::Uint32Array::from(&found.ends[..]),
        ))
    }

    /// The model's own tokens of some bytes, if they are text and nothing is added to it.
    #[wasm_bindgen(js_name = tokensOf)]
    pub fn tokens_of(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        tokens_of(&self.0, bytes)
    }
}
