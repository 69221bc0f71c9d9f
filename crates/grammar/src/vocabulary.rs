//! A model's vocabulary, as grammars need it.

#[cfg(feature = "model")]
use siskin_text::{Rendered, TextModel};

#[cfg(feature = "model")]
use crate::Error;

/// The byte before special tokens, which no text of an answer contains: UTF-8 does not have it.
pub(crate) const SPECIAL: u8 = 0xff;

/// The bytes of all tokens. In this form, it can be passed to another wasm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Of all tokens, one after another.
    pub bytes: Vec<u8>,
    /// Where the bytes of each token end.
    pub offsets: Vec<u32>,
    /// The tokens that end an answer; at least one.
    pub ends: Vec<u32>,
}

#[cfg(feature = "model")]
impl Vocabulary {
    /// Of a model.
    ///
    /// # Errors
    /// If none of its tokens ends an answer.
    pub fn of(text: &TextModel) -> Result<Self, Error> {
        let ends: Vec<u32> = text.end_tokens().collect();
        if ends.is_empty() {
            let what = "it has no token that ends an answer";
            return Err(Error::Vocabulary(what.into()));
        }
        let (mut bytes, mut offsets) = (vec![], vec![]);
        for id in 0..text.vocab_size() as u32 {
            if text.is_special(id) {
                bytes.push(SPECIAL);
                bytes.extend(text.piece(id).as_bytes());
            } else {
                bytes.extend(text.token_bytes(id));
            }
            offsets.push(bytes.len() as u32);
        }
        Ok(Self {
            bytes,
            offsets,
            ends,
        })
    }
}

#[cfg(feature = "compiler")]
impl Vocabulary {
    pub(crate) fn tokens(&self) -> Vec<Vec<u8>> {
        let ends = self.offsets.iter().map(|end| *end as usize);
        let starts = std::iter::once(0).chain(ends.clone());
        starts
            .zip(ends)
            .map(|(start, end)| self.bytes[start..end].to_vec())
            .collect()
    }
}

/// A model's own tokens of some bytes; `None` if they are not text, or its tokenizer adds something to it.
#[cfg(feature = "model")]
pub fn tokens_of(model: &TextModel, bytes: &[u8]) -> Option<Vec<u32>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = Rendered {
        text: text.into(),
        plain: std::iter::once(0..text.len()).collect(),
        generation: None,
    };
    let tokens = model.encode_rendered(&plain).ok()?;
    let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
    let spelled = ids.iter().flat_map(|id| model.token_bytes(*id));
    spelled.eq(bytes.iter().copied()).then_some(ids)
}
