//! Tokenizers built from GGUF metadata against the reference library's, and chat templates against
//! transformers' rendering.

use serde_json::{Value, json};
use siskin_formats::{Checkpoint, SideFiles};
use siskin_tests::fixture;
use siskin_text::{ChatTemplate, Message, RenderRequest, TextModel, TextStream};

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn text_model(kind: &str) -> TextModel {
    let checkpoint = Checkpoint::open(&fixture(&format!("tokenizers/{kind}.gguf"))).unwrap();
    TextModel::from_gguf(checkpoint.gguf.as_ref().unwrap()).unwrap()
}

const KINDS: [&str; 9] = [
    "gpt-2",
    "smollm",
    "qwen2",
    "llama-bpe",
    "llama",
    "gemma",
    "unigram",
    "bert",
    "t5",
];

#[test]
fn tokenizers_from_gguf_agree_with_the_reference() {
    let expected = read("tokenizers/expected.json");
    for kind in KINDS {
        let model = text_model(kind);
        let rows = expected[kind].as_array().unwrap();
        assert!(rows.len() > 10);
        for row in rows {
            let text = row["text"].as_str().unwrap();
            let tokens = model.encode(text).unwrap();
            let ids: Vec<u64> = tokens.iter().map(|t| t.id.into()).collect();
            assert_eq!(Value::from(ids.clone()), row["ids"], "{kind}: {text:?}");
            let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
            assert_eq!(
                model.decode(&ids),
                row["decoded"].as_str().unwrap(),
                "{kind}: {text:?}"
            );
        }
    }
}

#[test]
fn word_pieces_of_a_folder_are_those_of_gguf() {
    let expected = read("tokenizers/expected.json");
    let folder = |json: String| {
        let mut side = SideFiles::new("bert");
        side.add("tokenizer.json", json);
        TextModel::from_side_files(&side).unwrap()
    };
    let file = std::fs::read_to_string(fixture("tokenizers/bert.json")).unwrap();
    let converted = text_model("bert").to_json().unwrap();
    for model in [folder(file), folder(converted)] {
        for row in expected["bert"].as_array().unwrap() {
            let tokens = model.encode(row["text"].as_str().unwrap()).unwrap();
            let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
            assert_eq!(json!(ids), row["ids"], "{}", row["text"]);
        }
    }
}

#[test]
fn spans_cover_the_text() {
    for kind in ["smollm", "gemma"] {
        let text = "Hello wörld 🙂 12";
        let tokens = text_model(kind).encode(text).unwrap();
        assert_eq!(tokens.first().unwrap().start, 0, "{kind}");
        assert_eq!(tokens.last().unwrap().end, text.len(), "{kind}");
        assert!(
            tokens.windows(2).all(|w| w[0].start <= w[1].start),
            "{kind}"
        );
    }
}

#[test]
fn streaming_gives_the_whole_text_and_never_half_a_character() {
    let text = "naïve 🙂🏳️‍🌈 東京 नमस्ते <end>";
    for kind in KINDS {
        let model = text_model(kind);
        let ids: Vec<u32> = model.encode(text).unwrap().iter().map(|t| t.id).collect();
        let mut stream = TextStream::new(&[]);
        let mut streamed = String::new();
        for id in &ids {
            let emitted = stream.push(&model, *id);
            assert!(
                !emitted.text.contains('\u{fffd}'),
                "{kind}: {:?}",
                emitted.text
            );
            streamed.push_str(&emitted.text);
        }
        streamed.push_str(&stream.finish(&model));
        assert_eq!(streamed, model.decode(&ids), "{kind}");
    }
}

#[test]
fn special_tokens_end_answers() {
    let model = text_model("smollm");
    let ends: Vec<u32> = model.end_tokens().collect();
    assert_eq!(ends, [0, 2]);
    assert!(model.is_special(1) && !model.is_end(1));
}

#[test]
fn templates_render_as_transformers_does() {
    let rows = read("templates/expected.json");
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 6);
    for row in rows {
        let name = row["template"].as_str().unwrap();
        let source = std::fs::read_to_string(fixture(&format!("templates/{name}.jinja"))).unwrap();
        let special = json!({"bos_token": "<s>", "eos_token": "</s>"});
        let template = ChatTemplate::new(&source, special.as_object().unwrap().clone()).unwrap();
        let messages: Vec<Message> = serde_json::from_value(row["messages"].clone()).unwrap();
        let request = RenderRequest {
            messages: &messages,
            add_generation_prompt: true,
            ..RenderRequest::default()
        };
        let rendered = template.render(&request).unwrap();
        assert_eq!(rendered.text, row["rendered"].as_str().unwrap(), "{name}");
    }
}
