//! Templates and tokenizers against what transformers made of them (`fixtures/record_text.py`). A folder is a case.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use siskin_formats::SideFiles;
use siskin_text::{ChatTemplate, DateTime, Message, RenderRequest, TextModel, TextStream};

fn cases(kind: &str) -> Vec<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conformance")
        .join(kind);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let read = |folder: PathBuf| {
        let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
        (folder, serde_json::from_str(&text).unwrap())
    };
    folders.into_iter().map(read).collect()
}

/// The moment that the reference was asked at: `check_templates.NOW`.
const NOW: DateTime = DateTime {
    year: 2025,
    month: 3,
    day: 7,
    hour: 15,
    minute: 4,
    second: 5,
    microsecond: 0,
};

fn messages(of: &Value) -> Vec<Message> {
    serde_json::from_value(of["messages"].clone()).unwrap()
}

fn assert_renders(name: &str, source: &str, case: &Value, expected: &Value) {
    let special = case["special_tokens"].as_object().unwrap().clone();
    let messages = messages(case);
    let request = RenderRequest {
        messages: &messages,
        add_generation_prompt: case["add_generation_prompt"] == true,
        ..RenderRequest::default()
    };
    let rendered = ChatTemplate::new(source, special).and_then(|t| t.render_at(&request, NOW));
    match (rendered, expected["text"].as_str()) {
        (Ok(rendered), Some(text)) => {
            assert_eq!(rendered.text, text, "{name}: {source}");
            let chars = |at: usize| rendered.text[..at].chars().count();
            let ranges = rendered.generation.iter().flatten();
            let ranges: Vec<_> = ranges
                .map(|r| json!([chars(r.start), chars(r.end)]))
                .collect();
            assert_eq!(
                Value::from(ranges),
                expected["generation"],
                "{name}: {source}"
            );
        }
        (Err(_), None) => {}
        (other, _) => panic!("{name}: {source}: {other:?}, not {expected}"),
    }
}

#[test]
fn templates_are_rendered_as_by_transformers() {
    let cases = cases("templates");
    assert!(cases.len() >= 20);
    for (folder, case) in cases {
        let name = folder.file_name().unwrap().to_str().unwrap();
        if case["command"] == "render-each" {
            for expected in case["expected"].as_array().unwrap() {
                let source = expected["template"].as_str().unwrap();
                assert_renders(name, source, &case, expected);
            }
        } else {
            let source = std::fs::read_to_string(folder.join("chat_template.jinja")).unwrap();
            assert_renders(name, &source, &case, &case["expected"]);
        }
    }
}

#[test]
fn folders_are_tokenised_as_by_transformers() {
    let cases = cases("tokenizers");
    assert!(cases.len() >= 9);
    for (folder, case) in cases {
        let model = TextModel::from_side_files(&SideFiles::read(&folder).unwrap()).unwrap();
        for expected in case["expected"].as_array().unwrap() {
            let tokens = if let Some(text) = expected["text"].as_str() {
                model.encode(text).unwrap()
            } else if let Some(ids) = expected["decode"].as_array() {
                let ids: Vec<u32> = ids.iter().map(|i| i.as_u64().unwrap() as u32).collect();
                assert_eq!(
                    model.decode(&ids),
                    expected["decoded"],
                    "{folder:?} {ids:?}"
                );
                let mut stream = TextStream::new(&[]);
                let mut text: String = ids.iter().map(|id| stream.push(&model, *id).text).collect();
                text.push_str(&stream.finish(&model));
                assert_eq!(text, expected["decoded"], "{folder:?} {ids:?}");
                continue;
            } else {
                let messages = messages(expected);
                let request = RenderRequest {
                    messages: &messages,
                    add_generation_prompt: true,
                    allow_special_tokens: expected["allow_special_tokens"] == true,
                    ..RenderRequest::default()
                };
                let rendered = model.render(&request).unwrap();
                model.encode_rendered(&rendered).unwrap()
            };
            let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
            assert_eq!(json!(ids), expected["ids"], "{folder:?} {expected}");
        }
    }
}
