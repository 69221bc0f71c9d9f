//! A `tokenizer.json` as GGUF metadata. No file names the matching GGUF pre-tokenizer, so each known one is
//! tried until one gives the same tokens.

use std::collections::HashMap;

use serde_json::Value as Json;
use siskin_formats::{Array, Gguf, Header, SideFiles, Value};

use crate::{Error, Result, TextModel, Token, gguf_pre};

/// Words, digits, contractions, spaces, scripts and code, on which pre-tokenizers differ.
const PROBES: [&str; 6] = [
    "The quick brown fox doesn't jump; WE'LL see, I'd say 1234567 times!",
    "  leading spaces,\ttabs\r\nand\n\n\nlines   \n",
    "Übergrößenträger, naïve café, 東京は日本の首都です。Привет, мир! 🙂🏳️‍🌈 e\u{301}",
    "fn main() { println!(\"{:>8.3}\", x_1 + 3.14159); } // 100%",
    "CamelCaseWords and snake_case_words, HTTPServer2024 a/b\\c",
    "٣٤٥ ½ x² \u{a0}nbsp",
];
/// The most common ones, which are tried first.
const COMMON: [&str; 5] = ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken"];

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
    let text = side.get("tokenizer.json").unwrap_or_default();
    let file: Json = serde_json::from_str(text).unwrap_or_default();
    let model = &file["model"];
    if model["type"] != "BPE" {
        return Err(unfit(format!("its model is {}", model["type"])));
    }
    let vocabulary = Vocabulary::read(&file, vocab_size).map_err(unfit)?;
    let merges = merges(model).ok_or_else(|| unfit("it has no merges".into()))?;
    let is_spm = is_spm(model);
    let mut keys = Keys::default();
    if is_spm {
        keys.sentence_piece(&file, &vocabulary, &merges);
    } else {
        keys.set("model", Value::String("gpt2".into()));
        keys.set("merges", Value::Array(Array::String(merges)));
    }
    keys.special_tokens(&original, vocab_size, is_spm)?;
    keys.set("tokens", Value::Array(Array::String(vocabulary.pieces)));
    keys.set("token_type", Value::Array(Array::Int(vocabulary.types)));
    if let Some(template) = original.template() {
        let template = Value::String(template.into());
        keys.0.push(("tokenizer.chat_template".into(), template));
    }
    let rest = gguf_pre::byte_kinds().filter(|kind| !COMMON.contains(kind));
    let pres: Vec<&str> = match is_spm {
        true => vec!["default"],
        false => COMMON.into_iter().chain(rest).collect(),
    };
    keys.with_pre(&original, &pres)?
        .ok_or_else(|| unfit("no known GGUF pre-tokenizer splits text in the same way".into()))
}

/// SentencePiece's BPE, whose unknown characters are bytes.
fn is_spm(model: &Json) -> bool {
    model["byte_fallback"] == true
}

/// The text and ggml's type of each token.
struct Vocabulary {
    pieces: Vec<String>,
    types: Vec<i64>,
}

impl Vocabulary {
    fn read(file: &Json, vocab_size: usize) -> std::result::Result<Self, String> {
        let mut vocabulary = Self {
            pieces: (0..vocab_size).map(|i| format!("[PAD{i}]")).collect(),
            types: vec![UNUSED; vocab_size],
        };
        vocabulary.add_model(&file["model"])?;
        vocabulary.add_added(&file["added_tokens"]);
        Ok(vocabulary)
    }

    fn add_model(&mut self, model: &Json) -> std::result::Result<(), String> {
        let is_byte = |p: &str| p.len() == 6 && p.starts_with("<0x") && p.ends_with('>');
        for (piece, id) in model["vocab"].as_object().into_iter().flatten() {
            let id = id.as_u64().map(|id| id as usize);
            let id = id
                .filter(|id| *id < self.types.len())
                .ok_or_else(|| format!("`{piece}` is outside the model's vocabulary"))?;
            self.types[id] = match piece.as_str() {
                p if is_spm(model) && is_byte(p) => BYTE,
                p if model["unk_token"] == p => UNKNOWN,
                _ => NORMAL,
            };
            self.pieces[id].clone_from(piece);
        }
        Ok(())
    }

    fn add_added(&mut self, tokens: &Json) {
        for token in tokens.as_array().into_iter().flatten() {
            let (Some(id), Some(piece)) = (token["id"].as_u64(), token["content"].as_str()) else {
                continue;
            };
            // A token without a row in the embedding, such as Gemma's image token, can be neither read nor generated.
            let Some(slot) = self.types.get_mut(id as usize) else {
                continue;
            };
            if *slot != UNKNOWN {
                *slot = if token["special"] == true {
                    CONTROL
                } else {
                    USER_DEFINED
                };
            }
            self.pieces[id as usize] = piece.into();
        }
    }
}

/// The merges, each as two pieces with a space between them.
fn merges(model: &Json) -> Option<Vec<String>> {
    let merge = |m: &Json| match (m.as_str(), &m[0], &m[1]) {
        (Some(text), ..) => text.to_string(),
        (_, Json::String(l), Json::String(r)) => format!("{l} {r}"),
        _ => String::new(),
    };
    let list = model["merges"].as_array()?;
    Some(list.iter().map(merge).collect())
}

/// Metadata in the making.
#[derive(Default)]
struct Keys(Vec<(String, Value)>);

impl Keys {
    fn set(&mut self, key: &str, value: Value) {
        self.0.push((format!("tokenizer.ggml.{key}"), value));
    }

    fn sentence_piece(&mut self, file: &Json, vocabulary: &Vocabulary, merges: &[String]) {
        self.set("model", Value::String("llama".into()));
        // The earlier the merge that produces a piece, the higher its score.
        let ranks = merges.iter().enumerate().rev();
        let ranks: HashMap<String, usize> =
            ranks.map(|(i, m)| (m.replacen(' ', "", 1), i)).collect();
        let score = |p: &String| ranks.get(p).map_or(0.0, |r| -(*r as f32) - 1.0);
        let scores = vocabulary.pieces.iter().map(score).collect();
        self.set("scores", Value::Array(Array::Float(scores)));
        let prefixed = file["normalizer"].to_string().contains("\"Prepend\"");
        self.set("add_space_prefix", Value::Bool(prefixed));
        if let Some(id) = vocabulary.types.iter().position(|t| *t == UNKNOWN) {
            self.set("unknown_token_id", Value::Uint(id as u64));
        }
    }

    fn special_tokens(
        &mut self,
        original: &TextModel,
        vocab_size: usize,
        is_spm: bool,
    ) -> Result<()> {
        let named = |name: &str| {
            let id = original.named_token(name);
            id.filter(|id| (*id as usize) < vocab_size)
        };
        let bos = named("bos_token");
        let eos = named("eos_token").or(original.end_tokens().last());
        // The token that ends an answer, for chat models whose tokenizer has a different end-of-text token.
        let eot = original.end_tokens().find(|id| Some(*id) != eos);
        for (key, id) in [
            ("bos_token_id", bos),
            ("eos_token_id", eos),
            ("padding_token_id", named("pad_token")),
            ("seperator_token_id", named("sep_token")),
            ("cls_token_id", named("cls_token")),
            ("mask_token_id", named("mask_token")),
            ("eot_token_id", eot),
            ("unknown_token_id", named("unk_token").filter(|_| !is_spm)),
        ] {
            if let Some(id) = id {
                self.set(key, Value::Uint(id.into()));
            }
        }
        let probe = original.encode(PROBES[0])?;
        let is = |token: Option<&Token>, id: Option<u32>| id.is_some() && token.map(|t| t.id) == id;
        self.set("add_bos_token", Value::Bool(is(probe.first(), bos)));
        self.set("add_eos_token", Value::Bool(is(probe.last(), eos)));
        Ok(())
    }

    /// The metadata with the first of these pre-tokenizers that splits the probes as the original does.
    fn with_pre(self, original: &TextModel, pres: &[&str]) -> Result<Option<Vec<(String, Value)>>> {
        for pre in pres {
            let pre = (
                "tokenizer.ggml.pre".to_string(),
                Value::String((*pre).into()),
            );
            let metadata: Vec<_> = self.0.iter().cloned().chain([pre]).collect();
            if is_same(original, &metadata)? {
                return Ok(Some(metadata));
            }
        }
        Ok(None)
    }
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
