//! A model's vocabulary, as llguidance needs it.

use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenizerEnv};
use siskin_text::{Rendered, TextModel};

use crate::Error;

pub struct Vocabulary {
    text: Arc<TextModel>,
    trie: TokTrie,
}

impl Vocabulary {
    pub fn new(text: Arc<TextModel>) -> Result<Self, Error> {
        let ends: Vec<u32> = text.end_tokens().collect();
        let Some(end) = ends.first() else {
            return Err(Error::Vocabulary(
                "it has no token that ends an answer".into(),
            ));
        };
        let n = text.vocab_size() as u32;
        let bytes: Vec<Vec<u8>> = (0..n).map(|id| bytes_of(&text, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(n, *end), &bytes).with_eos_tokens(&ends);
        Ok(Self { text, trie })
    }
}

/// Special tokens, which no text of an answer contains, are marked by a byte that UTF-8 does not have.
fn bytes_of(text: &TextModel, id: u32) -> Vec<u8> {
    match text.is_special(id) {
        true => [&[TokTrie::SPECIAL_TOKEN_MARKER], text.piece(id).as_bytes()].concat(),
        false => text.token_bytes(id),
    }
}

impl Vocabulary {
    fn own_tokens(&self, bytes: &[u8]) -> Option<Vec<u32>> {
        let text = std::str::from_utf8(bytes).ok()?;
        let plain = Rendered {
            text: text.into(),
            plain: std::iter::once(0..text.len()).collect(),
            generation: None,
        };
        let tokens = self.text.encode_rendered(&plain).ok()?;
        let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
        let spelled = ids.iter().flat_map(|id| self.text.token_bytes(*id));
        spelled.eq(bytes.iter().copied()).then_some(ids)
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the model's tokenizer does it, unless that adds something to the text.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let own = self.own_tokens(bytes);
        own.unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }
}
