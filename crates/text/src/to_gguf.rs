//! A `tokenizer.json` as GGUF metadata. No file names the matching GGUF pre-tokenizer, so each known one is
//! tried until one gives the same tokens.

use std::collections::HashMap;

use serde_json::Value as Json;
use siskin_formats::{Array, Gguf, Header, SideFiles, Value};

use crate::{Error, Result, TextModel};

/// Words, digits, contractions, spaces, scripts and code, on which pre-tokenizers differ.
const PROBES: [&str; 6] = [
    "The quick brown fox doesn't jump; WE'LL see, I'd say 1234567 times!",
    "  leading spaces,\ttabs\r\nand\n\n\nlines   \n",
    "Übergrößenträger, naïve café, 東京は日本の首都です。Привет, мир! 🙂🏳️‍🌈 e\u{301}",
    "fn main() { println!(\"{:>8.3}\", x_1 + 3.14159); } // 100%",
    "CamelCaseWords and snake_case_words, HTTPServer2024 a/b\\c",
    "٣٤٥ ½ x² \u{a0}nbsp",
];
const PRES: [&str; 5] = ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken"];

/// ggml's token types.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// The keys `tokenizer.*` of GGUF for a folder's tokenizer and a vocabulary of `vocab_size` rows.
///
/// # Errors
/// If GGUF has no equivalent of the tokenizer.
pub fn gguf_metadata(side: &SideFiles, vocab_size: usize) -> Result<Vec<(String, Value)>> {
    let unfit = |what: String| Error::Tokenizer {
        name: format!("{}/tokenizer.json", side.folder),
        what: format!("it cannot be converted to GGUF: {what}"),
    };
    let original = TextModel::from_side_files(side)?;
    let parse = |name: &str| -> Json {
        serde_json::from_str(side.get(name).unwrap_or_default()).unwrap_or_default()
    };
    let file = parse("tokenizer.json");
    let model = &file["model"];
    if model["type"] != "BPE" {
        return Err(unfit(format!("its model is {}", model["type"])));
    }
    let mut pieces: Vec<String> = (0..vocab_size).map(|i| format!("[PAD{i}]")).collect();
    let mut types = vec![UNUSED; vocab_size];
    let is_byte = |p: &str| p.len() == 6 && p.starts_with("<0x") && p.ends_with('>');
    let is_spm = model["byte_fallback"] == true;
    for (piece, id) in model["vocab"].as_object().into_iter().flatten() {
        let slot = id
            .as_u64()
            .and_then(|id| types.get_mut(id as usize).map(|t| (id, t)));
        let (id, slot) =
            slot.ok_or_else(|| unfit(format!("`{piece}` is outside the model's vocabulary")))?;
        *slot = match piece.as_str() {
            p if is_spm && is_byte(p) => BYTE,
            p if model["unk_token"] == p => UNKNOWN,
            _ => NORMAL,
        };
        pieces[id as usize] = piece.clone();
    }
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let (Some(id), Some(piece)) = (token["id"].as_u64(), token["content"].as_str()) else {
            continue;
        };
        // A token without a row in the embedding, such as Gemma's image token, can be neither read nor generated.
        let Some(slot) = types.get_mut(id as usize) else {
            continue;
        };
        if *slot != UNKNOWN {
            *slot = if token["special"] == true {
                CONTROL
            } else {
                USER_DEFINED
            };
        }
        pieces[id as usize] = piece.into();
    }
    let merges: Option<Vec<String>> = model["merges"].as_array().map(|list| {
        let merge = |m: &Json| match (m.as_str(), &m[0], &m[1]) {
            (Some(text), ..) => text.to_string(),
            (_, Json::String(l), Json::String(r)) => format!("{l} {r}"),
            _ => String::new(),
        };
        list.iter().map(merge).collect()
    });
    let merges = merges.ok_or_else(|| unfit("it has no merges".into()))?;
    let mut out: Vec<(String, Value)> = vec![];
    let mut set = |key: &str, value: Value| out.push((format!("tokenizer.ggml.{key}"), value));
    set(
        "model",
        Value::String(if is_spm { "llama" } else { "gpt2" }.into()),
    );
    if is_spm {
        // The earlier the merge that produces a piece, the higher its score.
        let ranks = merges.iter().enumerate().rev();
        let ranks: HashMap<String, usize> =
            ranks.map(|(i, m)| (m.replacen(' ', "", 1), i)).collect();
        let score = |p: &String| ranks.get(p).map_or(0.0, |r| -(*r as f32) - 1.0);
        set(
            "scores",
            Value::Array(Array::Float(pieces.iter().map(score).collect())),
        );
        let prefixed = file["normalizer"].to_string().contains("\"Prepend\"");
        set("add_space_prefix", Value::Bool(prefixed));
        if let Some(id) = types.iter().position(|t| *t == UNKNOWN) {
            set("unknown_token_id", Value::Uint(id as u64));
        }
    } else {
        set("merges", Value::Array(Array::String(merges)));
    }
    let named = |name: &str| {
        let id = original.named_token(name);
        id.filter(|id| (*id as usize) < vocab_size)
    };
    let (bos, eos) = (named("bos_token"), named("eos_token"));
    let eos = eos.or(original.end_tokens().last());
    for (key, id) in [
        ("bos_token_id", bos),
        ("eos_token_id", eos),
        ("padding_token_id", named("pad_token")),
        ("seperator_token_id", named("sep_token")),
        ("cls_token_id", named("cls_token")),
        ("mask_token_id", named("mask_token")),
        // The token that ends an answer, for chat models whose tokenizer has a different end-of-text token.
        (
            "eot_token_id",
            original.end_tokens().find(|id| Some(*id) != eos),
        ),
    ] {
        if let Some(id) = id {
            set(key, Value::Uint(id.into()));
        }
    }
    if !is_spm && let Some(id) = named("unk_token") {
        set("unknown_token_id", Value::Uint(id.into()));
    }
    let probe = original.encode(PROBES[0])?;
    let is =
        |token: Option<&crate::Token>, id: Option<u32>| id.is_some() && token.map(|t| t.id) == id;
    set("add_bos_token", Value::Bool(is(probe.first(), bos)));
    set("add_eos_token", Value::Bool(is(probe.last(), eos)));
    set("tokens", Value::Array(Array::String(pieces)));
    set("token_type", Value::Array(Array::Int(types)));
    if let Some(template) = original.template() {
        out.push((
            "tokenizer.chat_template".into(),
            Value::String(template.into()),
        ));
    }
    let pres: &[&str] = if is_spm { &["default"] } else { &PRES };
    for pre in pres {
        let pre = (
            "tokenizer.ggml.pre".to_string(),
            Value::String((*pre).into()),
        );
        let metadata: Vec<_> = out.iter().cloned().chain([pre]).collect();
        if is_same(&original, &metadata)? {
            return Ok(metadata);
        }
    }
    Err(unfit(
        "no known GGUF pre-tokenizer splits text in the same way".into(),
    ))
}

/// Whether the metadata yields a tokenizer with the same ids for every probe.
fn is_same(original: &TextModel, metadata: &[(String, Value)]) -> Result<bool> {
    let made = TextModel::from_gguf(&Gguf {
        name: "the new file".into(),
        header: Header {
            version: 3,
            metadata: metadata.iter().cloned().collect(),
            ..Header::default()
        },
    })?;
    for probe in PROBES {
        let ids = |m: &TextModel| {
            m.encode(probe)
                .map(|t| t.iter().map(|t| t.id).collect::<Vec<_>>())
        };
        if ids(original)? != ids(&made)? {
            return Ok(false);
        }
    }
    Ok(true)
}
