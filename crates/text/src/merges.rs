//! How a tokenizer assembles words, for display: for BPE, merge by merge.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value as Json;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizer, Token, Tokenizer,
};

/// A word and how the tokenizer assembles it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MergedWord {
    /// The word, as in the text.
    pub word: String,
    /// Its pieces after each merge of BPE: first characters or bytes, last its tokens. A tokenizer without merges, and a
    /// word that is a token by itself, have a single step: the tokens.
    pub steps: Vec<Vec<String>>,
}

/// Rank of each merge, for BPE: the lowest is applied first.
#[derive(Debug)]
pub(crate) struct Merges(HashMap<(String, String), usize>);

impl Merges {
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else {
            return Self(HashMap::new());
        };
        let json = serde_json::to_value(bpe).unwrap_or_default();
        let pair = |m: &Json| match m {
            Json::String(s) => s.split_once(' ').map(|(a, b)| (a.into(), b.into())),
            _ => Some((m[0].as_str()?.into(), m[1].as_str()?.into())),
        };
        let merges = json["merges"].as_array().into_iter().flatten();
        Self(merges.filter_map(pair).zip(0..).collect())
    }

    /// The words of a text as the tokenizer splits it, each with its steps.
    pub fn words(&self, tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Vec<MergedWord>> {
        let added = tokenizer.get_added_vocabulary();
        let mut split = added.extract_and_normalize(tokenizer.get_normalizer(), text);
        if let Some(pre) = tokenizer.get_pre_tokenizer() {
            pre.pre_tokenize(&mut split)?;
        }
        let pieces = |tokens: &[Token]| tokens.iter().map(|t| t.value.clone()).collect();
        let mut words = vec![];
        for (word, (start, end), tokens) in
            split.get_splits(OffsetReferential::Original, OffsetType::Byte)
        {
            let steps = match (tokens, tokenizer.get_model()) {
                (Some(tokens), _) => vec![pieces(tokens)],
                (None, ModelWrapper::BPE(bpe)) => self.steps(bpe, word),
                (None, model) => vec![pieces(&model.tokenize(word)?)],
            };
            words.push(MergedWord {
                // Byte-level words are written in a special alphabet.
                word: text.get(start..end).unwrap_or(word).into(),
                steps,
            });
        }
        Ok(words)
    }

    fn steps(&self, bpe: &BPE, word: &str) -> Vec<Vec<String>> {
        if bpe.ignore_merges && bpe.token_to_id(word).is_some() {
            return vec![vec![word.into()]];
        }
        let prefix = bpe.continuing_subword_prefix.as_deref().unwrap_or_default();
        let mut pieces = smallest(bpe, word);
        let mut steps = vec![pieces.clone()];
        loop {
            let rank = |pair: &[String]| self.0.get(&(pair[0].clone(), pair[1].clone()));
            let best = pieces
                .windows(2)
                .enumerate()
                .filter_map(|(i, pair)| Some((rank(pair)?, i)))
                .min();
            let Some((_, at)) = best else { break };
            let right = pieces.remove(at + 1);
            pieces[at].push_str(right.strip_prefix(prefix).unwrap_or(&right));
            steps.push(pieces.clone());
        }
        steps
    }
}

/// The pieces that BPE begins with. Characters that it does not know are bytes, the unknown token, or left out.
fn smallest(bpe: &BPE, word: &str) -> Vec<String> {
    let prefix = bpe.continuing_subword_prefix.as_deref().unwrap_or_default();
    let suffix = bpe.end_of_word_suffix.as_deref().unwrap_or_default();
    let mut pieces = vec![];
    let mut was_unknown = false;
    for (at, c) in word.char_indices() {
        let mut piece = String::from(if at == 0 { "" } else { prefix });
        piece.push(c);
        if at + c.len_utf8() == word.len() {
            piece.push_str(suffix);
        }
        let is_known = |piece: &String| bpe.token_to_id(piece).is_some();
        let bytes: Vec<String> = piece.bytes().map(|b| format!("<{b:#04X}>")).collect();
        if is_known(&piece) {
            pieces.push(piece);
        } else if bpe.byte_fallback && bytes.iter().all(is_known) {
            pieces.extend(bytes);
        } else {
            if let Some(unknown) = &bpe.unk_token
                && !(was_unknown && bpe.fuse_unk)
            {
                pieces.push(unknown.clone());
            }
            was_unknown = true;
            continue;
        }
        was_unknown = false;
    }
    pieces
}
