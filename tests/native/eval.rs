//! Scores of given texts, and what tasks ask, as lm-evaluation-harness asks it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::{Map, Value as Json, json};
use siskin_engine::{CacheType, DeviceRequest, OpenOptions, Precision, ScoredText, Session};
use siskin_eval::{Data, Event, Item, ItemResult, Task, comparisons, summaries};
use siskin_tests::{assert_close, family_folder, fixture};

fn open(folder: &Path, device: DeviceRequest, sequences: usize, scores: usize) -> Session {
    let options = OpenOptions {
        device,
        sequences,
        scores,
        context: Some(128),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    block_on(Session::open(folder, &options, &mut |_| ())).unwrap()
}

const GPU: DeviceRequest = DeviceRequest::Gpu {
    index: None,
    profile: None,
};

/// Of each scored token, from the logits of all positions.
fn wanted(session: &mut Session, text: &ScoredText) -> Vec<f32> {
    let logits = block_on(session.logits(&text.tokens)).unwrap();
    let vocab = session.model.dims().vocab_size;
    let logprob = |at: usize| {
        let row = &logits[(at - 1) * vocab..][..vocab];
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        row[text.tokens[at] as usize] - sum.ln() as f32
    };
    (text.from..text.tokens.len()).map(logprob).collect()
}

#[test]
fn scores_are_those_of_all_logits() {
    let text = |start: u32, len: u32, end: &[u32], from: usize| ScoredText {
        tokens: (start..start + len).chain(end.iter().copied()).collect(),
        from,
    };
    // Choices of one question, whole texts, and the same tokens with another beginning of what is scored.
    let texts = [
        text(5, 40, &[9, 8, 7], 40),
        text(5, 40, &[100], 40),
        text(5, 40, &[101], 38),
        text(5, 40, &[9, 200, 3, 4, 5, 6], 41),
        text(7, 3, &[1], 1),
        text(5, 37, &[], 1),
        text(60, 90, &[], 60),
    ];
    for (family, device, sequences, scores) in [
        ("llama", DeviceRequest::Cpu, 1, 0),
        ("llama", DeviceRequest::Cpu, 3, 16),
        ("llama", GPU, 4, 16),
        // Recurrent states, alone and with attention.
        ("mamba2", DeviceRequest::Cpu, 1, 16),
        ("lfm2", DeviceRequest::Cpu, 4, 0),
    ] {
        let folder = match family {
            "llama" => None,
            family => Some(family_folder(family)),
        };
        let llama = fixture("tiny/llama");
        let at = folder.as_ref().map_or(llama.as_path(), |f| f.path());
        let mut session = open(at, device, sequences, scores);
        let mut oracle = open(at, DeviceRequest::Cpu, 1, 0);
        // The second time, beginnings are in the cache.
        for _ in 0..2 {
            let found = block_on(session.score(&texts)).unwrap();
            for (text, found) in texts.iter().zip(found) {
                let wanted = wanted(&mut oracle, text);
                let found: Vec<f32> = found.iter().map(|s| s.logprob).collect();
                assert_close(&format!("{family} {device:?}"), &found, &wanted, 2e-4);
            }
        }
        // What was greedily generated is likeliest.
        let options = siskin_engine::GenerateOptions {
            max_tokens: 4,
            ignore_end: true,
            ..Default::default()
        };
        let prompt = &texts[0].tokens[..20];
        let go_on = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
        let answer = block_on(session.generate(prompt, &options, go_on)).unwrap();
        let mut greedy = ScoredText {
            tokens: [prompt, &answer.ids].concat(),
            from: 20,
        };
        let scores = block_on(session.score(std::slice::from_ref(&greedy))).unwrap();
        assert!(scores[0].iter().all(|s| s.is_likeliest), "{family}");
        greedy.tokens[21] = (greedy.tokens[21] + 1) % 300;
        let scores = block_on(session.score(&[greedy])).unwrap();
        assert!(!scores[0][1].is_likeliest, "{family}");
    }
    // What texts begin with alike is in the cache once: 6 blocks of the 32, and one for each text.
    let mut session = open(&fixture("tiny/llama"), DeviceRequest::Cpu, 4, 16);
    let alike: Vec<ScoredText> = (0..8).map(|i| text(5, 96, &[i, 7, 8], 97)).collect();
    block_on(session.score(&alike)).unwrap();
    assert!(
        session.cache_free() >= 18.0 / 32.0,
        "{}",
        session.cache_free()
    );
    let mut session = open(&fixture("tiny/llama"), DeviceRequest::Cpu, 1, 0);
    for (tokens, from) in [
        (vec![1, 2], 0),
        (vec![1, 2], 2),
        (vec![5; 130], 1),
        (vec![400, 1], 1),
    ] {
        assert!(block_on(session.score(&[ScoredText { tokens, from }])).is_err());
    }
}

fn tasks() -> PathBuf {
    fixture("../../examples/tasks")
}

/// A task of the examples.
pub fn task_file(name: &str) -> String {
    tasks().join(format!("{name}.yaml")).display().to_string()
}

/// Records of a file of the examples.
fn records(file: &str) -> Vec<Map<String, Json>> {
    let text = std::fs::read_to_string(tasks().join("data").join(file)).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn multiple_choice(more: Json) -> Json {
    let mut task = json!({
        "task": "t",
        "dataset_path": "json",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "Question: {{goal}}\nAnswer:",
        "doc_to_target": "label",
        "doc_to_choice": "{{[sol1, sol2]}}",
    });
    task.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    task
}

fn items(task: &Json, session: &Session) -> siskin_eval::Result<Vec<Item>> {
    let data = Data::from([(Some("test".into()), records("goals.jsonl"))]);
    Task::parse(task.clone(), None)?.items(&data, session)
}

#[test]
fn prompts_are_those_of_lm_evaluation_harness() {
    let session = open(&fixture("tiny/llama"), DeviceRequest::Cpu, 1, 0);
    let expected = std::fs::read(fixture("eval/expected.json")).unwrap();
    let expected: Map<String, Json> = serde_json::from_slice(&expected).unwrap();
    let splits = |name: &str| match name {
        "mmlu" => vec![("test", "questions.jsonl"), ("dev", "questions-dev.jsonl")],
        "piqa" => vec![("validation", "goals.jsonl")],
        _ => vec![("test", "sums.jsonl"), ("train", "sums-train.jsonl")],
    };
    for name in ["mmlu", "piqa", "gsm8k"] {
        // The command's own reading of YAML: what it does with the task is in its results.
        let text = std::fs::read_to_string(task_file(name)).unwrap();
        let wanted = expected[name]["items"][0]["prompt"].as_str().unwrap();
        let template = text
            .lines()
            .find_map(|l| l.strip_prefix("doc_to_text: "))
            .unwrap();
        let number = |key: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key));
            line.map(|n| n.trim().parse::<usize>().unwrap())
        };
        let mut task = json!({
            "task": name,
            "dataset_path": "json",
            "doc_to_text": serde_json::from_str::<String>(template).unwrap(),
            "doc_to_target": "{{answer}}",
            "num_fewshot": number("num_fewshot:"),
            "test_split": "test",
        });
        if let Some(description) = text.lines().find_map(|l| l.strip_prefix("description: ")) {
            task["description"] = serde_json::from_str(description).unwrap();
        }
        match name {
            "mmlu" => {
                task["output_type"] = "multiple_choice".into();
                task["doc_to_choice"] = json!(["A", "B", "C", "D"]);
                task["fewshot_config"] = json!({"sampler": "first_n"});
                task["fewshot_split"] = "dev".into();
            }
            "piqa" => {
                task["output_type"] = "multiple_choice".into();
                task["doc_to_choice"] = "{{[sol1, sol2]}}".into();
                task["doc_to_target"] = "label".into();
                task["test_split"] = Json::Null;
                task["validation_split"] = "validation".into();
            }
            _ => task["fewshot_split"] = "train".into(),
        }
        let data = splits(name)
            .into_iter()
            .map(|(s, f)| (Some(s.into()), records(f)));
        let task = Task::parse(task, None).unwrap();
        let items = task.items(&data.collect(), &session).unwrap();
        assert_eq!(items[0].prompt(), wanted, "{name}");
    }
}

#[test]
fn what_a_task_has_that_is_not_understood_is_refused_by_name() {
    let session = open(&fixture("tiny/llama"), DeviceRequest::Cpu, 1, 0);
    assert_eq!(
        items(&multiple_choice(json!({})), &session).unwrap().len(),
        3
    );
    for (more, part) in [
        (json!({"doc_to_txt": "x"}), "`doc_to_txt` is not supported"),
        (
            json!({"process_docs": "utils.f"}),
            "`process_docs` is Python",
        ),
        (
            json!({"output_type": "multi"}),
            "`output_type` is `multi`; use multiple_choice",
        ),
        (json!({"doc_to_choice": null}), "`doc_to_choice` is missing"),
        (
            json!({"metric_list": [{"metric": "f1"}]}),
            "`metric_list[0].metric` is `f1`; use acc",
        ),
        (
            json!({"metric_list": [{"metric": "acc", "aggregation": "median"}]}),
            "that of acc is mean",
        ),
        (
            json!({"metric_list": [{"metric": "acc", "weight": 2}]}),
            "`metric_list[0].weight`",
        ),
        (json!({"repeats": 2}), "`repeats`"),
        (
            json!({"num_fewshot": -1}),
            "`num_fewshot` is not a whole number",
        ),
        (
            json!({"num_fewshot": 4}),
            "4 examples are drawn, and there are 3",
        ),
        (
            json!({"doc_to_text": "goal {{goal"}),
            "`doc_to_text` cannot be used: the template is not Jinja",
        ),
        (
            json!({"doc_to_text": "{{gaol}}"}),
            "record 1: `doc_to_text`: the template failed: 'gaol' is undefined",
        ),
        (
            json!({"doc_to_text": "gaol"}),
            "record 1: it has no field `gaol`",
        ),
        (json!({"doc_to_choice": "{{sol1}}"}), "which is not a list"),
        (
            json!({"fewshot_split": "dev", "num_fewshot": 1}),
            "no data of the split `dev`",
        ),
        (json!({"test_split": "dev"}), "no data of the split `dev`"),
    ] {
        let error = items(&multiple_choice(more.clone()), &session)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{more}: {error}");
    }
    let generate = |more: Json| {
        let mut task = json!({"task": "t", "dataset_path": "json", "test_split": "test", "doc_to_text": "goal",
            "doc_to_target": "sol1"});
        task.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        items(&task, &session).map(drop)
    };
    generate(json!({})).unwrap();
    for (more, part) in [
        (
            json!({"generation_kwargs": {"num_beams": 2}}),
            "`generation_kwargs.num_beams`",
        ),
        (
            json!({"filter_list": [{"name": "x", "filter": [{"function": "f"}]}]}),
            "`filter_list[0].filter[0].function`",
        ),
        (
            json!({"filter_list": [{"name": "x", "filter": [{"function": "lowercase"}]}]}),
            "take_first",
        ),
        (
            json!({"filter_list": [{"name": "x", "filter": [{"function": "regex", "regex_pattern": "("}]}]}),
            "regex_pattern` is no regular expression",
        ),
    ] {
        let error = generate(more.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{more}: {error}");
    }
}

#[test]
fn metrics_and_tests_of_many_records() {
    let result = |(index, score): (usize, Json)| -> ItemResult {
        serde_json::from_value(
            json!({"index": index, "scores": {"acc": score, "perplexity": [-4.0, 2.0, 10.0]}}),
        )
        .unwrap()
    };
    let a: Vec<ItemResult> = [1.0, 1.0, 1.0, 0.0]
        .map(Json::from)
        .into_iter()
        .enumerate()
        .map(result)
        .collect();
    let b: Vec<ItemResult> = [0.0, 0.0, 1.0, 0.0]
        .map(Json::from)
        .into_iter()
        .enumerate()
        .map(result)
        .collect();
    let of = &summaries(&a)["acc"];
    // statistics.stdev([1, 1, 1, 0]) / 2
    assert!((of.value - 0.75).abs() < 1e-12 && (of.stderr.unwrap() - 0.25).abs() < 1e-12);
    // exp(2), and over 8 tokens of variance 5 - 4: sqrt(1 / 7) of the logarithm.
    let of = &summaries(&a)["perplexity"];
    let [value, error] = [2f64.exp(), 2f64.exp() / 7f64.sqrt()];
    assert!((of.value - value).abs() < 1e-9 && (of.stderr.unwrap() - error).abs() < 1e-9);
    let compared = &comparisons(&a, &b)["acc"];
    // scipy.stats.binomtest(0, 2).pvalue
    assert_eq!((compared.difference, compared.p, compared.n), (0.5, 0.5, 4));
}

#[test]
fn a_run_can_be_stopped() {
    let mut session = open(&fixture("tiny/llama"), DeviceRequest::Cpu, 2, 8);
    for task in [
        multiple_choice(json!({})),
        json!({"task": "t", "dataset_path": "json", "test_split": "test", "doc_to_text": "goal", "doc_to_target": "sol1"}),
    ] {
        let mut task = task;
        if task.get("output_type").is_none() {
            task["generation_kwargs"] = json!({"max_gen_toks": 20, "until": []});
        }
        let all = items(&task, &session).unwrap();
        let task = Task::parse(task, None).unwrap();
        let all: Vec<&Item> = all.iter().collect();
        let mut done = 0;
        let stop = &mut |event| {
            done += usize::from(matches!(event, Event::Done(_)));
            ControlFlow::Break(())
        };
        let flow = block_on(task.run(&mut session, &all, 0, stop)).unwrap();
        assert!(flow.is_break() && done <= 1);
        assert!(session.is_idle());
        let go_on = &mut |_| ControlFlow::Continue(());
        assert!(
            block_on(task.run(&mut session, &all, 0, go_on))
                .unwrap()
                .is_continue()
        );
    }
}
