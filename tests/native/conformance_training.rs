//! Examples as people have them, trained on for one step: how many tokens, how many of them learned, and the loss,
//! which shows whether they are the right ones. Each folder of `conformance/training` is a case.

use std::path::{Path, PathBuf};

use serde_json::Value;
use siskin_tests::command::{ok, output, path};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conformance")
        .join(name)
}

fn model(name: &str) -> String {
    folder("models").join(name).display().to_string()
}

fn train(model: &str, data: &str, out: &str, more: &[&str]) -> (bool, String) {
    let fixed = [
        "train", "--model", model, "--data", data, "--out", out, "--device", "cpu",
    ];
    let found = output(&[&fixed[..], more].concat());
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (found.status.success(), said)
}

/// Of the steps in a folder's metrics.
fn losses(out: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(Path::new(out).join("metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    lines.filter_map(|l| l["loss"].as_f64()).collect()
}

/// What is wrong with a case; empty where nothing is.
fn check(case: &Path, out: &str) -> Vec<String> {
    let text = std::fs::read_to_string(case.join("case.json")).unwrap();
    let case_json: Value = serde_json::from_str(&text).unwrap();
    let data = case.join(case_json["data"].as_str().unwrap());
    let recipe = path(
        Path::new(out).parent().unwrap(),
        &format!("{}.toml", case.file_name().unwrap().display()),
    );
    let options = case_json["options"].as_object();
    let lines = options
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k} = {v}\n"));
    let lines: String = lines.collect();
    std::fs::write(&recipe, lines).unwrap();
    let (is_trained, said) = train(
        &model(case_json["model"].as_str().unwrap()),
        &data.display().to_string(),
        out,
        &[
            &recipe[..],
            "--steps",
            "1",
            "--batch-size",
            "64",
            "--validation",
            "0",
        ]
        .into_iter()
        .chain(
            match options.is_some_and(|o| o.contains_key("max_seq_len")) {
                true => vec![],
                false => vec!["--max-seq-len", "2048"],
            },
        )
        .collect::<Vec<_>>(),
    );
    let mut wrong = vec![];
    if let Some(wanted) = case_json["error"].as_array() {
        if is_trained {
            wrong.push("it was trained on".into());
        }
        let missing = wanted.iter().filter_map(Value::as_str);
        wrong.extend(
            missing
                .filter(|w| !said.contains(*w))
                .map(|w| format!("no `{w}` in: {said}")),
        );
        if Path::new(out).exists() {
            wrong.push("the failed start left a folder".into());
        }
        return wrong;
    }
    if !is_trained {
        return vec![said];
    }
    if let (Some(tokens), Some(learned)) =
        (case_json["tokens"].as_u64(), case_json["learned"].as_u64())
    {
        let wanted = format!("; {tokens} tokens, {learned} of them learned");
        if !said.contains(&wanted) {
            wrong.push(format!("not `{wanted}`: {said}"));
        }
    }
    if let Some(wanted) = case_json["loss"].as_f64() {
        let found = losses(out)[0];
        if (found - wanted).abs() > 1e-4 * wanted {
            wrong.push(format!("the loss is {found}, not {wanted}"));
        }
    }
    wrong
}

#[test]
fn each_case_has_its_tokens_and_loss() {
    let out = tempfile::tempdir().unwrap();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder("training"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut wrong = vec![];
    for case in &cases {
        let name = case.file_name().unwrap().display().to_string();
        let found = check(case, &path(out.path(), &name));
        wrong.extend(found.into_iter().map(|w| format!("{name}: {w}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Ten short conversations for a template that prints the date.
fn ten(folder: &Path) -> String {
    let lines = (0..10).map(|i| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"Count {i}\"}},\
             {{\"role\":\"assistant\",\"content\":\"{}\"}}]}}\n",
            "one ".repeat(i + 1)
        )
    });
    let file = folder.join("ten.jsonl");
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    file.display().to_string()
}

/// A training run can be extended, but not with another model of the same shapes.
#[test]
fn a_training_run_continues_for_more_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (ten(folder.path()), path(folder.path(), "out"));
    let dated = model("dated");
    let run = |model: &str, more: &[&str]| train(model, &data, &out, more);
    assert!(run(&dated, &["--epochs", "1"]).0);
    let steps = losses(&out).len();
    let (went_on, said) = run(&dated, &["--epochs", "2", "--resume"]);
    assert!(went_on, "{said}");
    assert_eq!(losses(&out).len(), 2 * steps);
    let (_, said) = run(&dated, &["--epochs", "1", "--resume"]);
    assert!(said.contains(&format!("has {steps} steps")), "{said}");

    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for file in std::fs::read_dir(&dated).unwrap() {
        let file = file.unwrap();
        let mut bytes = std::fs::read(file.path()).unwrap();
        if file.file_name() == "model.safetensors" {
            let half = bytes.len() / 2;
            bytes[half..].iter_mut().for_each(|b| *b ^= 1);
        }
        std::fs::write(other.join(file.file_name()), bytes).unwrap();
    }
    let other = other.display().to_string();
    let (_, said) = run(&other, &["--epochs", "3", "--resume"]);
    assert!(said.contains("weights of the model"), "{said}");
}

/// Another's adapter is replaced only when that is said; a folder is one process's at a time.
#[test]
fn what_a_folder_holds_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (ten(folder.path()), path(folder.path(), "out"));
    let model = model("chatml");
    std::fs::create_dir(&out).unwrap();
    let theirs = ["adapter_config.json", "notes.txt"].map(|f| Path::new(&out).join(f));
    theirs.iter().for_each(|f| std::fs::write(f, "{}").unwrap());
    let (is_trained, said) = train(&model, &data, &out, &["--epochs", "1"]);
    assert!(!is_trained && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read_to_string(&theirs[0]).unwrap(), "{}");
    let lock = std::fs::File::create(Path::new(&out).join("training.lock")).unwrap();
    lock.lock().unwrap();
    let (is_trained, said) = train(&model, &data, &out, &["--epochs", "1", "--force"]);
    assert!(!is_trained && said.contains("another process"), "{said}");
    drop(lock);
    ok(&[
        "train", "--model", &model, "--data", &data, "--out", &out, "--device", "cpu", "--epochs",
        "1", "--force",
    ]);
    assert!(theirs[1].exists() && losses(&out).len() > 1);
    // Without its adapter and checkpoints, what is left belongs to a training run that produced nothing.
    for file in std::fs::read_dir(&out).unwrap() {
        let path = file.unwrap().path();
        if !path.ends_with("metrics.jsonl") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (is_trained, said) = train(&model, &data, &out, &["--epochs", "1"]);
    assert!(is_trained, "{said}");
}
