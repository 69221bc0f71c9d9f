//! Encodes rendered text, parts of which must stay plain text.

use std::collections::HashSet;
use std::ops::Range;

use tokenizers::{
    AddedToken, Encoding, Model, ModelWrapper, NormalizedString, Normalizer, OffsetType,
    PreTokenizedString, PreTokenizer, Token, Tokenizer,
};

use crate::added::finder;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Like `Tokenizer::encode` without added special tokens, but special tokens spelled within `plain` stay text.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    plain: &[Range<usize>],
) -> Result<Encoding, Failure> {
    let added = tokenizer.get_added_tokens_decoder();
    let of_kind = |normalized: bool| {
        let tokens = added.iter().filter(|(_, t)| t.normalized == normalized);
        Finder::new(tokens.map(|(id, t)| (*id, t.clone())).collect(), plain)
    };
    let (raw, normalized) = (of_kind(false), of_kind(true));
    let mut parts = PreTokenizedString::from(text);
    parts.split(|_, part| raw.split(part))?;
    let normalizer = tokenizer.get_normalizer();
    parts.split(|_, mut part| {
        if let Some(n) = normalizer {
            n.normalize(&mut part)?;
        }
        normalized.split(part)
    })?;
    if let Some(pre) = tokenizer.get_pre_tokenizer() {
        pre.pre_tokenize(&mut parts)?;
    }
    let special = added.iter().filter(|(_, t)| t.special);
    let special = special.map(|(id, _)| *id).collect();
    let model = tokenizer.get_model();
    parts.tokenize(|part| ordinary(model, part.get(), &special))?;
    let encoding = parts.into_encoding(None, 0, OffsetType::Byte)?;
    tokenizer.post_process(encoding, None, false)
}

/// The model's tokens of a text. A special token that the text spells out, and that the model assembled from the
/// vocabulary, is split after its first character.
fn ordinary(
    model: &ModelWrapper,
    text: &str,
    special: &HashSet<u32>,
) -> Result<Vec<Token>, Failure> {
    let tokens = model.tokenize(text)?;
    let cut = |t: &Token| {
        let (start, end) = t.offsets;
        let first = t.value.chars().next()?.len_utf8();
        let is_spelled = text.get(start..end) == Some(t.value.as_str()) && first < t.value.len();
        (special.contains(&t.id) && is_spelled).then_some(start + first)
    };
    let cuts: Vec<usize> = tokens.iter().filter_map(cut).collect();
    if cuts.is_empty() {
        return Ok(tokens);
    }
    let mut out = vec![];
    let mut start = 0;
    for end in cuts.into_iter().chain([text.len()]) {
        for mut token in ordinary(model, &text[start..end], special)? {
            token.offsets = (token.offsets.0 + start, token.offsets.1 + start);
            out.push(token);
        }
        start = end;
    }
    Ok(out)
}

/// A stretch of text, or an added token.
type Piece = (NormalizedString, Option<Vec<Token>>);

struct Finder<'a> {
    tokens: Vec<(u32, AddedToken)>,
    words: Option<daachorse::DoubleArrayAhoCorasick<u32>>,
    plain: &'a [Range<usize>],
}

impl<'a> Finder<'a> {
    fn new(tokens: Vec<(u32, AddedToken)>, plain: &'a [Range<usize>]) -> Self {
        let words = finder(tokens.iter().map(|(_, t)| t.content.as_str()));
        Self {
            tokens,
            words,
            plain,
        }
    }

    /// Splits a text at its added tokens, as `tokenizers` does.
    fn split(&self, part: NormalizedString) -> Result<Vec<Piece>, Failure> {
        let text = part.get().to_string();
        let Some(words) = &self.words else {
            return Ok(vec![(part, None)]);
        };
        let mut out = vec![];
        let mut done = 0;
        let slice = |range: Range<usize>| {
            part.slice(tokenizers::tokenizer::normalizer::Range::Normalized(range))
                .ok_or("a part cannot be split")
        };
        for found in words.leftmost_find_iter(&text) {
            let (mut start, mut end) = (found.start(), found.end());
            let (id, token) = &self.tokens[found.value() as usize];
            if token.special {
                let (a, b) = slice(start..end)?.offsets_original();
                if self.plain.iter().any(|p| p.start < b && a < p.end) {
                    continue;
                }
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            if token.single_word
                && (text[..start].ends_with(is_word) || text[end..].starts_with(is_word))
            {
                continue;
            }
            if token.lstrip {
                start = text[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                out.push((slice(done..start)?, None));
            }
            let value = text[start..end].to_string();
            let length = value.len();
            out.push((
                slice(start..end)?,
                Some(vec![Token::new(*id, value, (0, length))]),
            ));
            done = end;
        }
        if done < text.len() || text.is_empty() {
            out.push((slice(done..text.len())?, None));
        }
        Ok(out)
    }
}
