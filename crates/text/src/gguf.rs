//! Tokenizers out of GGUF metadata. The pieces are given to `tokenizers` in the form in which
//! `tokenizer.json` would have them (`transformers/convert_slow_tokenizer.py`); the kinds of
//! pre-tokenizer are llama.cpp's (`llama-vocab.cpp`).

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use siskin_formats::{Array, Gguf};
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::{Error, Result};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PRE_KINDS: &str =
    "default gpt-2 llama-bpe llama3 llama-v3 qwen2 deepseek-r1-qwen smollm starcoder refact tekken";

/// How `pre` splits text: the digits apart, the pattern, and whether a whole word that is in the
/// vocabulary is taken before any merge.
struct Pre {
    digits: bool,
    pattern: &'static str,
    ignore_merges: bool,
    nfc: bool,
}

fn pre_kind(file: &Gguf) -> Result<Pre> {
    let kind = file.str("tokenizer.ggml.pre").unwrap_or("default");
    let pre = |digits, pattern, ignore_merges, nfc| Pre {
        digits,
        pattern,
        ignore_merges,
        nfc,
    };
    Ok(match kind {
        "default" | "gpt-2" => pre(false, GPT2, false, false),
        "llama-bpe" | "llama3" | "llama-v3" => pre(false, LLAMA3, true, false),
        "qwen2" | "deepseek-r1-qwen" => pre(false, QWEN2, false, true),
        "smollm" | "starcoder" | "refact" => pre(true, GPT2, false, false),
        "tekken" => pre(false, TEKKEN, true, false),
        other => {
            return Err(Error::UnknownKind {
                name: file.name.clone(),
                kind: other.into(),
                known: PRE_KINDS.into(),
            });
        }
    })
}

/// Whether plain text gets a beginning-of-text token.
pub(crate) fn adds_bos(file: &Gguf) -> bool {
    let by_default = match file.str("tokenizer.ggml.model") {
        Some("llama") => true,
        _ => matches!(
            file.str("tokenizer.ggml.pre"),
            Some("llama-bpe" | "llama3" | "llama-v3" | "tekken")
        ),
    };
    file.bool("tokenizer.ggml.add_bos_token")
        .unwrap_or(by_default)
}

pub(crate) fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let key = "tokenizer.ggml.tokens";
    let pieces = file
        .strings(key)
        .ok_or_else(|| file.missing(key, "a list of strings"))?;
    let mut tokenizer = match file.str("tokenizer.ggml.model") {
        Some("gpt2") => byte_level_bpe(file, pieces)?,
        Some("llama") => sentence_piece_bpe(file, pieces)?,
        Some("t5") => unigram(file, pieces)?,
        other => {
            return Err(Error::UnknownKind {
                name: file.name.clone(),
                kind: other.unwrap_or("(none)").into(),
                known: "gpt2 llama t5".into(),
            });
        }
    };
    add_special(file, pieces, &mut tokenizer);
    Ok(tokenizer)
}

fn wrong(file: &Gguf, what: impl std::fmt::Display) -> Error {
    Error::Tokenizer {
        name: file.name.clone(),
        what: format!("its tokenizer is not valid ({what})"),
    }
}

/// A part of a tokenizer from the JSON that `tokenizer.json` would hold.
fn part<T: DeserializeOwned>(file: &Gguf, json: Json) -> Result<T> {
    serde_json::from_value(json).map_err(|e| wrong(file, e))
}

fn vocab(pieces: &[String]) -> HashMap<String, u32> {
    pieces
        .iter()
        .zip(0..)
        .map(|(p, id)| (p.clone(), id))
        .collect()
}

fn byte_level_bpe(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let pre = pre_kind(file)?;
    let key = "tokenizer.ggml.merges";
    let merges = file
        .strings(key)
        .ok_or_else(|| file.missing(key, "a list of strings"))?;
    let pairs: Option<Vec<(String, String)>> = merges
        .iter()
        .map(|m| m.split_once(' ').map(|(l, r)| (l.into(), r.into())))
        .collect();
    let pairs = pairs.ok_or_else(|| wrong(file, "a merge without a space"))?;
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocab(pieces).into_iter().collect::<ahash::AHashMap<_, _>>(),
            pairs,
        )
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    let mut steps = vec![];
    if pre.digits {
        steps.push(json!({"type": "Digits", "individual_digits": true}));
    }
    steps.push(json!({
        "type": "Split", "pattern": {"Regex": pre.pattern}, "behavior": "Isolated", "invert": false
    }));
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
    });
    steps.push(byte_level.clone());
    let sequence = json!({"type": "Sequence", "pretokenizers": steps});
    t.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(file, sequence)?));
    t.with_decoder(Some(part::<DecoderWrapper>(file, byte_level)?));
    if pre.nfc {
        let nfc = part::<NormalizerWrapper>(file, json!({"type": "NFC"}))?;
        t.with_normalizer(Some(nfc)).map_err(|e| wrong(file, e))?;
    }
    Ok(t)
}

fn scores<'a>(file: &'a Gguf, pieces: &[String]) -> Result<&'a [f32]> {
    let key = "tokenizer.ggml.scores";
    match file.array(key) {
        Some(Array::Float(s)) if s.len() == pieces.len() => Ok(s),
        _ => Err(file
            .missing(key, "a list of floats as long as the vocabulary")
            .into()),
    }
}

/// SentencePiece's BPE: a merge's rank is the score of its result.
fn sentence_piece_bpe(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let scores = scores(file, pieces)?;
    let vocab = vocab(pieces);
    let mut merges = vec![];
    for (piece, score) in pieces.iter().zip(scores) {
        let mut splits: Vec<_> = piece
            .char_indices()
            .skip(1)
            .map(|(i, _)| piece.split_at(i))
            .filter_map(|(l, r)| Some((*vocab.get(l)?, *vocab.get(r)?, l, r)))
            .collect();
        splits.sort_by_key(|s| (s.0, s.1));
        merges.extend(
            splits
                .into_iter()
                .map(|(_, _, l, r)| (*score, l.to_string(), r.to_string())),
        );
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let unk = file.uint("tokenizer.ggml.unknown_token_id").unwrap_or(0) as usize;
    let mut builder = BPE::builder()
        .vocab_and_merges(
            vocab.into_iter().collect::<ahash::AHashMap<_, _>>(),
            merges
                .into_iter()
                .map(|(_, l, r)| (l, r))
                .collect::<Vec<_>>(),
        )
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(unk) = pieces.get(unk) {
        builder = builder.unk_token(unk.clone());
    }
    let bpe = builder.build().map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    with_spaces(file, &mut t)?;
    Ok(t)
}

fn unigram(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let scores = scores(file, pieces)?;
    let entries = pieces
        .iter()
        .cloned()
        .zip(scores.iter().map(|s| f64::from(*s)))
        .collect();
    let unk = file
        .uint("tokenizer.ggml.unknown_token_id")
        .map(|id| id as usize);
    let model = Unigram::from(entries, unk, true).map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::Unigram(model));
    with_spaces(file, &mut t)?;
    Ok(t)
}

/// Spaces are `▁` in SentencePiece vocabularies; unknown characters are bytes `<0xNN>`.
fn with_spaces(file: &Gguf, t: &mut Tokenizer) -> Result<()> {
    let prefix = file.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let mut normalizers = vec![];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.push(json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    t.with_normalizer(Some(part::<NormalizerWrapper>(file, normalizer)?))
        .map_err(|e| wrong(file, e))?;
    t.with_decoder(Some(part::<DecoderWrapper>(file, decoder)?));
    Ok(())
}

/// Control tokens (type 3) are special, user-defined ones (type 4) are whole but ordinary text.
fn add_special(file: &Gguf, pieces: &[String], t: &mut Tokenizer) {
    let Some(Array::Int(types)) = file.array("tokenizer.ggml.token_type") else {
        return;
    };
    let of_type = |wanted: i64| -> Vec<AddedToken> {
        let all = pieces.iter().zip(types).filter(|(_, ty)| **ty == wanted);
        all.map(|(p, _)| AddedToken::from(p.clone(), wanted == 3).normalized(false))
            .collect()
    };
    let _ = t.add_special_tokens(of_type(3));
    let _ = t.add_tokens(of_type(4));
}
