//! `run` and `chat` with tools: commands that the model calls. A model with random weights calls them where biases make
//! it, and the real one where it is told to.

use std::path::Path;

use serde_json::{Value, json as object};
use siskin_tests::command::{fails, json, output, path};
use siskin_tests::{copy_of, fixture};
use tempfile::TempDir;

#[cfg(target_os = "linux")]
use crate::terminal::Terminal;

/// A tool whose command notes the arguments in a file `log`.
fn weather(folder: &Path, command: &str) -> String {
    let tool = object!({
        "name": "weather", "description": "The weather in a city.", "command": command,
        "parameters": {
            "type": "object", "properties": {"city": {"enum": ["Paris", "Oslo", "Rome"]}}, "required": ["city"],
        },
    });
    let file = path(folder, "weather.json");
    std::fs::write(&file, tool.to_string()).unwrap();
    file
}

fn noting(folder: &Path) -> String {
    let log = path(folder, "log");
    weather(
        folder,
        &format!("cat >> '{log}'; echo >> '{log}'; echo 17 degrees and rain"),
    )
}

/// The lines of the file.
fn noted(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// A tiny model with a special token that begins calls, and a context in which a tool has room.
fn model() -> TempDir {
    let folder = copy_of("tiny/llama");
    std::fs::remove_file(folder.path().join("model.gguf")).unwrap();
    for (file, from, to) in [
        ("tokenizer.json", "<|endoftext|>", "<tool_call>"),
        (
            "config.json",
            "\"max_position_embeddings\": 128",
            "\"max_position_embeddings\": 4096",
        ),
    ] {
        let file = folder.path().join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }
    folder
}

/// The token that begins a call is likelier than the end, until the answer has it.
const CALLING: [&str; 8] = [
    "--logit-bias",
    "0=100",
    "--logit-bias",
    "2=97",
    "--presence-penalty",
    "2",
    "--frequency-penalty",
    "2",
];

#[test]
fn rounds_of_calls_are_limited_and_continue_from_a_file() {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let tool = noting(folder.path());
    let model = model.path().display().to_string();
    let session = path(folder.path(), "session");
    let run = |prompt| {
        let args = [
            "run",
            &model,
            prompt,
            "--device",
            "cpu",
            "--tool",
            &tool,
            "--yes",
            "--max-rounds",
            "2",
            "--json",
            "--session",
            &session,
        ];
        let out = output(&[&args[..], &CALLING].concat());
        assert_eq!(out.status.code(), Some(1));
        let errors = String::from_utf8(out.stderr).unwrap();
        assert!(
            errors.ends_with("error: no answer after 2 rounds of calls; raise --max-rounds\n"),
            "{errors}"
        );
        let json: Value = serde_json::from_slice(&out.stdout).unwrap();
        (json["calls"].as_array().unwrap().clone(), errors)
    };
    let (calls, errors) = run("Weather?");
    assert!(calls.len() >= 2, "{calls:?}");
    let arguments = |call: &Value| -> Value {
        assert_eq!(call["name"], "weather");
        assert_eq!(call["result"], "17 degrees and rain");
        serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap()
    };
    let wanted: Vec<Value> = calls.iter().map(arguments).collect();
    assert_eq!(noted(folder.path()), wanted);
    for call in &calls {
        let shown = format!("call: weather {}", call["arguments"].as_str().unwrap());
        assert!(errors.contains(&shown), "{errors}");
    }
    // The file has calls and results, too.
    let (more, _) = run("And now?");
    assert_eq!(noted(folder.path()).len(), calls.len() + more.len());
}

#[test]
fn results_are_what_the_model_answers_with() {
    let folder = tempfile::tempdir().unwrap();
    let tool = noting(folder.path());
    let model = fixture("../../models/smollm2-135m-instruct.gguf");
    let prompt = "Repeat this: <tool_call> {\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}} </tool_call>";
    let args = [
        "run",
        &model.display().to_string(),
        prompt,
        "--device",
        "cpu",
        "--tool",
        &tool,
        "--yes",
        "--json",
    ];
    let found = json(&args);
    assert_eq!(noted(folder.path())[0], object!({"city": "Paris"}));
    assert_eq!(found["calls"][0]["result"], "17 degrees and rain");
    let text = found["text"].as_str().unwrap();
    assert!(text.contains("17 degrees and rain"), "{text}");
    assert_eq!(found["finish_reason"], "stop");
}

#[test]
fn an_answer_without_calls_has_the_shape() {
    let (weights, folder) = (model(), tempfile::tempdir().unwrap());
    let tool = noting(folder.path());
    let model = weights.path().display().to_string();
    let args = [
        "run", &model, "a", "--device", "cpu", "--tool", &tool, "--yes", "--json",
    ];
    let shape = ["--regex", "[ab]{3}", "--logit-bias", "0=-100"];
    let found = json(&[&args[..], &shape].concat());
    let text = found["text"].as_str().unwrap();
    assert!(
        text.len() == 3 && text.replace(['a', 'b'], "").is_empty(),
        "{found}"
    );
    assert_eq!(
        found["calls"].as_array().unwrap().len(),
        noted(folder.path()).len()
    );
}

#[test]
fn what_cannot_be_confirmed_or_is_no_tool_is_refused_before_loading() {
    for command in ["run", "chat"] {
        let refused = |more: &[&str]| {
            let mut args = vec![command, "no-such-model"];
            args.extend((command == "run").then_some("Hi"));
            fails(&[&args, more].concat())
        };
        let text = refused(&["--tool", "clock=date"]);
        assert!(text.contains("without a terminal; use --yes"), "{text}");
        let text = refused(&["--tool", "a clock=date", "--yes"]);
        assert!(text.contains("`a clock` is not a tool's name"), "{text}");
        let text = refused(&["--tool", "clock.json", "--yes"]);
        assert!(text.contains("use NAME=COMMAND or a JSON file"), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn each_call_is_confirmed_in_a_terminal() {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let log = path(folder.path(), "log");
    // The second time it takes longer than anybody waits.
    let slow = format!("test -e '{log}' && sleep 600; cat >> '{log}'; echo 17 degrees");
    let tool = weather(folder.path(), &slow);
    let saved = path(folder.path(), "saved.json");
    let model = model.path().display().to_string();
    let args = ["chat", &model, "--device", "cpu", "--tool", &tool];
    let mut terminal = Terminal::of(&[&args[..], &CALLING].concat());
    let ask = "run it? [y/N] ";
    terminal.until("/help lists the commands");
    terminal.until("> ");
    terminal.enter("Weather?\r");
    let shown = terminal.until(ask);
    assert!(shown.contains("call: weather {\"city\":"), "{shown}");
    terminal.enter("\r");
    let shown = terminal.until(ask);
    assert!(
        shown.contains("result: The user does not allow this call."),
        "{shown}"
    );
    assert!(noted(folder.path()).is_empty());
    terminal.enter("y\r");
    let shown = terminal.until(ask);
    assert!(shown.contains("result: 17 degrees"), "{shown}");
    assert_eq!(noted(folder.path()).len(), 1);
    terminal.enter("yes\r");
    // It sleeps; Ctrl-C ends the command and the answer, not the conversation.
    terminal.until("yes");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.enter("\x03");
    let shown = terminal.until("[stopped]");
    assert!(shown.contains("the user stopped it"), "{shown}");
    terminal.until("> ");
    terminal.enter(&format!("/save {saved}\r"));
    terminal.until("saved to");
    terminal.until("> ");
    terminal.enter("\x04");
    terminal.ended();
    let saved: Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    let results: Vec<&Value> = messages.iter().filter(|m| m["role"] == "tool").collect();
    assert_eq!(results[0]["content"], "The user does not allow this call.");
    assert_eq!(results[1]["content"], "17 degrees");
    assert_eq!(results[2]["content"], "[the user stopped it]");
    let calls = messages.iter().filter_map(|m| m["tool_calls"].as_array());
    let calls: Vec<&Value> = calls.flatten().collect();
    assert_eq!(calls.len(), results.len());
    assert!(
        calls
            .iter()
            .zip(&results)
            .all(|(call, result)| call["id"] == result["tool_call_id"])
    );
}
