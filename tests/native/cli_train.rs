//! Training and adapters by the command line.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use siskin_tests::command::{fails, logits, ok, path, siskin, tiny};
use siskin_tests::{Tensors, assert_close, fixture};

fn data(folder: &Path) -> String {
    let path = folder.join("data.jsonl");
    let lines = (0..10).map(|i| format!("{{\"prompt\":\"a{i} b\",\"completion\":\"c{i} d e\"}}\n"));
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    path.display().to_string()
}

/// `train` on the tiny llama, and more flags.
fn flags(folder: &Path, out: &str, more: &[&str]) -> Vec<String> {
    let fixed = [
        "train",
        "--model",
        &tiny("llama"),
        "--data",
        &data(folder),
        "--out",
        out,
        "--device",
        "cpu",
        "--rank",
        "4",
        "--lr",
        "0.01",
        "--batch-size",
        "3",
        "--max-seq-len",
        "48",
        "--validation",
        "0.2",
    ];
    fixed.iter().chain(more).map(|s| s.to_string()).collect()
}

fn train(folder: &Path, out: &str, more: &[&str]) -> String {
    let flags = flags(folder, out, more);
    ok(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn metrics(out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(out).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn losses(out: &str) -> Vec<(u64, f64)> {
    let all = metrics(out);
    let steps = all.iter().filter(|m| m["loss"].is_f64());
    steps
        .map(|m| (m["step"].as_u64().unwrap(), m["loss"].as_f64().unwrap()))
        .collect()
}

#[test]
fn an_adapter_is_trained_used_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "adapter");
    let text = train(folder.path(), &out, &["--epochs", "2"]);
    assert!(
        text.contains("held-out loss:") && text.contains("after: "),
        "{text}"
    );
    let steps = metrics(&out);
    assert_eq!(
        steps.len(),
        7,
        "a line before the first step, and one per step"
    );
    assert!(steps[6]["held_out"].as_f64() < steps[0]["held_out"].as_f64());
    for key in ["loss", "learning_rate", "grad_norm", "tokens", "seconds"] {
        assert!(steps[1][key].is_number(), "{key}");
    }
    // Nothing is overwritten.
    let again = flags(folder.path(), &out, &[]);
    let error = fails(&again.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(error.contains("--resume"), "{error}");

    let model = tiny("llama");
    let cpu = ["--device", "cpu"];
    let plain = logits(folder.path(), &[&[model.as_str()][..], &cpu].concat());
    let adapted = logits(
        folder.path(),
        &[&[model.as_str(), "--adapter", &out][..], &cpu].concat(),
    );
    assert!(
        plain
            .iter()
            .zip(&adapted)
            .any(|(a, b)| (a - b).abs() > 1e-3)
    );
    let gpu = logits(
        folder.path(),
        &[&model, "--adapter", &out, "--device", "gpu:0"],
    );
    assert_close("gpu", &gpu, &adapted, 1e-3);
    let none = format!("{out}:0");
    let none = logits(
        folder.path(),
        &[&[model.as_str(), "--adapter", &none][..], &cpu].concat(),
    );
    assert_close("none of it", &none, &plain, 1e-5);
    ok(&[
        "run",
        &model,
        "a1 b",
        "--adapter",
        &out,
        "--max-tokens",
        "5",
        "--device",
        "cpu",
    ]);

    // From a folder and from a GGUF file, each into its own kind.
    let gguf = format!("{model}/model.gguf");
    for (from, to) in [(&model, "folder"), (&gguf, "m.gguf")] {
        let merged = path(folder.path(), to);
        ok(&["merge", from, &out, "--out", &merged, "--type", "f32"]);
        let found = logits(folder.path(), &[&[merged.as_str()][..], &cpu].concat());
        assert_close(to, &found, &adapted, 1e-4);
    }
    let error = fails(&[
        "merge",
        &gguf,
        &out,
        "--out",
        &path(folder.path(), "m.gguf"),
    ]);
    assert!(error.contains("already exists"), "{error}");
    let other = fails(&[
        "run",
        &tiny("gemma3"),
        "a",
        "--adapter",
        &out,
        "--device",
        "cpu",
    ]);
    assert!(other.contains("does not fit the model"), "{other}");
    let missing = fails(&["run", &model, "a", "--adapter", &model]);
    assert!(missing.contains("adapter_config.json"), "{missing}");
}

/// DoRA with moments of 8 bits: trained, applied on both devices, merged; GGUF has no place for magnitudes.
/// A recipe with its own held-out file, which ends when that is no longer learned.
#[test]
fn a_recipe_holds_out_a_file_and_stops_early() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = path(folder.path(), name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let held = file(
        "held.jsonl",
        "{\"prompt\":\"z y\",\"completion\":\"x w\"}\n",
    );
    let out = path(folder.path(), "adapter");
    let recipe = |more: &str| {
        let text = format!(
            "model = {:?}\ndata = {:?}\nvalidation_data = {held:?}\nout = {out:?}\ndevice = \"cpu\"\nrank = 4\n\
             learning_rate = 0.1\nsteps = 60\nschedule = \"warmup_stable_decay\"\nwarmup_ratio = 0.02\neval_every = 1\n\
             early_stopping_patience = 2\nload_best_model_at_end = true\n{more}",
            tiny("llama"),
            data(folder.path()),
        );
        file("recipe.toml", &text)
    };
    let error = fails(&["train", &recipe("validation = 0.1\n")]);
    assert!(
        error.contains("`validation` and `validation_data`"),
        "{error}"
    );
    let report: Value = serde_json::from_str(&ok(&["train", &recipe(""), "--json"])).unwrap();
    let all = metrics(&out);
    let held_out: Vec<f64> = all.iter().filter_map(|m| m["held_out"].as_f64()).collect();
    let best = held_out[1..].iter().copied().fold(f64::INFINITY, f64::min);
    assert!(all.len() < 60, "{held_out:?}");
    assert_eq!(report["summary"]["examples"], 10);
    assert_eq!(report["summary"]["held_out"], 1);
    let after = report["held_out_after"].as_f64().unwrap();
    assert_eq!(after as f32, best as f32, "{held_out:?}");
    let step = report["best_step"].as_u64().unwrap() as usize;
    assert_eq!(held_out[step], best);
    assert_eq!(report["samples"][0]["messages"][0]["content"], "z y");
}

#[test]
fn magnitudes_are_trained_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "dora");
    let more = ["--epochs", "2", "--dora", "--optim", "adamw_8bit"];
    train(folder.path(), &out, &more);
    let steps = metrics(&out);
    assert!(steps[6]["held_out"].as_f64() < steps[0]["held_out"].as_f64());
    let model = tiny("llama");
    let adapted = |device| {
        logits(
            folder.path(),
            &[&model, "--adapter", &out, "--device", device],
        )
    };
    let wanted = adapted("cpu");
    assert_close("gpu", &adapted("gpu:0"), &wanted, 1e-3);
    for to in ["merged", "merged.gguf"] {
        let from = if to == "merged" {
            model.clone()
        } else {
            format!("{model}/model.gguf")
        };
        let to = path(folder.path(), to);
        ok(&["merge", &from, &out, "--out", &to, "--type", "f32"]);
        let found = logits(folder.path(), &[&to, "--device", "cpu"]);
        assert_close(&to, &found, &wanted, 1e-4);
    }
    let to = path(folder.path(), "dora.gguf");
    let error = fails(&["convert", &out, "--base", &model, "--out", &to]);
    assert!(error.contains("siskin merge"), "{error}");
}

/// Ctrl-C ends the step, keeps a checkpoint, and says how to continue.
#[cfg(unix)]
#[test]
fn an_interrupted_training_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let unbroken = path(folder.path(), "unbroken");
    let more = ["--steps", "60", "--checkpoint-every", "1000"];
    train(folder.path(), &unbroken, &more);
    // On a busy machine it may have ended before it is interrupted.
    let mut tries = (0..20).map(|i| path(folder.path(), &format!("stopped {i}")));
    let (out, said) = loop {
        let out = tries.next().expect("always too late");
        let child = siskin()
            .args(flags(folder.path(), &out, &more))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let begun = || {
            std::fs::read_to_string(Path::new(&out).join("metrics.jsonl"))
                .is_ok_and(|t| t.lines().count() > 3)
        };
        while !begun() {
            assert!(start.elapsed() < Duration::from_secs(60), "no step came");
            std::thread::sleep(Duration::from_millis(1));
        }
        let interrupt = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        match ended.status.code() {
            Some(0) => {}
            code => {
                assert_eq!(code, Some(130), "{said}");
                break (out, said);
            }
        }
    };
    assert!(
        said.contains("stopped after step") && said.contains("--resume"),
        "{said}"
    );
    train(folder.path(), &out, &[&more[..], &["--resume"]].concat());
    assert_eq!(losses(&out), losses(&unbroken));
}

/// Killed at any moment, and its last checkpoint damaged, a training run still ends as an uninterrupted one does.
#[test]
fn a_killed_training_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let unbroken = path(folder.path(), "unbroken");
    let more = ["--steps", "60", "--checkpoint-every", "3"];
    train(folder.path(), &unbroken, &more);
    for damage in [false, true] {
        let out = path(folder.path(), &format!("killed {damage}"));
        let mut child = siskin()
            .args(flags(folder.path(), &out, &more))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let has = |n: usize| {
            let file = Path::new(&out).join(format!("step-{n:07}.checkpoint"));
            file.exists()
        };
        while !has(6) && !has(9) && !has(12) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "no checkpoint came"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if damage {
            let mut files: Vec<_> = std::fs::read_dir(&out)
                .unwrap()
                .map(|e| e.unwrap().path())
                .filter(|p| p.extension().is_some_and(|e| e == "checkpoint"))
                .collect();
            files.sort();
            let last = files.last().unwrap();
            let bytes = std::fs::read(last).unwrap();
            std::fs::write(last, &bytes[..bytes.len() / 2]).unwrap();
        }
        train(folder.path(), &out, &[&more[..], &["--resume"]].concat());
        assert_eq!(losses(&out), losses(&unbroken));
        let read =
            |out: &str| std::fs::read(Path::new(out).join("adapter_model.safetensors")).unwrap();
        assert!(read(&out) == read(&unbroken), "another adapter");
    }
}

#[test]
fn what_is_wrong_is_told_before_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = |text: &str| {
        let file = path(folder.path(), "recipe.toml");
        let model = tiny("llama");
        let data = data(folder.path());
        let out = path(folder.path(), "never");
        let all =
            format!("model = '{model}'\ndata = '{data}'\nout = '{out}'\ndevice = 'cpu'\n{text}\n");
        std::fs::write(&file, all).unwrap();
        file
    };
    for (text, wanted) in [
        ("learning_rat = 1.0", "did you mean `learning_rate`"),
        ("dta = 'x'", "did you mean `data`"),
        ("rank = 0", "rank is 0"),
        ("rank = 'x'", "rank"),
        ("schedule = 'cosin'", "cosine"),
        ("optim = 'adam'", "adamw_8bit"),
        ("target_modules = ['q_prj']", "q_proj"),
        ("rank = ", "not valid TOML"),
    ] {
        let error = fails(&["train", &recipe(text)]);
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert!(fails(&["train"]).contains("--model"));
    let bad = path(folder.path(), "bad.jsonl");
    std::fs::write(
        &bad,
        "{\"prompt\":\"a\",\"completion\":\"b c d\"}\n{oops\n{\"messages\":[]}\n",
    )
    .unwrap();
    let out = path(folder.path(), "skipped");
    let common = [
        "train",
        "--model",
        &tiny("llama"),
        "--data",
        &bad,
        "--out",
        &out,
        "--device",
        "cpu",
    ];
    let error = fails(&common);
    assert!(
        error.contains("bad.jsonl:2:") && error.contains("bad.jsonl:3:"),
        "{error}"
    );
    assert!(error.contains("--skip-bad"), "{error}");
    ok(&[
        &common[..],
        &["--skip-bad", "--steps", "1", "--validation", "0"],
    ]
    .concat());
    let none = path(folder.path(), "none.jsonl");
    std::fs::write(
        &none,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n",
    )
    .unwrap();
    let out = path(folder.path(), "x");
    let error = fails(&[
        "train",
        "--model",
        &tiny("llama"),
        "--data",
        &none,
        "--out",
        &out,
    ]);
    assert!(error.contains("record 1: it has no answer"), "{error}");
}

/// PEFT's own files, as it saved them, give PEFT's logits.
#[test]
fn adapters_of_peft_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (family, kind) in [("llama", "lora"), ("qwen3", "lora"), ("qwen2", "dora")] {
        let adapter = fixture(&format!("tiny/{family}/{kind}/adapter"))
            .display()
            .to_string();
        let t = Tensors::open(&format!("tiny/{family}/{kind}/expected.safetensors"));
        let ids: Vec<String> = t.u32("ids.0").iter().map(u32::to_string).collect();
        let out = path(folder.path(), "out.safetensors");
        ok(&[
            "logits",
            &tiny(family),
            "--tokens",
            &ids.join(","),
            "--out",
            &out,
            "--force",
            "--adapter",
            &adapter,
            "--device",
            "cpu",
            "--precision",
            "f32",
            "--cache",
            "f32",
        ]);
        let bytes = std::fs::read(&out).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor("logits").unwrap().data().to_vec();
        let found: Vec<f32> = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        assert_close(family, &found, &t.f32("logits.before"), 2e-4);
    }
}

/// As QLoRA does.
#[test]
fn four_bits_are_trained_on_and_merged_into() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = tiny("nf4");
    let adapter = path(folder.path(), "adapter");
    let flags = flags(folder.path(), &adapter, &["--steps", "4"]);
    let on_nf4 = flags
        .iter()
        .map(|f| if *f == tiny("llama") { &theirs } else { f });
    ok(&on_nf4.map(String::as_str).collect::<Vec<_>>());
    let losses = losses(&adapter);
    assert!(losses[3].1 < losses[0].1, "{losses:?}");
    let merged = path(folder.path(), "merged");
    ok(&["merge", &theirs, &adapter, "--out", &merged]);
    let adapted = logits(
        folder.path(),
        &[&theirs, "--adapter", &adapter, "--device", "cpu"],
    );
    assert_close(
        "merged",
        &logits(folder.path(), &[&merged, "--device", "cpu"]),
        &adapted,
        1e-2,
    );
}
