//! The examples of the Rust API, run as their first lines say, on a tiny model.

use std::io::Write;
use std::process::{Command, Stdio};

use siskin_tests::command::{path, program, tiny};

fn run(example: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program(&format!("examples/{example}")))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{example} {args:?} failed");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn chat_answers_a_line() {
    let text = run("chat", &[&tiny("llama"), "cpu"], "Hi!\n");
    assert!(text.len() > 1 && text.ends_with('\n'), "{text:?}");
}

#[test]
fn trace_shows_each_layer() {
    let text = run("trace", &[&tiny("llama"), "Hello", "cpu"], "");
    let lines = |start| text.lines().filter(move |l| l.starts_with(start)).count();
    assert_eq!((lines("layer"), text.lines().count()), (2, 7), "{text}");
}

#[test]
fn finetune_writes_an_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (
        path(folder.path(), "data.jsonl"),
        path(folder.path(), "adapter"),
    );
    let line = r#"{"prompt": "Who are you?", "completion": "Pip."}"#;
    std::fs::write(&data, format!("{line}\n").repeat(4)).unwrap();
    let text = run("finetune", &[&tiny("llama"), &data, &out, "cpu"], "");
    assert!(text.starts_with("step 1: loss "), "{text}");
    siskin_engine::Adapter::open(out.as_ref()).unwrap();
}
