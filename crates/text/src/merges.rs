//! How BPE assembles a word, merge by merge, for display.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value as Json;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

/// A word and how BPE assembles it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MergedWord {
    /// The word, as in the text.
    pub word: String,
    /// Its pieces after each merge: first characters or bytes, last its tokens.
    pub steps: Vec<Vec<String>>,
}

/// Rank of each merge: the lowest is applied first.
#[derive(Debug)]
pub(crate) struct Merges(HashMap<(String, String), usize>);

impl Merges {
    /// `None` for a tokenizer that is not BPE.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let json = serde_json::to_value(tokenizer.get_model()).ok()?;
        let merges = json["merges"].as_array()?;
        let pair = |m: &Json| match m {
            Json::String(s) => s.split_once(' ').map(|(a, b)| (a.into(), b.into())),
            _ => Some((m[0].as_str()?.into(), m[1].as_str()?.into())),
        };
        let ranked = merges.iter().filter_map(pair).zip(0..);
        Some(Self(ranked.collect()))
    }

    /// The words of a text as the tokenizer splits it, each with its merges.
    pub fn words(&self, tokenizer: &Tokenizer, text: &str) -> Vec<MergedWord> {
        use tokenizers::Normalizer;
        let mut split = PreTokenizedString::from(text);
        if let Some(normalizer) = tokenizer.get_normalizer() {
            let _ = split.normalize(|s| normalizer.normalize(s));
        }
        if let Some(pre) = tokenizer.get_pre_tokenizer() {
            let _ = pre.pre_tokenize(&mut split);
        }
        split
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(word, (start, end), _)| MergedWord {
                // Byte-level words are written in a special alphabet.
                word: text.get(start..end).unwrap_or(word).into(),
                steps: self.steps(word),
            })
            .collect()
    }

    fn steps(&self, word: &str) -> Vec<Vec<String>> {
        let mut pieces: Vec<String> = word.chars().map(String::from).collect();
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
            pieces[at].push_str(&right);
            steps.push(pieces.clone());
        }
        steps
    }
}
