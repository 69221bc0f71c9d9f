//! Training on rewards by the command line.

use std::path::Path;

use serde_json::Value;
use siskin_tests::command::{fails, ok, tiny};

/// `train` on the tiny llama with prompts of which each has an answer, and more flags.
fn flags(folder: &Path, more: &[&str]) -> Vec<String> {
    let data = folder.join("prompts.jsonl");
    let lines = (0..6).map(|i| format!("{{\"prompt\":\"a{i} b\",\"answer\":\"{i}\"}}\n"));
    std::fs::write(&data, lines.collect::<String>()).unwrap();
    let out = folder.join("out").display().to_string();
    let data = data.display().to_string();
    let llama = tiny("llama");
    let fixed = [
        "train",
        "--model",
        &llama,
        "--data",
        &data,
        "--out",
        &out,
        "--device",
        "cpu",
        "--rank",
        "4",
        "--batch-size",
        "2",
        "--max-seq-len",
        "48",
        "--num-generations",
        "4",
        "--max-completion-length",
        "8",
        "--objective",
    ];
    fixed.iter().chain(more).map(|s| s.to_string()).collect()
}

fn as_strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// Ready rewards and a program's are added; what was drawn is kept, and a run can be continued.
#[test]
fn answers_are_drawn_rewarded_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("length.py");
    let lines = "import json, sys\nfor line in sys.stdin:\n    print(len(json.loads(line)['completion']))\n";
    std::fs::write(&program, lines).unwrap();
    let command = format!("command:python3 {}", program.display());
    let given = [
        "grpo", "--reward", &command, "--reward", "regex:e", "--json",
    ];
    let more: Vec<&str> = given
        .iter()
        .copied()
        .chain(["--steps", "2", "--validation", "0.2"])
        .collect();
    let json = ok(&as_strs(&flags(folder.path(), &more)));
    let report: Value = serde_json::from_str(&json).unwrap();
    assert!(report["last_step"]["reward"].is_number(), "{report}");
    assert!(
        report["held_out_reward_before"].is_number() && report["held_out_reward_after"].is_number()
    );
    let kept = || {
        let text = std::fs::read_to_string(folder.path().join("out/completions.jsonl")).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
        lines.collect::<Vec<Value>>()
    };
    assert_eq!(kept().len(), 2 * 2 * 4);
    for line in kept() {
        let completion = line["rollout"]["completion"].as_str().unwrap();
        let wanted = completion.chars().count() + usize::from(completion.contains('e'));
        assert_eq!(line["reward"].as_f64(), Some(wanted as f64), "{line}");
        assert!(line["rollout"]["answer"].is_string(), "{line}");
    }
    let resumed: Vec<&str> = given
        .iter()
        .copied()
        .chain(["--steps", "3", "--validation", "0.2", "--resume"])
        .collect();
    ok(&as_strs(&flags(folder.path(), &resumed)));
    // The last step of an epoch of five has one prompt.
    assert_eq!(kept().len(), 2 * 2 * 4 + 4);
}

#[test]
fn rewards_that_cannot_be_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (more, wanted) in [
        (
            &["grpo"][..],
            "the objective grpo needs a reward; use --reward",
        ),
        (&["sft", "--reward", "json"], "num_generations is set"),
        (
            &["rloo", "--reward", "length"],
            "there is no reward `length`",
        ),
        (&["grpo", "--reward", "command:exit 3"], "`exit 3` failed"),
        (
            &["grpo", "--reward", "command:echo 1"],
            "wrote 1 lines for 8 answers",
        ),
        (
            &["grpo", "--reward", "command:yes x | head -n 8"],
            "`x`, which is no number",
        ),
        (
            &["grpo", "--reward", "regex:."],
            "all 8 answers of the first step have the reward 1",
        ),
    ] {
        let error = fails(&as_strs(&flags(
            folder.path(),
            &[more, &["--validation", "0", "--force"]].concat(),
        )));
        assert!(error.contains(wanted), "{error}");
    }
}
