//! GGUF metadata with wrong token types, or with duplicate pieces.

use siskin_formats::{Array, Gguf, Header, Value};
use siskin_text::{Message, RenderRequest, TextModel, TextStream};

const PIECES: [&str; 14] = [
    "<unk>",
    "<s>",
    "</s>",
    "<0x0A>",
    "▁",
    "a",
    "b",
    "▁a",
    "ab",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|end|>",
    "a",
    "<think>",
];

fn model(types: &[(usize, i64)]) -> TextModel {
    let mut kinds = vec![1; PIECES.len()];
    kinds[0] = 2;
    kinds[1] = 3;
    kinds[2] = 3;
    kinds[3] = 6;
    for (id, kind) in types {
        kinds[*id] = *kind;
    }
    let scores = (0..PIECES.len()).map(|i| -(i as f32)).collect();
    let template = "{% for m in messages %}<start_of_turn>{{ m.content }}<end_of_turn>{% endfor %}\
                    {% if add_generation_prompt %}<think>{% endif %}";
    let strings = PIECES.map(String::from).to_vec();
    let metadata = [
        ("model", Value::String("llama".into())),
        ("tokens", Value::Array(Array::String(strings))),
        ("scores", Value::Array(Array::Float(scores))),
        ("token_type", Value::Array(Array::Int(kinds))),
        ("bos_token_id", Value::Uint(1)),
        ("eos_token_id", Value::Uint(2)),
        ("eot_token_id", Value::Uint(10)),
        ("add_eos_token", Value::Bool(true)),
    ];
    let named = metadata.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
    let template = (
        "tokenizer.chat_template".into(),
        Value::String(template.into()),
    );
    TextModel::from_gguf(&Gguf {
        name: "test.gguf".into(),
        header: Header {
            version: 3,
            metadata: named.into_iter().chain([template]).collect(),
            ..Header::default()
        },
    })
    .unwrap()
}

#[test]
fn control_tokens_are_whole_whatever_their_type_says() {
    let model = model(&[]);
    let ends: Vec<u32> = model.end_tokens().collect();
    // eos, eot by its key, and `<|end|>`, which always ends an answer.
    assert_eq!(ends, [2, 10, 11]);
    let messages = [Message::new("user", "a<end_of_turn>")];
    let request = |allow_special_tokens| RenderRequest {
        messages: &messages,
        add_generation_prompt: true,
        allow_special_tokens,
        ..RenderRequest::default()
    };
    let ids = |allow: bool| -> Vec<u32> {
        let rendered = model.render(&request(allow)).unwrap();
        let tokens = model.encode_rendered(&rendered).unwrap();
        tokens.iter().map(|t| t.id).collect()
    };
    let (plain, allowed) = (ids(false), ids(true));
    assert_eq!(allowed.iter().filter(|id| **id == 10).count(), 2);
    assert_eq!(plain.iter().filter(|id| **id == 10).count(), 1);
    assert!([9, 13].iter().all(|id| plain.contains(id)));
    // Markers of thoughts are shown; markers of turns are not.
    assert!(model.is_special(9) && !model.is_special(13));
}

#[test]
fn every_token_has_its_text() {
    let model = model(&[(9, 3)]);
    for (id, piece) in (0..).zip(PIECES) {
        assert_eq!(model.piece(id), piece);
    }
    assert_eq!(model.decode(&[8, 5, 12]), "abaa");
    assert_eq!(model.token_bytes(3), b"\n");
    assert_eq!(model.token_bytes(7), b" a");
    assert_eq!(model.token_bytes(10), b"<end_of_turn>");
    assert_eq!(model.encode("a").unwrap().last().unwrap().id, 2);
}

#[test]
fn spaces_after_hidden_tokens_stay_and_stops_name_them() {
    let model = model(&[]);
    let streamed = |stops: &[&str], ids: &[u32]| {
        let stops: Vec<String> = stops.iter().map(|s| (*s).into()).collect();
        let mut stream = TextStream::new(&stops);
        let mut text = String::new();
        for id in ids {
            let emitted = stream.push(&model, *id);
            text.push_str(&emitted.text);
            if emitted.stop.is_some() {
                return (text, emitted.stop);
            }
        }
        (text + &stream.finish(&model), None)
    };
    assert_eq!(streamed(&[], &[7, 9, 7, 6]), ("a ab".into(), None));
    let stop = "<start_of_turn> a";
    assert_eq!(
        streamed(&[stop], &[7, 9, 7, 6]),
        ("a".into(), Some(stop.into()))
    );
    assert_eq!(streamed(&[stop], &[7, 9, 6, 6]), ("abb".into(), None));
}
