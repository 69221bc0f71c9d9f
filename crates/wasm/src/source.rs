//! A page's bytes: a Blob, or HTTP range requests.

use std::cell::RefCell;

use js_sys::{Promise, Uint8Array};
use siskin_engine::{AsyncSource, Error, Reading, Result};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    /// `{ name: string, size: number, read(offset, bytes): Promise<Uint8Array> }`
    #[derive(Debug)]
    pub type JsSource;
    #[wasm_bindgen(method, getter)]
    fn name(this: &JsSource) -> String;
    #[wasm_bindgen(method, getter)]
    fn size(this: &JsSource) -> f64;
    #[wasm_bindgen(method, catch)]
    fn read(this: &JsSource, offset: f64, bytes: f64) -> std::result::Result<Promise, JsValue>;
}

thread_local! {
    static THROWN: RefCell<Option<JsValue>> = const { RefCell::new(None) };
}

/// The last error thrown by a source.
pub fn thrown() -> Option<JsValue> {
    THROWN.take()
}

/// Large tensors are read in pieces, so that there are never two complete copies.
const PIECE: u64 = 8 << 20;

#[derive(Debug)]
pub struct Source {
    name: String,
    len: u64,
    js: JsSource,
}

impl Source {
    pub fn new(js: JsSource) -> Self {
        Self {
            name: js.name(),
            len: js.size() as u64,
            js,
        }
    }

    async fn piece(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let failed = |what: String| Error::Read {
            name: self.name.clone(),
            what,
        };
        let keep = |thrown: JsValue| {
            THROWN.set(Some(thrown));
            failed("the page's source failed".into())
        };
        let promise = self
            .js
            .read(offset as f64, out.len() as f64)
            .map_err(keep)?;
        let bytes: Uint8Array = JsFuture::from(promise)
            .await
            .map_err(keep)?
            .dyn_into()
            .map_err(|_| failed("its source did not return a Uint8Array".into()))?;
        if bytes.length() as usize != out.len() {
            let found = bytes.length();
            return Err(failed(format!(
                "its source returned {found} bytes at {offset} instead of {}",
                out.len()
            )));
        }
        bytes.copy_to(out);
        Ok(())
    }
}

impl AsyncSource for Source {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, bytes: u64) -> Reading<'_> {
        Box::pin(async move {
            let mut out = vec![];
            if out.try_reserve_exact(bytes as usize).is_err() {
                return Err(Error::OutOfMemory { needed: bytes });
            }
            out.resize(bytes as usize, 0);
            let mut at = 0;
            for piece in out.chunks_mut(PIECE as usize) {
                self.piece(offset + at, piece).await?;
                at += piece.len() as u64;
            }
            Ok(out)
        })
    }
}
