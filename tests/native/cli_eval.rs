//! `siskin eval`, run as a user runs it: against lm-evaluation-harness, on the tasks of `examples/tasks`.

use serde_json::{Map, Value as Json, json};
use siskin_tests::command::{fails, json, ok, path, tiny};
use siskin_tests::fixture;

use crate::eval::task_file;

const F32: [&str; 4] = ["--precision", "f32", "--cache", "f32"];

/// `siskin eval` in f32 on the tiny Llama.
fn eval(device: &str, args: &[&str]) -> Json {
    json(
        &[
            &["eval", &tiny("llama"), "--device", device],
            args,
            &F32,
            &["--json"],
        ]
        .concat(),
    )
}

/// The results in an --out file, by record.
fn results(file: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .map(|l| serde_json::from_str::<Json>(l).unwrap());
    let mut results: Vec<Json> = lines.filter_map(|l| l.get("result").cloned()).collect();
    results.sort_by_key(|r| r["index"].as_u64());
    results
}

fn floats(json: &Json) -> Vec<f64> {
    serde_json::from_value(json.clone()).unwrap_or_default()
}

#[test]
fn tasks_have_the_scores_of_lm_evaluation_harness() {
    let expected = std::fs::read(fixture("eval/expected.json")).unwrap();
    let expected: Map<String, Json> = serde_json::from_slice(&expected).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runs = expected.iter().flat_map(|(name, wanted)| {
        let on_gpu = ["arc", "winogrande", "wikitext", "gsm8k"].contains(&name.as_str());
        let devices = if on_gpu {
            &["cpu", "gpu"][..]
        } else {
            &["cpu"]
        };
        devices.iter().map(move |device| (name, *device, wanted))
    });
    for (name, device, wanted) in runs.filter(|(.., wanted)| wanted.get("items").is_some()) {
        let out = path(dir.path(), &format!("{name}-{device}.jsonl"));
        let report = eval(device, &["--task", &task_file(name), "--out", &out]);
        let metrics = &report["tasks"][0]["models"][0]["metrics"];
        for kind in ["scores", "stderr"] {
            for (metric, wanted) in wanted[kind].as_object().unwrap() {
                let metric = metric.trim_end_matches(",none");
                // Of lm-evaluation-harness, mc2 is Python, whose result it calls acc.
                let metric = if name == "truthfulqa_mc2" {
                    "mc2"
                } else {
                    metric
                };
                let key = if kind == "scores" { "value" } else { "stderr" };
                let found = metrics[metric][key].as_f64().unwrap();
                let wanted = wanted.as_f64().unwrap();
                let close = (found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0);
                assert!(close, "{name} {metric} {key}: {found}, not {wanted}");
            }
        }
        let items = wanted["items"].as_array().unwrap();
        let results = results(&out);
        assert_eq!(results.len(), items.len(), "{name}");
        for (found, wanted) in results.iter().zip(items) {
            let (lls, wanted_lls) = (&found["log_likelihoods"], &wanted["log_likelihoods"]);
            let (lls, wanted_lls) = (floats(lls), floats(wanted_lls));
            assert_eq!(lls.len(), wanted_lls.len(), "{name}");
            for (a, b) in lls.iter().zip(&wanted_lls) {
                assert!(
                    (a - b).abs() <= 1e-4 * b.abs().max(1.0),
                    "{name}: {a}, not {b}"
                );
            }
            for key in ["is_greedy", "answers", "results"] {
                assert_eq!(found[key], wanted[key], "{name} {device} {key}");
            }
        }
    }
    // transformers' guide weighs windows a little differently, and llama.cpp computes with f16 where the file has them.
    for name in ["perplexity", "perplexity_chunks"] {
        let report = eval("cpu", &["--task", &task_file(name)]);
        let found = &report["tasks"][0]["models"][0]["metrics"]["perplexity"];
        for (key, wanted) in expected[name].as_object().unwrap() {
            let [found, wanted] = [&found[key], wanted].map(|v| v.as_f64().unwrap());
            assert!(
                (found / wanted - 1.0).abs() < 5e-3,
                "{name} {key}: {found}, not {wanted}"
            );
        }
    }
}

#[test]
fn the_same_results_with_other_tasks_of_the_examples() {
    // Drawn answers are the same with the same seed, however many run at once.
    let files = ["self_consistency", "json"].map(task_file);
    let run = |more: &[&str]| {
        let args = ["--task", &files[0], &files[1], "--limit", "2", "--parallel"];
        let dir = tempfile::tempdir().unwrap();
        let out = path(dir.path(), "out.jsonl");
        eval("cpu", &[&args[..], more, &["--out", &out]].concat());
        results(&out)
    };
    let found = run(&["8"]);
    assert_eq!(found, run(&["1"]));
    assert_ne!(found, run(&["8", "--seed", "1"]));
    assert_eq!(found.len(), 4);
    let answers = |r: &Json| r["answers"].as_array().unwrap().len();
    assert_eq!(found.iter().map(answers).max(), Some(5));
    let table = ok(&[
        "eval",
        &tiny("llama"),
        "--device",
        "cpu",
        "--task",
        &files[1],
    ]);
    assert!(
        table.contains("valid_json") && table.contains("regex_match"),
        "{table}"
    );
}

#[test]
fn runs_continue_and_models_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(dir.path(), "out.jsonl");
    let model = tiny("llama");
    let lora = format!("{model}/lora/adapter");
    let files = ["arc", "wikitext"].map(task_file);
    let args = [
        "--task",
        &files[0],
        &files[1],
        "--baseline",
        &lora,
        "--out",
        &out,
    ];
    let first = eval("cpu", &args);
    let whole = std::fs::read_to_string(&out).unwrap();
    // Two tasks, two models, and their records.
    assert_eq!(whole.lines().count(), 4 + 2 * (3 + 2));
    let models = &first["tasks"][0]["models"];
    assert_eq!(models.as_array().unwrap().len(), 2);
    let of = |i: usize| models[i]["metrics"]["acc"]["value"].as_f64().unwrap();
    let compared = &models[1]["comparison"]["acc"];
    assert!((compared["difference"].as_f64().unwrap() - (of(0) - of(1))).abs() < 1e-9);
    assert!(compared["p"].as_f64().unwrap() <= 1.0);
    // Interrupted in the middle of a line, and then continued: nothing is measured twice.
    let cut = whole.len() / 2;
    std::fs::write(&out, &whole[..cut]).unwrap();
    assert_eq!(eval("cpu", &args), first);
    let continued = std::fs::read_to_string(&out).unwrap();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&continued), sorted(&whole));
    let other = [&args[..], &["--seed", "5"]].concat();
    let other = [&["eval", &model, "--device", "cpu"], &other[..], &F32].concat();
    let error = fails(&other);
    assert!(
        error.contains("another task, data or settings; choose another --out"),
        "{error}"
    );
}

#[test]
fn a_judge_prefers_an_answer_whichever_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let task = path(dir.path(), "short.json");
    let short = json!({"task": "short", "dataset_path": "json", "dataset_kwargs": {"data_files": "short.jsonl"},
        "doc_to_text": "The {{q}} is", "doc_to_target": "q", "generation_kwargs": {"max_gen_toks": 8}});
    std::fs::write(&task, short.to_string()).unwrap();
    let records = ["red", "moon", "tree"].map(|q| format!("{{\"q\": \"{q}\"}}\n"));
    std::fs::write(path(dir.path(), "short.jsonl"), records.concat()).unwrap();
    let [a, b] = ["llama", "qwen2"].map(tiny);
    // The judge's question is longer than the tiny models' context.
    let long = [
        "--rope-scaling",
        "linear",
        "--rope-factor",
        "32",
        "--ctx",
        "1024",
    ];
    let judged = |one: &str, other: &str, metric: &str| {
        let args = [
            "eval",
            one,
            "--device",
            "cpu",
            "--task",
            &task,
            "--baseline",
            other,
        ];
        let report = json(&[&args[..], &long, &["--judge", &a, "--json"]].concat());
        let judged = &report["tasks"][0]["models"][1]["judged"]["metrics"];
        judged[metric]["value"].as_f64().unwrap()
    };
    let preference = judged(&a, &b, "preference");
    assert!(preference != 0.5 && (0.0..=1.0).contains(&preference));
    let swapped = judged(&b, &a, "preference");
    assert!(
        (preference + swapped - 1.0).abs() < 1e-3,
        "{preference} {swapped}"
    );
    assert_eq!(judged(&a, &b, "win_rate") + judged(&b, &a, "win_rate"), 1.0);
    let args = [
        "eval",
        &a,
        "--device",
        "cpu",
        "--task",
        &task,
        "--baseline",
        &b,
    ];
    let error = fails(&[&args[..], &["--judge", &a]].concat());
    assert!(error.contains("the context holds 128"), "{error}");
    let arc = task_file("arc");
    let args = [
        "eval",
        &a,
        "--device",
        "cpu",
        "--task",
        &arc,
        "--baseline",
        &b,
    ];
    let error = fails(&[&args[..], &["--judge", &a]].concat());
    assert!(
        error.contains("arc_form is not a task of generate_until"),
        "{error}"
    );
}

#[test]
fn bad_files_are_named_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let task = path(dir.path(), "task.yaml");
    let data = path(dir.path(), "data.jsonl");
    let yaml = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: data.jsonl}\noutput_type: multiple_choice\n\
                doc_to_text: q\ndoc_to_target: 0\ndoc_to_choice: [a, b]\n";
    let record = "{\"q\": \"x\"}\n";
    let model = tiny("llama");
    let args = ["eval", &model, "--device", "cpu", "--task", &task];
    let write = |yaml: &str, records: &str| {
        std::fs::write(&task, yaml).unwrap();
        std::fs::write(&data, records).unwrap();
    };
    write(yaml, record);
    ok(&args);
    let python = yaml.replace("doc_to_text: q", "doc_to_text: !function utils.f");
    for (yaml, records, part) in [
        (
            format!("{yaml}metric: acc\n"),
            record,
            "task.yaml, line 8: `metric` is not supported",
        ),
        (python, record, "line 5: `!function` runs Python"),
        (
            yaml.replace("json", "org/name"),
            record,
            "task.yaml, line 2: `dataset_path` is `org/name`",
        ),
        ("a: [".into(), record, "not YAML"),
        (
            yaml.into(),
            "\n{\"q\": \"x\"}\n{\"q\": 3}\n",
            "data.jsonl, line 3: `doc_to_text` is 3",
        ),
        (yaml.into(), "{\"q\": \n", "data.jsonl, line 1: not JSON"),
        (yaml.into(), "[1]", "not a JSON object"),
        (yaml.into(), "", "the data has no records"),
        (
            yaml.replace(".jsonl", ".parquet"),
            record,
            "is Parquet, which is not read",
        ),
        (
            yaml.replace("data_files: data.jsonl", ""),
            record,
            "--data FILE",
        ),
    ] {
        write(&yaml, records);
        let error = fails(&args);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with("error: ") && error.contains(part),
            "{part}: {error}"
        );
    }
    write(yaml, record);
    let bert = fixture("encoders/bert/model.gguf").display().to_string();
    let error = fails(&["eval", &bert, "--device", "cpu", "--task", &task]);
    assert!(error.contains("use `siskin embed`"), "{error}");
    let error = fails(&[&args[..], &["--out", &data]].concat());
    assert!(error.contains("choose another --out"), "{error}");
    assert_eq!(std::fs::read_to_string(&data).unwrap(), record);
}
