//! Damaged `tokenizer.json` files give an error or a tokenizer, but no panic, hang or excessive memory.

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use siskin_formats::SideFiles;
use siskin_text::TextModel;

fn fixture(name: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/tokenizers");
    let text = std::fs::read_to_string(root.join(name).join("tokenizer.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whether it opened. A tokenizer that opens must encode and decode.
fn tried(text: &str) -> bool {
    let start = Instant::now();
    let mut side = SideFiles::new("folder");
    side.add("tokenizer.json", text.into());
    let model = TextModel::from_side_files(&side);
    if let Ok(model) = &model {
        let _ = model.encode("Hello wörld, 1 2 3 <|im_end|>\n\n  x");
        let _ = model.decode(&[0, 5, 300, u32::MAX]);
        let _ = (model.token_bytes(7), model.piece(u32::MAX));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    if let Err(e) = &model {
        assert!(!e.to_string().contains('\n'), "{e}");
    }
    model.is_ok()
}

fn with(name: &str, path: &str, value: Value) -> String {
    let mut json = fixture(name);
    *json.pointer_mut(path).unwrap() = value;
    json.to_string()
}

#[test]
fn files_that_broke_tokenizers_are_refused_or_read() {
    let text = fixture("plain").to_string();
    for cut in [0, 1, 100, text.len() / 2, text.len() - 1] {
        assert!(!tried(&text[..cut]));
    }
    for charsmap in [
        "",
        "A",
        "/////w==",
        "AAAA",
        "/////wAAAAAAAAAA",
        "BAAAAA==",
        "?",
    ] {
        let part = json!({"type": "Precompiled", "precompiled_charsmap": charsmap});
        assert!(!tried(&with("plain", "/normalizer", part)), "{charsmap}");
    }
    assert!(!tried(&with(
        "plain",
        "/normalizer",
        json!({"type": "Prepend", "prepend": ""})
    )));
    let mut deep = json!({"type": "Digits", "individual_digits": true});
    for _ in 0..50 {
        deep = json!({"type": "Sequence", "pretokenizers": [deep]});
    }
    assert!(!tried(&with("plain", "/pre_tokenizer", deep)));
    let padding = json!({"strategy": {"Fixed": 0}, "direction": "Right", "pad_to_multiple_of": 0,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
    assert!(tried(&with("plain", "/padding", padding)));
    let truncation =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 9});
    assert!(tried(&with("plain", "/truncation", truncation)));
    assert!(!tried(&with(
        "plain",
        "/model/continuing_subword_prefix",
        json!("##########")
    )));
    assert!(!tried("{}") && !tried("[]") && !tried("null") && !tried("\"x\""));
}

/// Paths of all values, but only a few of the vocabulary's.
fn paths(json: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.into());
    match json {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate().take(4) {
                paths(item, &format!("{at}/{i}"), out);
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter().take(12) {
                let key = key.replace('~', "~0").replace('/', "~1");
                paths(item, &format!("{at}/{key}"), out);
            }
        }
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!("")),
        Just(json!("\u{0}▁\n")),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([["", ""]])),
        Just(json!({"type": "Sequence"})),
        Just(
            json!({"type": "Metaspace", "replacement": "", "prepend_scheme": "always", "split": true})
        ),
        Just(
            json!({"type": "Split", "pattern": {"Regex": "(a*)*$|"}, "behavior": "Isolated", "invert": true})
        ),
        Just(json!({"type": "Unigram", "unk_id": 9, "vocab": [["a", 1e300], ["", -1e300]]})),
        Just(
            json!({"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "", "max_input_chars_per_word": 0, "vocab": {"a": 0}})
        ),
        "[a-zA-Z<>|▁ ]{0,12}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutants_are_refused_or_read(
        name in prop_oneof![Just("plain"), Just("logprobs"), Just("padding-left-mult8")],
        changes in prop::collection::vec((any::<prop::sample::Index>(), odd_value()), 1..4),
    ) {
        let mut json = fixture(name);
        for (index, value) in changes {
            let mut all = vec![];
            paths(&json, "", &mut all);
            // Excluding the whole file.
            all.remove(0);
            if all.is_empty() {
                break;
            }
            let path = index.get(&all);
            *json.pointer_mut(path).unwrap() = value;
        }
        tried(&json.to_string());
    }
}
