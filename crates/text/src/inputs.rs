//! Texts as encoders read them: one, or two that are read together, cut to a length.

use crate::{Result, TextModel, Token};

/// The tokens of one text, or of two that are read together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Which of the two texts each belongs to, as the tokenizer numbers them (`token_type_ids`).
    pub kinds: Vec<u32>,
    /// How many tokens it had before it was cut.
    pub whole: usize,
}

impl Input {
    /// At most `max` tokens; the last ones are left out, but for those that the tokenizer adds at the end.
    fn cut(tokens: Vec<Token>, kinds: Vec<u32>, max: usize) -> Self {
        let whole = tokens.len();
        let added = |t: &&Token| t.special && t.start == t.end;
        let end = tokens.iter().rev().take_while(added).count().min(max);
        let left_out = max.min(whole).saturating_sub(end)..whole - end;
        let mut ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
        let mut kinds = kinds;
        if whole > max {
            ids.drain(left_out.clone());
            kinds.drain(left_out);
        }
        Self { ids, kinds, whole }
    }
}

impl TextModel {
    /// One text, with the tokens that the model expects at its ends, cut to `max` tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn input(&self, text: &str, max: usize) -> Result<Input> {
        let tokens = self.encode(text)?;
        let kinds = vec![0; tokens.len()];
        Ok(Input::cut(tokens, kinds, max))
    }

    /// Two texts that are read together, with the tokens that the model expects between them, cut to `max` tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the texts.
    pub fn pair(&self, first: &str, second: &str, max: usize) -> Result<Input> {
        let [before, after] = self.added_around();
        if before.or(after).is_none() {
            let (tokens, kinds) = self.encode_two(first, second)?;
            return Ok(Input::cut(tokens, kinds, max));
        }
        // A tokenizer that adds no tokens by itself: the texts are put together as llama.cpp's rerankers do it.
        let mut tokens = self.encode(first)?;
        tokens.extend(self.between().map(|id| self.added(id, 0)));
        let mut kinds = vec![0; tokens.len()];
        let second = self.encode(second)?;
        tokens.extend(second.into_iter().skip(usize::from(before.is_some())));
        kinds.resize(tokens.len(), 1);
        Ok(Input::cut(tokens, kinds, max))
    }
}
