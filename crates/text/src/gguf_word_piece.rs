//! BERT's WordPiece from GGUF metadata, in which `▁` precedes the pieces that begin a word; in `tokenizer.json`, `##`
//! precedes those that continue one.

use serde_json::json;
use siskin_formats::Gguf;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::Result;
use crate::gguf::{named_id, part, vocab, wrong};

/// Precedes a piece that continues a word.
const PREFIX: &str = "##";
/// A longer word is unknown, as in transformers.
const MAX_WORD: usize = 100;
/// The names that the special tokens have in GGUF, and their texts.
const SPECIAL: [(&str, &str); 5] = [
    ("cls", "[CLS]"),
    ("seperator", "[SEP]"),
    ("unknown", "[UNK]"),
    ("padding", "[PAD]"),
    ("mask", "[MASK]"),
];

/// The vocabulary, as `tokenizer.json` has it.
pub(crate) fn pieces(of_file: &[String]) -> Vec<String> {
    let piece = |piece: &String| match piece.strip_prefix('▁') {
        Some(word) => word.to_string(),
        None if piece.starts_with('[') && piece.ends_with(']') => piece.clone(),
        None => format!("{PREFIX}{piece}"),
    };
    of_file.iter().map(piece).collect()
}

/// A special token, by its key or its text. `[CLS]` may be the file's `bos`.
fn id(file: &Gguf, pieces: &[String], name: &str) -> Option<u32> {
    let by_key = |name: &str| named_id(file, name).filter(|id| (*id as usize) < pieces.len());
    let by_text = || {
        let text = SPECIAL.iter().find(|(n, _)| *n == name)?.1;
        (0u32..).zip(pieces).find(|(_, p)| *p == text)
    };
    let bos = || by_key("bos").filter(|_| name == "cls");
    by_key(name).or_else(bos).or_else(|| Some(by_text()?.0))
}

/// The special tokens that the vocabulary has.
pub(crate) fn special(file: &Gguf, pieces: &[String]) -> Vec<u32> {
    let ids = SPECIAL.iter().map(|(name, _)| id(file, pieces, name));
    ids.flatten().collect()
}

/// `[CLS]` and `[SEP]`, which are always put around plain text.
pub(crate) fn around(file: &Gguf, pieces: &[String]) -> [Option<u32>; 2] {
    ["cls", "seperator"].map(|name| id(file, pieces, name))
}

pub(crate) fn tokenizer(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let unknown = id(file, pieces, "unknown").and_then(|id| pieces.get(id as usize));
    let unknown = unknown.ok_or_else(|| wrong(file, "it has no token for unknown words"))?;
    let model = WordPiece::builder()
        .vocab(vocab(pieces).into_iter().collect::<ahash::AHashMap<_, _>>())
        .unk_token(unknown.clone())
        .continuing_subword_prefix(PREFIX.into())
        .max_input_chars_per_word(MAX_WORD)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::WordPiece(model));
    let flag = |name: &str| file.bool(&format!("tokenizer.ggml.normalizer.{name}"));
    let lowercase = flag("lowercase").unwrap_or(true);
    let normalizer = json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": flag("strip_accents").unwrap_or(lowercase), "lowercase": lowercase,
    });
    t.with_normalizer(Some(part::<NormalizerWrapper>(file, normalizer)?))
        .map_err(|e| wrong(file, e))?;
    let words = json!({"type": "BertPreTokenizer"});
    t.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(file, words)?));
    let decoder = json!({"type": "WordPiece", "prefix": PREFIX, "cleanup": true});
    t.with_decoder(Some(part::<DecoderWrapper>(file, decoder)?));
    Ok(t)
}
