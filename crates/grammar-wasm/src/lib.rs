//! Compiles grammars in a page, and follows them: what `siskin-wasm` leaves out. Errors are JavaScript `Error`s.

#![cfg(target_arch = "wasm32")]

use js_sys::{Function, Uint8Array, Uint32Array};
use send_wrapper::SendWrapper;
use siskin_grammar::{Compiled, Compiler, Following, Vocabulary};
use wasm_bindgen::prelude::*;

fn error(e: impl ToString) -> JsValue {
    js_sys::Error::new(&e.to_string()).into()
}

/// Compiles grammars for one model's vocabulary.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Grammars(Compiler);

#[wasm_bindgen]
impl Grammars {
    /// `bytes` are those of all tokens, `offsets` where those of each end, `ends` the tokens that end an answer. `tokenize`
    /// returns the model's own tokens of a `Uint8Array`, or undefined if it has none.
    #[wasm_bindgen(constructor)]
    pub fn new(
        bytes: Vec<u8>,
        offsets: Vec<u32>,
        ends: Vec<u32>,
        tokenize: Function,
    ) -> Result<Self, JsValue> {
        let vocabulary = Vocabulary {
            bytes,
            offsets,
            ends,
        };
        // A page has one thread.
        let tokenize = SendWrapper::new(tokenize);
        let tokenize = move |bytes: &[u8]| {
            let found = tokenize.call1(&JsValue::NULL, &Uint8Array::from(bytes).into());
            Some(found.ok()?.dyn_into::<Uint32Array>().ok()?.to_vec())
        };
        let compiler = Compiler::new(&vocabulary, Box::new(tokenize));
        compiler.map(Self).map_err(error)
    }

    /// Compiles a grammar, which is JSON that the other wasm has made.
    pub fn compile(&self, source: &str) -> Result<CompiledGrammar, JsValue> {
        let source = serde_json::from_str(source).map_err(error)?;
        let compiled = self.0.compile(&source).map_err(error)?;
        Ok(CompiledGrammar(compiled))
    }
}

/// A grammar at its beginning.
#[wasm_bindgen]
#[derive(Debug)]
pub struct CompiledGrammar(Compiled);

#[wasm_bindgen]
impl CompiledGrammar {
    /// The beginning of an answer.
    pub fn begin(&self) -> FollowingGrammar {
        FollowingGrammar(self.0.begin())
    }
}

/// A grammar after some tokens.
#[wasm_bindgen]
#[derive(Debug)]
pub struct FollowingGrammar(Following);

#[wasm_bindgen]
impl FollowingGrammar {
    /// The tokens that may come next, a bit each.
    pub fn allowed(&mut self) -> Result<Vec<u32>, JsValue> {
        self.0.allowed().map_err(error)
    }

    /// Adds a token, and, if `may_force`, those that must come after it, which are returned.
    pub fn add(&mut self, token: u32, may_force: bool) -> Result<Vec<u32>, JsValue> {
        self.0.add(token, may_force).map_err(error)
    }

    /// Whether nothing may follow but the end.
    #[wasm_bindgen(js_name = isComplete)]
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
}
