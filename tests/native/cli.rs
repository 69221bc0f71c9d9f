//! The command line, run as a user runs it.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use safetensors::SafeTensors;
use serde_json::Value;
use siskin_tests::command::{fails, json, ok, siskin, tiny};
use siskin_tests::{Tensors, assert_close, fixture};

#[test]
fn run_streams_or_tells_all_in_json() {
    let model = tiny("llama");
    for device in ["cpu", "gpu"] {
        let common = [
            "run",
            &model,
            "Hello",
            "--device",
            device,
            "--max-tokens",
            "12",
        ];
        let text = ok(&common);
        let all = json(&[&common[..], &["--json", "--logprobs", "3"]].concat());
        assert_eq!(
            text.trim_end_matches('\n'),
            all["text"].as_str().unwrap().trim_end_matches('\n')
        );
        let ids = all["ids"].as_array().unwrap();
        assert_eq!(all["counts"]["completion_tokens"], ids.len());
        assert_eq!(
            all["counts"]["prompt_tokens"],
            all["prompt_ids"].as_array().unwrap().len()
        );
        assert!(["stop", "length"].contains(&all["finish_reason"].as_str().unwrap()));
        assert!(all["timings"]["prefill_tok_s"].as_f64().unwrap() > 0.0);
        let logprobs = all["logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), ids.len());
        // Greedy: the chosen one is the likeliest of the three.
        for (l, id) in logprobs.iter().zip(ids) {
            assert_eq!((&l["id"], &l["top"][0]["id"]), (id, id));
            assert!(l["top"][0]["logprob"].as_f64() >= l["top"][2]["logprob"].as_f64());
        }
    }
}

#[test]
fn raw_text_system_messages_and_stops() {
    let model = tiny("qwen3");
    let run = |more: &[&str]| {
        json(
            &[
                &[
                    "run",
                    &model,
                    "Hello",
                    "--device",
                    "cpu",
                    "--max-tokens",
                    "8",
                    "--json",
                ],
                more,
            ]
            .concat(),
        )
    };
    let (chat, raw) = (run(&[]), run(&["--raw"]));
    let system = run(&["--system", "Be brief."]);
    let n = |j: &Value| j["prompt_ids"].as_array().unwrap().len();
    assert!(n(&raw) < n(&chat) && n(&chat) < n(&system));
    let text = raw["text"].as_str().unwrap();
    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped = run(&["--raw", "--stop", &stop]);
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"], text[..text.find(&stop).unwrap()]);
}

#[test]
fn sampling_is_seeded() {
    let model = tiny("llama");
    let run = |seed: &str| {
        let args = [
            "run",
            &model,
            "Hello",
            "--device",
            "cpu",
            "--max-tokens",
            "20",
            "--json",
            "--temperature",
            "1.2",
            "--top-k",
            "100",
            "--seed",
            seed,
        ];
        json(&args)["ids"].clone()
    };
    assert_eq!(run("5"), run("5"));
    assert_ne!(run("5"), run("6"));
}

#[test]
fn tokenize_gives_ids_pieces_and_spans() {
    let model = tiny("llama");
    let text = "Hi wörld";
    let j = json(&["tokenize", &model, text, "--json"]);
    let tokens = j["tokens"].as_array().unwrap();
    assert_eq!(j["ids"].as_array().unwrap().len(), tokens.len());
    assert_eq!(tokens[0]["start"], 0);
    assert_eq!(tokens.last().unwrap()["end"], text.len());
    assert_eq!(tokens[0]["special"], false);
    let chat = json(&["tokenize", &model, text, "--chat", "--json"]);
    assert!(
        chat["rendered"]
            .as_str()
            .unwrap()
            .starts_with("<|im_start|>user\nHi")
    );
    assert_eq!(chat["tokens"][0]["special"], true);
    assert!(ok(&["tokenize", &model, text]).contains("tokens"));
    // A file with a vocabulary only.
    let vocabulary = fixture("tokenizers/bert.gguf").display().to_string();
    let j = json(&["tokenize", &vocabulary, "The fox", "--json"]);
    let tokens = j["tokens"].as_array().unwrap();
    assert_eq!(tokens[0]["piece"], "[CLS]");
    assert_eq!(tokens.last().unwrap()["piece"], "[SEP]");
}

#[test]
fn inspect_computes_memory_from_the_plan() {
    let path = fixture("tiny/llama/model.gguf").display().to_string();
    let figure =
        |ctx: &str| json(&["inspect", &path, "--ctx", ctx, "--json"])["memory"]["figure"].clone();
    let (a, b) = (figure("50"), figure("100"));
    assert_eq!(
        a["kv_cache"].as_u64().unwrap() * 2,
        b["kv_cache"].as_u64().unwrap()
    );
    assert_eq!(a["weights"], b["weights"]);
    // Heads of 32: a scale for each has a word of its own.
    let cached = |more: &[&str]| {
        let command = ["inspect", &tiny("qwen3"), "--json"];
        let figure = &json(&[&command, more].concat())["memory"]["figure"];
        figure["kv_cache"].as_u64().unwrap()
    };
    let f16 = cached(&[]);
    assert_eq!(cached(&["--cache", "q8_0"]) * 64, f16 * 36);
    let apart = ["--cache-type-k", "q4_0", "--cache-type-v", "f32"];
    assert_eq!(cached(&apart) * 128, f16 * (20 + 128));
    let text = ok(&[&["inspect", &tiny("qwen3")], &apart[..]].concat());
    assert!(text.contains("q4_0 keys, f32 values"), "{text}");
    let text = ok(&["inspect", &path, "--tensors"]);
    assert!(text.contains("blk.1.ffn_up.weight") && text.contains("KV cache"));
    let j = json(&["inspect", &path, "--json"]);
    assert_eq!(
        (&j["architecture"], &j["n_layers"]),
        (&"llama".into(), &2.into())
    );
}

#[test]
fn caches_that_cannot_be_are_refused() {
    for command in [
        &["run", &tiny("llama"), "hi", "--raw", "--cache", "q8_0"][..],
        &["inspect", &tiny("llama"), "--cache-type-v", "q4_0"],
    ] {
        let error = fails(command);
        assert!(
            error.contains("heads of a multiple of 32 dimensions"),
            "{error}"
        );
        assert!(error.contains("have 16; use --cache f16"), "{error}");
    }
    let error = fails(&["run", &tiny("qwen3"), "hi", "--cache-type-k", "q5_1"]);
    assert!(error.contains("q5_1") && error.contains("q8_0"), "{error}");
}

#[test]
fn logits_are_written_as_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    let t = Tensors::open("tiny/gemma3/expected.safetensors");
    let ids: Vec<String> = t.u32("ids").iter().map(u32::to_string).collect();
    let model = tiny("gemma3");
    ok(&[
        "logits",
        &model,
        "--tokens",
        &ids.join(","),
        "--out",
        &out.display().to_string(),
        "--device",
        "cpu",
        "--precision",
        "f32",
        "--cache",
        "f32",
    ]);
    let bytes = std::fs::read(out).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("logits").unwrap();
    assert_eq!(view.shape(), [40, 320]);
    let found: Vec<f32> = view
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_close("logits", &found, &t.f32("logits"), 2e-4);
}

#[test]
fn bench_counts_what_a_step_does() {
    let model = tiny("qwen2");
    let args = [
        "bench", &model, "-p", "20", "-n", "5", "--runs", "1", "--json", "--device",
    ];
    let gpu = json(&[&args[..], &["gpu", "--profile", "base"]].concat());
    assert!(
        gpu["prefill_tok_s"].as_f64().unwrap() > 0.0 && gpu["decode_tok_s"].as_f64().unwrap() > 0.0
    );
    let counts = &gpu["counts"];
    assert_eq!(counts["dispatches"], 2 * 5 + 3);
    for (key, n) in [
        ("submits", 1),
        ("readbacks", 1),
        ("buffers_created", 0),
        ("bind_groups_created", 0),
    ] {
        assert_eq!(counts[key], n, "{key}");
    }
    let cpu = json(&[&args[..], &["cpu"]].concat());
    assert_eq!(
        (&cpu["device"], &cpu["counts"]),
        (&"cpu".into(), &Value::Null)
    );
}

#[test]
fn the_real_model_binds_its_weights_once() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let model = root
        .join("models/smollm2-135m-instruct.gguf")
        .display()
        .to_string();
    let j = json(&[
        "bench", &model, "-p", "8", "-n", "2", "--runs", "1", "--json", "--device", "gpu",
    ]);
    let inspected = json(&["inspect", &model, "--json"]);
    let weights = inspected["memory"]["figure"]["weights"].as_u64().unwrap();
    // 11 tokens of 30 layers, keys and values, 3 heads of 64, f16.
    let kv = 11 * 30 * 2 * 3 * 64 * 2;
    let bound = j["counts"]["bytes_bound"].as_u64().unwrap();
    assert!(
        bound as f64 <= 1.05 * (weights + kv) as f64,
        "{bound} of {weights} + {kv}"
    );
    assert!(j["counts"]["dispatches"].as_u64().unwrap() <= 7 * 30 + 5);
    assert_eq!(j["kernels"].as_array().map(|k| k.len() > 4), Some(true));
}

#[test]
fn devices_lists_gpus_and_their_profiles() {
    let j = json(&["devices", "--json"]);
    let gpus = j["gpus"].as_array().unwrap();
    assert!(
        !gpus.is_empty(),
        "no GPU; run `cargo xtask test`, which installs one"
    );
    for a in gpus {
        assert!(["cpu", "base", "sg"].contains(&a["profile"].as_str().unwrap()));
        assert!(a["limits"]["max_storage_binding"].as_u64().unwrap() >= 1 << 27);
    }
}

/// What `chat` with the tiny llama and more flags prints, and the errors, for lines of input.
fn chat(flags: &[&str], lines: &str) -> (String, String) {
    let mut child = siskin()
        .args(["chat", &tiny("llama"), "--device", "cpu"])
        .args(["--max-tokens", "5"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let [text, errors] = [out.stdout, out.stderr].map(|b| String::from_utf8(b).unwrap());
    assert!(out.status.success(), "{errors}");
    (text, errors)
}

#[test]
fn chat_changes_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let [lora, dora] = ["lora", "dora"].map(|kind| {
        // Under names of their own.
        let to = folder.path().join(kind);
        std::fs::create_dir(&to).unwrap();
        let from = fixture(&format!("tiny/llama/{kind}/adapter"));
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        to.display().to_string()
    });
    let script = "/adapter\nHi\n/reset\n/adapter dora\n/adapter\nHi\n/reset\n/adapter none\nHi\n/adapter x\n";
    let (text, errors) = chat(&["--adapter", &lora, "--adapter", &dora], script);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["* lora", "  dora"], "{text}");
    assert!(text.contains("  lora\n* dora\n"), "{text}");
    assert!(text.contains("using dora") && text.contains("using none"));
    let answers: Vec<&&str> = lines.iter().filter(|l| l.ends_with("[length]")).collect();
    assert_eq!(answers.len(), 3, "{text}");
    let (alone, _) = chat(&["--adapter", &dora], "Hi\n");
    assert_eq!(
        alone.lines().next(),
        Some(*answers[1]),
        "as if it had been the only one"
    );
    let (plain, _) = chat(&[], "Hi\n/adapter\n");
    assert_eq!(plain.lines().next(), Some(*answers[2]), "as without any");
    assert!(plain.contains("--adapter"), "{plain}");
    assert!(
        errors.contains("no adapter `x`; use one of lora, dora, none"),
        "{errors}"
    );
    assert!(!errors.contains("note:"), "{errors}");
}

#[test]
fn chat_keeps_the_cache_between_turns() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("chat.json");
    let script = format!(
        "Hi\n/stats\nMore\n/stats\n/save {}\n/nonsense\n/system Be brief.\n/system\n/reset\n/stats\n{}\nAgain\n/help\n",
        saved.display(),
        "long ".repeat(200),
    );
    let (text, errors) = chat(&[], &script);
    let cached: Vec<usize> = text
        .lines()
        .filter(|l| l.starts_with("last answer"))
        .map(|l| {
            l.split(" tokens, ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(cached.len(), 2, "{text}");
    assert!(cached[0] == 0 && cached[1] > 5, "{cached:?}");
    assert!(
        text.contains("Be brief.")
            && text.contains("context: 0 of 128")
            && text.contains("/save FILE")
    );
    assert!(
        errors.contains("no command /nonsense") && errors.contains("shorten it"),
        "{errors}"
    );
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(saved).unwrap()).unwrap();
    let roles: Vec<_> = saved["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].clone())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
}

#[test]
fn mistakes_are_told_in_one_line() {
    let model = tiny("llama");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let whole = std::fs::read(fixture("tiny/llama/model.gguf")).unwrap();
    let (not, cut) = (
        write("not.gguf", b"<html>"),
        write("cut.gguf", &whole[..whole.len() / 2]),
    );
    let empty = write("empty.gguf", b"");
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["run", "no-such-model", "x"],
            &["no-such-model", "cargo xtask demo"],
        ),
        (&["run", &not, "x"], &["not.gguf", "not a GGUF file"]),
        (&["run", &empty, "x"], &["empty.gguf", "not a GGUF file"]),
        (&["run", &cut, "x"], &["cut.gguf", "download it again"]),
        (
            &["run", &model, "x", "--temperature", "-1"],
            &["temperature is -1"],
        ),
        (&["run", &model, "x", "--top-p", "0"], &["top_p is 0"]),
        (&["run", &model, "x", "--min-p", "1"], &["min_p is 1"]),
        (
            &["run", &model, "x", "--repeat-penalty", "0"],
            &["repeat_penalty is 0"],
        ),
        (&["run", &model, "", "--raw"], &["prompt has no tokens"]),
        (
            &["run", &model, "x", "--ctx", "4"],
            &["tokens", "context holds 4", "raise --ctx"],
        ),
        (&["run", &model, "x", "--ctx", "9999"], &["9999", "128"]),
        (
            &["run", &model, "x", "--device", "cpu", "--profile", "sg"],
            &["--profile needs a GPU"],
        ),
        (
            &["run", &model, "x", "--device", "gpu:99"],
            &["no GPU 99", "siskin devices"],
        ),
        (
            &["logits", &model, "--tokens", "1,99999", "--out", "x"],
            &["token 99999", "320"],
        ),
        (&["bench", &model, "-p", "0"], &["at least 1"]),
        (
            &["serve", &model, "--host", "0.0.0.0", "--port", "0"],
            &["0.0.0.0", "--api-key", "--no-auth"],
        ),
        (
            &["serve", &model, &model, "--port", "0", "--device", "cpu"],
            &["two models are named `llama`"],
        ),
        (
            &["bench", &model, "-p", "120", "-n", "60"],
            &["raise --ctx"],
        ),
    ];
    for (args, parts) in cases {
        let error = fails(args);
        assert_eq!(error.trim_end().lines().count(), 1, "{args:?}: {error}");
        assert!(error.starts_with("error: "), "{args:?}: {error}");
        for part in *parts {
            assert!(
                error.contains(part),
                "{args:?}: `{part}` is not in: {error}"
            );
        }
    }
    // clap's own, with its usage.
    assert!(fails(&["run", &model, "x", "--device", "tpu"]).contains("gpu:N"));
    let run = siskin()
        .args(["run", &model, "x", "--device", "gpu"])
        .envs([
            ("VK_DRIVER_FILES", "/nonexistent.json"),
            ("VK_ICD_FILENAMES", "/nonexistent.json"),
        ])
        .env_remove("VK_ADD_DRIVER_FILES")
        .output()
        .unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(
        !run.status.success() && error.contains("mesa-vulkan-drivers"),
        "{error}"
    );
}

#[test]
fn a_broken_template_is_told_and_raw_does_without_it() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture("tiny/llama").join(file), folder.path().join(file)).unwrap();
    }
    let model = folder.path().display().to_string();
    assert!(
        fails(&["run", &model, "x", "--device", "cpu"]).contains("no chat template; use --raw")
    );
    std::fs::write(folder.path().join("chat_template.jinja"), "{% for %}").unwrap();
    assert!(fails(&["run", &model, "x", "--device", "cpu"]).contains("template is broken"));
    ok(&[
        "run",
        &model,
        "x",
        "--device",
        "cpu",
        "--raw",
        "--max-tokens",
        "2",
    ]);
}

#[test]
fn help_has_examples() {
    assert!(ok(&["--help"]).contains("tokenize"));
    for command in [
        "run", "chat", "serve", "tokenize", "inspect", "logits", "bench", "devices",
    ] {
        assert!(ok(&[command, "--help"]).contains("Examples:"), "{command}");
    }
}
