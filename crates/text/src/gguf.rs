//! Tokenizers from GGUF metadata. The pieces are passed to `tokenizers` in the form that
//! `tokenizer.json` would have (`transformers/convert_slow_tokenizer.py`).

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use siskin_formats::{Array, Gguf};
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::ends::END_TOKENS;
use crate::tokenizer::{Parts, Templates};
use crate::{Error, Result, TextModel, check, gguf_pre};

/// ggml's token types.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Whether a beginning-of-text token is put before plain text.
fn adds_bos(file: &Gguf) -> bool {
    let by_default = match file.str("tokenizer.ggml.model") {
        Some("llama" | "gemma4") => true,
        _ => gguf_pre::adds_bos(gguf_pre::kind(file)),
    };
    file.bool("tokenizer.ggml.add_bos_token")
        .unwrap_or(by_default)
}

fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let key = "tokenizer.ggml.tokens";
    let pieces = file
        .strings(key)
        .ok_or_else(|| file.missing(key, "a list of strings"))?;
    let mut tokenizer = match file.str("tokenizer.ggml.model") {
        Some("gpt2") => byte_level_bpe(file, pieces)?,
        Some("llama") => sentence_piece_bpe(file, pieces)?,
        Some("gemma4") => spaced_bpe(file, pieces)?,
        Some("t5") => unigram(file, pieces)?,
        other => {
            return Err(Error::UnknownKind {
                name: file.name.clone(),
                kind: other.unwrap_or("(none)").into(),
                known: "gpt2 llama gemma4 t5".into(),
            });
        }
    };
    add_special(file, pieces, &mut tokenizer);
    Ok(tokenizer)
}

fn wrong(file: &Gguf, what: impl std::fmt::Display) -> Error {
    Error::Tokenizer {
        name: file.name.clone(),
        what: format!(
            "its tokenizer is not valid ({})",
            check::one_line(&what.to_string())
        ),
    }
}

/// A part of a tokenizer from the JSON that `tokenizer.json` would contain.
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

fn merges(file: &Gguf) -> Result<Vec<(String, String)>> {
    let key = "tokenizer.ggml.merges";
    let merges = file
        .strings(key)
        .ok_or_else(|| file.missing(key, "a list of strings"))?;
    let pairs: Option<Vec<(String, String)>> = merges
        .iter()
        // A piece may be a space or begin with one.
        .map(|m| {
            let at = m.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
            Some((m[..at].into(), m[at + 1..].into()))
        })
        .collect();
    pairs.ok_or_else(|| wrong(file, "a merge without a space"))
}

/// Gemma 4's BPE: merges over text whose spaces are `▁`, split into lines.
fn spaced_bpe(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocab(pieces).into_iter().collect::<ahash::AHashMap<_, _>>(),
            merges(file)?,
        )
        .byte_fallback(true)
        .fuse_unk(true)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    with_spaces(file, &mut t, false)?;
    let lines = json!({
        "type": "Split", "pattern": {"Regex": r"[^\n]+|\n+"}, "behavior": "Isolated", "invert": false
    });
    t.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(file, lines)?));
    Ok(t)
}

fn byte_level_bpe(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let pre = gguf_pre::pre(file)?;
    let pairs = merges(file)?;
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocab(pieces).into_iter().collect::<ahash::AHashMap<_, _>>(),
            pairs,
        )
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    let split = |pattern: &&str| {
        json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
        })
    };
    let mut steps: Vec<Json> = pre.patterns.iter().map(split).collect();
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
    with_spaces(file, &mut t, true)?;
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
    with_spaces(file, &mut t, true)?;
    Ok(t)
}

/// Spaces are `▁` in SentencePiece vocabularies; unknown characters are bytes `<0xNN>`.
fn with_spaces(file: &Gguf, t: &mut Tokenizer, prefix: bool) -> Result<()> {
    let prefix = file
        .bool("tokenizer.ggml.add_space_prefix")
        .unwrap_or(prefix);
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

/// Control tokens (type 3) are special, user-defined ones (type 4) are unsplittable but ordinary text. Types are often
/// wrong, so tokens that end answers, and others that the file's keys name, are always control tokens; a
/// normal token that the chat template spells out is unsplittable, too.
fn add_special(file: &Gguf, pieces: &[String], t: &mut Tokenizer) {
    let types = match file.array("tokenizer.ggml.token_type") {
        Some(Array::Int(types)) => types.as_slice(),
        _ => &[],
    };
    let keys = ["bos", "eos", "eot", "eom"];
    let keyed = keys.map(|k| file.uint(&format!("tokenizer.ggml.{k}_token_id")));
    let template = file.str("tokenizer.chat_template").unwrap_or_default();
    let (mut special, mut whole) = (vec![], vec![]);
    for (id, piece) in pieces.iter().enumerate() {
        let kind = types.get(id).copied().unwrap_or(NORMAL);
        let is_key = keyed.contains(&Some(id as u64)) && piece.chars().count() > 1;
        if kind == CONTROL || is_key || END_TOKENS.contains(&piece.as_str()) {
            special.push(AddedToken::from(piece.clone(), true).normalized(false));
        } else if kind == USER_DEFINED {
            whole.push(AddedToken::from(piece.clone(), false).normalized(false));
        } else if kind == NORMAL && is_marker(piece) && template.contains(piece.as_str()) {
            // Markers of thoughts and calls are read by programs, so they are shown.
            let shown = ["think", "tool", "function", "reason"];
            let shown = shown.iter().any(|s| piece.contains(s));
            let token = AddedToken::from(piece.clone(), !shown).normalized(false);
            if shown {
                whole.push(token);
            } else {
                special.push(token);
            }
        }
    }
    let _ = t.add_special_tokens(special);
    let _ = t.add_tokens(whole);
}

/// `<|name|>`, `<name>` or `[NAME]`, which do not occur in text by chance.
fn is_marker(piece: &str) -> bool {
    let inner = piece
        .strip_prefix('<')
        .and_then(|p| p.strip_suffix('>'))
        .or_else(|| piece.strip_prefix('[').and_then(|p| p.strip_suffix(']')));
    inner.is_some_and(|i| i.chars().count() > 2 && !i.contains(char::is_whitespace))
}

/// Ids whose piece another id has too, with the id by which the tokenizer knows it.
fn twins(file: &Gguf, t: &Tokenizer) -> HashMap<u32, u32> {
    let pieces = file.strings("tokenizer.ggml.tokens").unwrap_or_default();
    let known = |(id, piece): (u32, &String)| {
        let own = t.token_to_id(piece).filter(|own| *own != id);
        own.map(|own| (id, own))
    };
    (0..).zip(pieces).filter_map(known).collect()
}

impl TextModel {
    /// Builds it from a GGUF file's metadata.
    ///
    /// # Errors
    /// If the metadata does not contain a valid tokenizer.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let wrong = |what: String| wrong(file, what);
        let tokenizer = check::guarded(|| tokenizer(file)).map_err(wrong)??;
        let id = |key: &str| {
            file.uint(&format!("tokenizer.ggml.{key}"))
                .and_then(|id| u32::try_from(id).ok())
        };
        let names = [
            ("bos_token", "bos_token_id"),
            ("eos_token", "eos_token_id"),
            ("unk_token", "unknown_token_id"),
            ("sep_token", "seperator_token_id"),
            ("pad_token", "padding_token_id"),
            ("cls_token", "cls_token_id"),
            ("mask_token", "mask_token_id"),
        ];
        let named = names.iter().filter_map(|(name, key)| {
            let piece = id(key).and_then(|id| tokenizer.id_to_token(id))?;
            Some(((*name).to_string(), piece.into()))
        });
        let named: Map<String, Json> = named.collect();
        let source = |key: &str| file.str(key).map(String::from);
        let sources = [
            source("tokenizer.chat_template"),
            source("tokenizer.chat_template.tool_use"),
        ];
        let templates = Templates::of(sources, &named);
        let ends = ["eos_token_id", "eot_token_id", "eom_token_id"];
        let adds_eos = file.bool("tokenizer.ggml.add_eos_token").unwrap_or(false);
        let kind = file.str("tokenizer.ggml.model").unwrap_or_default();
        let pre = file
            .str("tokenizer.ggml.pre")
            .map_or(String::new(), |p| format!(" ({p})"));
        Ok(Self::new(Parts {
            templates,
            before: id("bos_token_id").filter(|_| adds_bos(file)),
            after: id("eos_token_id").filter(|_| adds_eos),
            named,
            eos: ends.iter().filter_map(|key| id(key)).collect(),
            eos_token: id("eos_token_id"),
            twins: twins(file, &tokenizer),
            kind: format!("{kind}{pre}"),
            ..Parts::of(tokenizer)
        }))
    }
}
