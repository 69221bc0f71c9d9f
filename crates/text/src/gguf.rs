//! Tokenizers from GGUF metadata. The pieces are passed to `tokenizers` in the form that
//! `tokenizer.json` would have (`transformers/convert_slow_tokenizer.py`).

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use siskin_formats::{Array, Gguf, sort_by};
use tokenizers::models::bpe::{BPE, BpeBuilder};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{Precompiled, Sequence};
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::ends::END_TOKENS;
use crate::gguf_pre::{Alphabet, Pre, pre};
use crate::tokenizer::{Parts, Templates};
use crate::{Error, Result, TextModel, check, gguf_word_piece as word_piece};

/// ggml's token types.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The models of tokenizers, as `tokenizer.ggml.model` names them.
const MODELS: &str = "gpt2 llama gemma4 whitespace t5 bert";

fn model(file: &Gguf) -> &str {
    file.str("tokenizer.ggml.model").unwrap_or("(none)")
}

/// The token with one of GGUF's names: `bos`, `eos`, `seperator`, ….
pub(crate) fn named_id(file: &Gguf, name: &str) -> Option<u32> {
    let id = file.uint(&format!("tokenizer.ggml.{name}_token_id"))?;
    u32::try_from(id).ok()
}

/// The tokens that are put before and after plain text.
fn around(file: &Gguf, pieces: &[String]) -> Result<[Option<u32>; 2]> {
    let (bos, eos) = match model(file) {
        "bert" => return Ok(word_piece::around(file, pieces)),
        "llama" => (true, false),
        "t5" => (false, true),
        _ => (pre(file)?.adds_bos, false),
    };
    let added = |name: &str, by_default: bool| {
        let key = format!("tokenizer.ggml.add_{name}_token");
        let adds = file.bool(&key).unwrap_or(by_default);
        named_id(file, name).filter(|_| adds)
    };
    Ok([added("bos", bos), added("eos", eos)])
}

/// The vocabulary, as `tokenizer.json` would have it.
fn pieces(file: &Gguf) -> Result<Cow<'_, [String]>> {
    let key = "tokenizer.ggml.tokens";
    let pieces = file
        .strings(key)
        .ok_or_else(|| file.missing(key, "a list of strings"))?;
    Ok(match model(file) {
        "bert" => word_piece::pieces(pieces).into(),
        _ => pieces.into(),
    })
}

fn tokenizer(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let mut tokenizer = match model(file) {
        "gpt2" | "gemma4" | "whitespace" => {
            let pre = pre(file)?;
            match pre.alphabet {
                Alphabet::Bytes => byte_level_bpe(file, pieces, pre)?,
                Alphabet::Spaces => spaced_bpe(file, pieces, pre)?,
                Alphabet::Words => word_bpe(file, pieces)?,
            }
        }
        "llama" => sentence_piece_bpe(file, pieces)?,
        "t5" => unigram(file, pieces)?,
        "bert" => word_piece::tokenizer(file, pieces)?,
        other => {
            return Err(Error::UnknownKind {
                name: file.name.clone(),
                kind: other.into(),
                known: MODELS.into(),
            });
        }
    };
    add_special(file, pieces, &mut tokenizer);
    Ok(tokenizer)
}

pub(crate) fn wrong(file: &Gguf, what: impl std::fmt::Display) -> Error {
    Error::Tokenizer {
        name: file.name.clone(),
        what: format!(
            "its tokenizer is not valid ({})",
            check::one_line(&what.to_string())
        ),
    }
}

/// A part of a tokenizer from the JSON that `tokenizer.json` would contain.
pub(crate) fn part<T: DeserializeOwned>(file: &Gguf, json: Json) -> Result<T> {
    serde_json::from_value(json).map_err(|e| wrong(file, e))
}

pub(crate) fn vocab(pieces: &[String]) -> HashMap<String, u32> {
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

/// Splits text at a pattern's matches, which are words, too.
fn split(pattern: &str) -> Json {
    json!({
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
    })
}

fn sequence(steps: Vec<Json>) -> Json {
    json!({"type": "Sequence", "pretokenizers": steps})
}

fn bpe(file: &Gguf, pieces: &[String]) -> Result<BpeBuilder> {
    let vocab: ahash::AHashMap<_, _> = vocab(pieces).into_iter().collect();
    Ok(BPE::builder().vocab_and_merges(vocab, merges(file)?))
}

/// Gemma 4's BPE: merges over text whose spaces are `▁`, split into lines.
fn spaced_bpe(file: &Gguf, pieces: &[String], pre: Pre) -> Result<Tokenizer> {
    let bpe = bpe(file, pieces)?
        .byte_fallback(true)
        .fuse_unk(true)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    with_spaces(file, &mut t, vec![], false)?;
    let steps = pre.patterns.iter().map(|p| split(p)).collect();
    t.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(file, sequence(steps))?));
    Ok(t)
}

/// Jina's Chinese BPE: merges within words, between which there is white space.
fn word_bpe(file: &Gguf, pieces: &[String]) -> Result<Tokenizer> {
    let bpe = bpe(file, pieces)?
        .byte_fallback(true)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    if file.bool("tokenizer.ggml.normalizer.lowercase") == Some(true) {
        let lowercase = part::<NormalizerWrapper>(file, json!({"type": "Lowercase"}))?;
        t.with_normalizer(Some(lowercase))
            .map_err(|e| wrong(file, e))?;
    }
    let words = json!({"type": "WhitespaceSplit"});
    t.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(file, words)?));
    let decoder =
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]});
    t.with_decoder(Some(part::<DecoderWrapper>(file, decoder)?));
    Ok(t)
}

fn byte_level_bpe(file: &Gguf, pieces: &[String], pre: Pre) -> Result<Tokenizer> {
    let bpe = bpe(file, pieces)?
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(|e| wrong(file, e))?;
    let mut t = Tokenizer::new(ModelWrapper::BPE(bpe));
    let mut steps: Vec<Json> = pre.patterns.iter().map(|p| split(p)).collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
    });
    steps.push(byte_level.clone());
    t.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(file, sequence(steps))?));
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
        sort_by(&mut splits, &mut |a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        merges.extend(
            splits
                .into_iter()
                .map(|(_, _, l, r)| (*score, l.to_string(), r.to_string())),
        );
    }
    sort_by(&mut merges, &mut |a, b| b.0.total_cmp(&a.0));
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
    with_spaces(file, &mut t, vec![], true)?;
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
    let mut normalizers = vec![];
    if let Some(Array::Int(bytes)) = file.array("tokenizer.ggml.precompiled_charsmap") {
        let bytes: Vec<u8> = bytes.iter().map(|b| *b as u8).collect();
        check::charsmap(&bytes).map_err(|e| wrong(file, e))?;
        let charsmap = Precompiled::from(&bytes).map_err(|e| wrong(file, e))?;
        normalizers.push(NormalizerWrapper::Precompiled(charsmap));
    }
    if file.bool("tokenizer.ggml.remove_extra_whitespaces") == Some(true) {
        for (pattern, content) in [("^ +| +$", ""), (" {2,}", " ")] {
            let replace =
                json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content});
            normalizers.push(part(file, replace)?);
        }
    }
    with_spaces(file, &mut t, normalizers, true)?;
    Ok(t)
}

/// Spaces are `▁` in SentencePiece vocabularies, after other normalizers; unknown characters are bytes `<0xNN>`.
fn with_spaces(
    file: &Gguf,
    t: &mut Tokenizer,
    mut normalizers: Vec<NormalizerWrapper>,
    prefix: bool,
) -> Result<()> {
    let prefix = file
        .bool("tokenizer.ggml.add_space_prefix")
        .unwrap_or(prefix);
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.push(part(file, json!({"type": "Prepend", "prepend": "▁"}))?);
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    normalizers.push(part(file, spaces)?);
    let normalizer = NormalizerWrapper::Sequence(Sequence::new(normalizers));
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    t.with_normalizer(Some(normalizer))
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
    let keyed = ["bos", "eos", "eot", "eom"].map(|name| named_id(file, name));
    let keyed = keyed.into_iter().flatten();
    let keyed: Vec<u32> = match model(file) {
        "bert" => keyed.chain(word_piece::special(file, pieces)).collect(),
        _ => keyed.collect(),
    };
    let template = file.str("tokenizer.chat_template").unwrap_or_default();
    let (mut special, mut whole) = (vec![], vec![]);
    for (id, piece) in (0u32..).zip(pieces) {
        let kind = types.get(id as usize).copied().unwrap_or(NORMAL);
        let is_key = keyed.contains(&id) && piece.chars().count() > 1;
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
fn twins(pieces: &[String], t: &Tokenizer) -> HashMap<u32, u32> {
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
        let pieces = pieces(file)?;
        let tokenizer = check::guarded(|| tokenizer(file, &pieces)).map_err(wrong)??;
        let names = [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("sep_token", "seperator"),
            ("pad_token", "padding"),
            ("cls_token", "cls"),
            ("mask_token", "mask"),
        ];
        let named = names.iter().filter_map(|(name, key)| {
            let piece = named_id(file, key).and_then(|id| tokenizer.id_to_token(id))?;
            Some(((*name).to_string(), piece.into()))
        });
        let named: Map<String, Json> = named.collect();
        let source = |key: &str| file.str(key).map(String::from);
        let sources = [
            source("tokenizer.chat_template"),
            source("tokenizer.chat_template.tool_use"),
        ];
        let templates = Templates::of(sources, &named);
        let ends = ["eos", "eot", "eom"].map(|name| named_id(file, name));
        let [before, after] = around(file, &pieces)?;
        let adds_between = file.bool("tokenizer.ggml.add_sep_token").unwrap_or(false);
        let between = named_id(file, "seperator").filter(|_| adds_between && model(file) != "bert");
        let pre = file
            .str("tokenizer.ggml.pre")
            .map_or(String::new(), |p| format!(" ({p})"));
        Ok(Self::new(Parts {
            templates,
            before,
            after,
            between,
            named,
            eos: ends.into_iter().flatten().collect(),
            eos_token: named_id(file, "eos"),
            twins: twins(&pieces, &tokenizer),
            kind: format!("{}{pre}", model(file)),
            ..Parts::of(tokenizer)
        }))
    }
}
