//! Reasoning is told from the answer.

use serde_json::Value;
use siskin_tests::command::{output, path};
use siskin_tests::copy_of;
use tempfile::TempDir;

#[cfg(target_os = "linux")]
use crate::terminal::Terminal;

/// A tiny model that reasons until a token becomes likely enough.
fn reasoning() -> TempDir {
    let folder = copy_of("tiny/llama");
    std::fs::remove_file(folder.path().join("model.gguf")).unwrap();
    for (file, from, to) in [
        ("tokenizer.json", "<|endoftext|>", "</think>"),
        (
            "tokenizer_config.json",
            "<|im_start|>assistant\\\\n",
            "<|im_start|>assistant\\\\n<think>\\\\n",
        ),
    ] {
        let file = folder.path().join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }
    folder
}

const REASONING: [&str; 10] = [
    "--device",
    "cpu",
    "--precision",
    "f32",
    "--logit-bias",
    "0=2",
    "--presence-penalty",
    "2",
    "--frequency-penalty",
    "2",
];

#[test]
fn reasoning_is_apart_from_the_answer_and_not_said_again() {
    let (model, folder) = (reasoning(), tempfile::tempdir().unwrap());
    let model = model.path().display().to_string();
    let session = path(folder.path(), "session");
    let run = |more: &[&str]| {
        let args = [&["run", &model, "Why?"], &REASONING[..], more].concat();
        let out = output(&args);
        let [text, errors] = [out.stdout, out.stderr];
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&errors));
        let text = String::from_utf8(text).unwrap();
        (text, String::from_utf8(errors).unwrap())
    };
    let json = |more: &[&str]| -> Value { serde_json::from_str(&run(more).0).unwrap() };
    let ids = |value: &Value| -> Vec<u64> {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap()).collect()
    };
    let found = json(&["--max-tokens", "20", "--json", "--session", &session]);
    let (reasoning, text) = (&found["reasoning"], found["text"].as_str().unwrap());
    assert!(reasoning.as_str().unwrap().len() > 5, "{found}");
    assert!(!text.is_empty() && !text.contains("</think>"), "{found}");
    let thought = ids(&found["ids"]);
    let end = thought.iter().position(|id| *id == 0).unwrap();
    assert!(end > 5, "{thought:?}");
    let next = json(&["--max-tokens", "2", "--json", "--session", &session]);
    let (prompt, first) = (ids(&next["prompt_ids"]), ids(&found["prompt_ids"]));
    assert!(prompt.len() > first.len() + 5);
    assert!(prompt.windows(6).all(|w| w != &thought[..6]), "{prompt:?}");

    // A pipe gets the answer alone.
    let (piped, errors) = run(&["--max-tokens", "20"]);
    assert_eq!(piped.trim(), text.trim());
    assert_eq!(errors, "");
    let (piped, errors) = run(&["--max-tokens", "5"]);
    assert_eq!(piped.trim(), "");
    assert!(errors.contains("the model has only reasoned"), "{errors}");
    let cut = json(&["--max-tokens", "5", "--json"]);
    assert_eq!(cut["text"], "");
    assert_eq!(cut["finish_reason"], "length");
}

#[cfg(target_os = "linux")]
#[test]
fn reasoning_is_dimmed_in_a_terminal() {
    let model = reasoning();
    let model = model.path().display().to_string();
    let args = [
        &["run", &model, "Why?", "--max-tokens", "20"],
        &REASONING[..],
    ]
    .concat();
    let mut terminal = Terminal::of(&args);
    // Each piece by itself.
    terminal.until("\x1b[2mU\x1b[22m");
    terminal.until("\x1b[22m\r\n\r\n");
    terminal.ended();
}
