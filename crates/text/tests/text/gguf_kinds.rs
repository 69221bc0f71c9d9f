//! Each of GGUF's tokenizer models, and each kind of pre-tokenizer.

use std::path::Path;

use serde_json::{Value as Json, json};
use siskin_formats::{Array, Gguf, Header, Value};
use siskin_text::{Error, Rendered, TextModel, TextStream};

fn strings(items: &[impl ToString]) -> Value {
    Value::Array(Array::String(
        items.iter().map(ToString::to_string).collect(),
    ))
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn model(keys: Vec<(&str, Value)>) -> Result<TextModel, Error> {
    let keys = keys.into_iter();
    let metadata = keys.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
    TextModel::from_gguf(&Gguf {
        name: "test.gguf".into(),
        header: Header {
            version: 3,
            metadata: metadata.collect(),
            ..Header::default()
        },
    })
}

fn pieces(model: &TextModel, text: &str) -> Vec<String> {
    let tokens = model.encode(text).unwrap();
    tokens.into_iter().map(|t| t.piece).collect()
}

/// Text that spells no special tokens.
fn plain(text: &str) -> Rendered {
    Rendered {
        text: text.into(),
        plain: std::iter::once(0..text.len()).collect(),
        generation: None,
    }
}

/// A tokenizer with single bytes, `ab` and `<s>`, but no merges.
fn of_kind(kind: &str) -> Result<TextModel, Error> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let own = (0..=255u8).filter(printable).map(char::from);
    let others = (0x100..).take(256 - own.clone().count());
    let mut tokens: Vec<String> = own.map(String::from).collect();
    tokens.extend(others.filter_map(char::from_u32).map(String::from));
    tokens.extend(["ab".into(), "<s>".into()]);
    let bos = tokens.len() - 1;
    model(vec![
        ("model", text("gpt2")),
        ("pre", text(kind)),
        ("tokens", strings(&tokens)),
        ("merges", strings(&[""; 0])),
        ("bos_token_id", Value::Uint(bos as u64)),
    ])
}

#[test]
fn every_kind_splits_text_as_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers");
    let recorded = std::fs::read_to_string(root.join("splits.json")).unwrap();
    let recorded: Json = serde_json::from_str(&recorded).unwrap();
    let mut count = 0;
    for row in recorded["rows"].as_array().unwrap() {
        for kind in row["kinds"].as_array().unwrap() {
            count += 1;
            let kind = kind.as_str().unwrap();
            let model = of_kind(kind).unwrap();
            let texts = recorded["texts"].as_array().unwrap();
            for (text, lengths) in texts.iter().zip(row["lengths"].as_array().unwrap()) {
                let words = model.merges(text.as_str().unwrap());
                let words: Vec<&str> = words.iter().map(|w| w.word.as_str()).collect();
                let found: Vec<usize> = words.iter().map(|w| w.chars().count()).collect();
                assert_eq!(&json!(found), lengths, "{kind}: {words:?}");
            }
            // Gemma 4 always begins with it.
            let is_gemma = ["gemma4", "granite-embed-multi-311m"].contains(&kind);
            let mut expected = vec!["<s>"; usize::from(row["add_bos"] == true || is_gemma)];
            expected.extend(match row["ignore_merges"] == true {
                true => vec!["ab"],
                false => vec!["a", "b"],
            });
            assert_eq!(pieces(&model, "ab"), expected, "{kind}");
        }
    }
    assert!(count > 90, "{count}");
}

#[test]
fn unknown_kinds_and_models_are_refused_by_name() {
    let error = of_kind("llama-bqe").unwrap_err();
    assert!(
        matches!(&error, Error::UnknownKind { kind, known, .. } if kind == "llama-bqe" && known.contains("llama-bpe"))
    );
    for name in ["rwkv", "plamo2", "hybriddna", "none"] {
        let keys = vec![("model", text(name)), ("tokens", strings(&["a"]))];
        let error = model(keys).unwrap_err();
        assert!(
            matches!(&error, Error::UnknownKind { kind, known, .. } if kind == name && known.contains("bert"))
        );
    }
}

/// Some of BGE's vocabulary, as in its GGUF file.
const BERT: [&str; 34] = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "▁ie",
    "d",
    "▁4",
    "▁½",
    "▁months",
    "▁ap",
    "fe",
    "l",
    "▁hello",
    "▁,",
    "▁y",
    "▁'",
    "▁all",
    "▁!",
    "▁how",
    "▁are",
    "▁you",
    "▁?",
    "▁我",
    "▁apple",
    "▁131",
    "41",
    "51",
    "▁天",
    "▁～",
    "▁cu",
    "a",
    "▁viet",
    "▁.",
];

fn bert(more: Vec<(&'static str, Value)>) -> TextModel {
    let keys = vec![
        ("model", text("bert")),
        ("pre", text("bert-bge")),
        ("tokens", strings(&BERT)),
    ];
    model(keys.into_iter().chain(more).collect()).unwrap()
}

#[test]
fn word_pieces_are_llama_cpps() {
    let model = bert(vec![]);
    // Recorded by llama.cpp: ggml-vocab-bert-bge.gguf.out.
    for (text, expected) in [
        ("ied 4 ½ months", "ie ##d 4 ½ months"),
        ("Äpfel", "ap ##fe ##l"),
        ("\n \t\n", ""),
        (
            "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～",
            "hello , y ' all ! how are you [UNK] ? 我 [UNK] [UNK] apple [UNK] [UNK] 131 ##41 ##51 天 ～",
        ),
        ("Cửa Viẹt", "cu ##a viet"),
    ] {
        let expected: Vec<&str> = expected.split_terminator(' ').collect();
        let all = [&["[CLS]"], expected.as_slice(), &["[SEP]"]].concat();
        assert_eq!(pieces(&model, text), all);
        let tokens = model.encode_rendered(&plain(text)).unwrap();
        let found: Vec<&str> = tokens.iter().map(|t| t.piece.as_str()).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn word_pieces_have_words_spans_and_text() {
    let model = bert(vec![]);
    let words = model.merges("Äpfel, ied");
    let steps: Vec<_> = words.iter().map(|w| w.steps.clone()).collect();
    assert_eq!(
        json!(steps),
        json!([[["ap", "##fe", "##l"]], [[","]], [["ie", "##d"]]])
    );
    let words: Vec<&str> = words.iter().map(|w| w.word.as_str()).collect();
    assert_eq!(words, ["Äpfel", ",", "ied"]);
    let tokens = model.encode("Äpfel, ied").unwrap();
    let spans: Vec<_> = tokens.iter().map(|t| (t.start, t.end)).collect();
    assert_eq!(
        spans,
        [
            (0, 0),
            (0, 3),
            (3, 5),
            (5, 6),
            (6, 7),
            (8, 10),
            (10, 11),
            (11, 11)
        ]
    );
    let special: Vec<bool> = tokens.iter().map(|t| t.special).collect();
    assert!(special[0] && special[7] && special.iter().filter(|s| **s).count() == 2);
    let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
    assert_eq!(model.decode(&ids), "apfel, ied");
    let mut stream = TextStream::new(&[]);
    let streamed: String = ids.iter().map(|id| stream.push(&model, *id).text).collect();
    assert_eq!(streamed + &stream.finish(&model), "apfel, ied");
    // `fe` continues a word.
    assert_eq!(model.token_bytes(11), b"fe");
    assert_eq!(model.token_bytes(24), b"apple");
    assert_eq!(model.named_token("cls_token"), None);
}

#[test]
fn word_pieces_keep_case_and_accents_where_the_file_says_so() {
    let keys = || {
        vec![
            ("normalizer.lowercase", Value::Bool(false)),
            ("cls_token_id", Value::Uint(4)),
        ]
    };
    let cased = bert(keys());
    assert_eq!(
        pieces(&cased, "Apfel apfel"),
        ["[MASK]", "[UNK]", "ap", "##fe", "##l", "[SEP]"]
    );
    assert_eq!(pieces(&cased, "äpfel")[1], "[UNK]");
    let stripped = [
        keys(),
        vec![("normalizer.strip_accents", Value::Bool(true))],
    ]
    .concat();
    assert_eq!(pieces(&bert(stripped), "äpfel")[1], "ap");
    assert_eq!(cased.named_token("cls_token"), Some(4));
}

#[test]
fn words_longer_than_100_characters_are_unknown() {
    let model = bert(vec![]);
    let count = |ls: usize| pieces(&model, &("ap".to_string() + &"l".repeat(ls))).len();
    assert_eq!((count(98), count(99)), (101, 3));
}

#[test]
fn merges_end_with_the_tokens() {
    let merges = ["▁ h", "▁h i", "h i"];
    let tokens = [
        "<unk>", "<s>", "▁", "h", "i", "▁h", "▁hi", "hi", "\n", "<0xC3>", "<0xA4>",
    ];
    let model = model(vec![
        ("model", text("gemma4")),
        ("tokens", strings(&tokens)),
        ("merges", strings(&merges)),
        ("bos_token_id", Value::Uint(1)),
        (
            "token_type",
            Value::Array(Array::Int(vec![2, 3, 1, 1, 1, 1, 1, 1, 1, 6, 6])),
        ),
    ])
    .unwrap();
    let words = model.merges("hi hiä\n<s>");
    assert_eq!(
        json!(words),
        json!([
            {"word": "hi hiä", "steps": [
                ["h", "i", "▁", "h", "i", "<0xC3>", "<0xA4>"],
                ["h", "i", "▁h", "i", "<0xC3>", "<0xA4>"],
                ["h", "i", "▁hi", "<0xC3>", "<0xA4>"],
                ["hi", "▁hi", "<0xC3>", "<0xA4>"],
            ]},
            {"word": "\n", "steps": [["\n"]]},
            {"word": "<s>", "steps": [["<s>"]]},
        ])
    );
    let last = words.iter().flat_map(|w| w.steps.last().unwrap().clone());
    assert_eq!(last.collect::<Vec<_>>(), pieces(&model, "hi hiä\n<s>")[1..]);
}

#[test]
fn text_that_spells_a_control_token_is_text_to_unigram_too() {
    let tokens = ["<unk>", "</s>", "▁", "<", "/", "s", ">", "▁a"];
    let model = model(vec![
        ("model", text("t5")),
        ("tokens", strings(&tokens)),
        (
            "scores",
            Value::Array(Array::Float(vec![
                0.0, 0.0, -2.0, -3.0, -3.0, -3.0, -3.0, -1.0,
            ])),
        ),
        (
            "token_type",
            Value::Array(Array::Int(vec![2, 3, 1, 1, 1, 1, 1, 1])),
        ),
        ("unknown_token_id", Value::Uint(0)),
        ("eos_token_id", Value::Uint(1)),
    ])
    .unwrap();
    assert_eq!(pieces(&model, "a</s>"), ["▁a", "</s>", "</s>"]);
    let tokens = model.encode_rendered(&plain("a</s></s>")).unwrap();
    let found: Vec<_> = tokens.iter().map(|t| (t.piece.as_str(), t.start)).collect();
    let expected = [
        ("▁a", 0),
        ("<", 1),
        ("/", 2),
        ("s", 3),
        (">", 4),
        ("<", 5),
        ("/", 6),
        ("s", 7),
        (">", 8),
    ];
    assert_eq!(found, expected);
}

#[test]
fn damaged_charsmaps_are_refused() {
    for charsmap in [vec![], vec![4, 0, 0], vec![4, 0, 0, 0], vec![255; 12]] {
        let what = format!("{charsmap:?}");
        let keys = vec![
            ("model", text("t5")),
            ("tokens", strings(&["<unk>", "a"])),
            ("scores", Value::Array(Array::Float(vec![0.0, -1.0]))),
            ("precompiled_charsmap", Value::Array(Array::Int(charsmap))),
        ];
        let error = model(keys).unwrap_err().to_string();
        assert!(error.contains("charsmap"), "{what}: {error}");
    }
}
