use std::sync::Arc;

use siskin_engine::Error;
use siskin_text::{Message, RenderRequest, Rendered, TextModel};
use wasm_bindgen::prelude::*;

use crate::error::{Result, to_js};
use crate::{json, parse};

/// Converts text to tokens and back. Lists are JSON.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Tokenizer(pub(crate) Arc<TextModel>);

#[wasm_bindgen]
impl Tokenizer {
    /// Tokens `{ id, piece, start, end, special }` of plain text, or of a rendered chat template.
    pub fn encode(&self, text: &str, rendered: bool) -> Result<String> {
        let tokens = if rendered {
            self.0.encode_rendered(&Rendered {
                text: text.into(),
                ..Rendered::default()
            })
        } else {
            self.0.encode(text)
        };
        json(&tokens.map_err(|e| to_js(Error::Text(e)))?)
    }

    pub fn decode(&self, ids: &[u32]) -> String {
        self.0.decode(ids)
    }

    /// The text of each token by itself.
    pub fn texts(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|id| self.0.decode(&[*id])).collect()
    }

    /// The text of `[{ role, content }]`.
    pub fn render(&self, messages: &str, add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Message> = parse(messages)?;
        let rendered = self.0.render(&RenderRequest {
            messages: &messages,
            add_generation_prompt,
            ..RenderRequest::default()
        });
        rendered.map(|r| r.text).map_err(|e| to_js(Error::Text(e)))
    }

    /// `[{ word, steps: [[piece]] }]`: how each word is assembled; without merges, its tokens are the only step.
    pub fn merges(&self, text: &str) -> Result<String> {
        json(&self.0.merges(text))
    }
}
