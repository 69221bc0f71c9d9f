//! Recipes as projects of other tools. Whether a project runs in its tool is recorded (`record_recipes.py`).

use std::path::Path;

use serde_json::{Value, json};
use siskin_engine::ModelFiles;
use siskin_tests::command::{fails, json as answer, ok, path, tiny};
use siskin_tests::fixture;
use siskin_train::{Dataset, LossOn, Tokens, epoch_order};

fn text(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = text(folder, name);
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// Writes a recipe for the tiny llama.
fn recipe(folder: &Path, data: &Path, options: &str) -> String {
    let path = folder.join("recipe.toml");
    let own = format!("model = {:?}\ndata = {:?}\n", tiny("llama"), data);
    std::fs::write(&path, own + options).unwrap();
    path.display().to_string()
}

fn pairs() -> std::path::PathBuf {
    fixture("preferences/pairs.jsonl")
}

const BASE: [&str; 2] = ["--base", "tiny/llama"];

/// Writes the project of a recipe.
fn project(folder: &Path, recipe: &str, tool: &str) -> std::path::PathBuf {
    let out = folder.join(tool);
    let args = [
        "recipe",
        recipe,
        "--to",
        tool,
        "--out",
        out.to_str().unwrap(),
        "--json",
    ];
    let told = answer(&[&args[..], &BASE].concat());
    assert_eq!(told["tool"], tool);
    assert_eq!(told["base_model"], "tiny/llama");
    out
}

#[test]
fn examples_are_the_tokens_that_are_learned_here() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture("recipes/sft.jsonl");
    let options = text(&fixture("recipes"), "sft.toml");
    let out = project(
        folder.path(),
        &recipe(folder.path(), &data, &options),
        "trl",
    );
    let files = ModelFiles::open(Path::new(&tiny("llama"))).unwrap();
    let records = Dataset::parse("sft.jsonl", &std::fs::read_to_string(&data).unwrap()).unwrap();
    let expected: Vec<Value> = records
        .records
        .iter()
        .map(|r| {
            let tokens = Tokens::of(&files.text, &r.example, LossOn::Assistant, 64)
                .unwrap()
                .unwrap();
            let both = tokens.ids.iter().zip(&tokens.learned);
            let labels: Vec<i64> = both
                .map(|(id, l)| if *l { i64::from(*id) } else { -100 })
                .collect();
            json!({"input_ids": tokens.ids, "labels": labels})
        })
        .collect();
    let (learned, held_out) = (lines(&out, "data.jsonl"), lines(&out, "validation.jsonl"));
    assert_eq!((learned.len(), held_out.len()), (4, 1));
    let mut found: Vec<String> = learned
        .iter()
        .chain(&held_out)
        .map(Value::to_string)
        .collect();
    let mut all: Vec<String> = expected.iter().map(Value::to_string).collect();
    found.sort();
    all.sort();
    assert_eq!(found, all);
    // The lines are in the order of the first epoch, and the second one's order is in terms of them.
    let kept: Vec<&Value> = expected.iter().filter(|e| !held_out.contains(e)).collect();
    let orders: Vec<Vec<usize>> = serde_json::from_str(&text(&out, "order.json")).unwrap();
    assert_eq!(orders.len(), 2);
    for (epoch, order) in orders.iter().enumerate() {
        let theirs: Vec<&Value> = order.iter().map(|at| &learned[*at]).collect();
        let ours = epoch_order(4, 0, epoch).into_iter().map(|i| kept[i]);
        assert_eq!(theirs, ours.collect::<Vec<_>>());
    }
    let config: Value = serde_json::from_str(&text(&out, "config.json")).unwrap();
    for (key, value) in [
        ("steps", json!(4)),
        ("eval_steps", json!(2)),
        ("warmup_steps", json!(1)),
        ("learning_rate", json!(0.01)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(
        config["lora"]["target_modules"],
        json!(["q_proj", "up_proj", "v_proj"])
    );
    assert_eq!(config["lora"]["lora_alpha"], 16.0);
    for line in text(&out, "requirements.txt").lines() {
        assert!(line.contains("=="), "{line}");
    }
    let readme = text(&out, "README.md");
    for launch in [
        "python train.py",
        "fsdp.yaml",
        "deepspeed.yaml",
        "sbatch",
        "ray_train.py",
    ] {
        assert!(readme.contains(launch), "{launch}");
    }
}

#[test]
fn preferences_have_the_forms_of_the_tools() {
    let folder = tempfile::tempdir().unwrap();
    let options = "objective = \"dpo\"\nvalidation = 0.0\n";
    let dpo = recipe(folder.path(), &pairs(), options);
    for tool in ["trl", "unsloth", "llama-factory"] {
        let lines = lines(&project(folder.path(), &dpo, tool), "data.jsonl");
        assert_eq!(lines.len(), 4);
        for line in &lines {
            // Both begin with the prompt, whose tokens are not learned.
            let [chosen, rejected] = ["chosen", "rejected"].map(|side| {
                let of = |what: &str| line[format!("{side}_{what}")].as_array().unwrap().clone();
                let (ids, labels) = (of("input_ids"), of("labels"));
                let start = labels.iter().position(|l| *l != -100).unwrap();
                assert!(start > 0 && labels[start..] == ids[start..], "{line}");
                ids[..start].to_vec()
            });
            assert_eq!(chosen, rejected);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let options = "objective = \"kto\"\nvalidation = 0.0\nbatch_size = 4\n";
    let kto = recipe(folder.path(), &fixture("preferences/rated.jsonl"), options);
    let trl = lines(&project(folder.path(), &kto, "trl"), "data.jsonl");
    let completions = |key: &str| {
        let mut all: Vec<String> = trl.iter().map(|l| l[key].to_string()).collect();
        all.sort();
        all
    };
    // Each completion is once the answer to another prompt.
    assert_eq!(
        completions("completion_ids"),
        completions("KL_completion_ids")
    );
    assert!(
        trl.iter()
            .all(|l| l["completion_ids"] != l["KL_completion_ids"])
    );
    assert!(trl.iter().all(|l| l["label"].is_boolean()));
    let other = lines(&project(folder.path(), &kto, "llama-factory"), "data.jsonl");
    for (a, b) in trl.iter().zip(&other) {
        let of = |key: &str| a[key].as_array().unwrap().clone();
        let joined = [of("prompt_ids"), of("KL_completion_ids")].concat();
        assert_eq!(b["kl_input_ids"], json!(joined));
        assert_eq!(b["kto_tags"], a["label"]);
    }
}

#[test]
fn yaml_has_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let options = "schedule = \"cosine\"\nmin_lr_rate = 0.1\nuse_rslora = true\n\
                   optim = \"adamw_8bit\"\nearly_stopping_patience = 2\nsteps = 9\n";
    let recipe = recipe(folder.path(), &fixture("recipes/sft.jsonl"), options);
    let axolotl = project(folder.path(), &recipe, "axolotl");
    let llama_factory = project(folder.path(), &recipe, "llama-factory");
    for (out, expected) in [
        (
            axolotl,
            &[
                "peft_use_rslora: true",
                "lr_scheduler: \"cosine_with_min_lr\"",
                "optimizer: \"adamw_8bit\"",
                "early_stopping_patience: 2",
                "curriculum_sampling: true",
            ][..],
        ),
        (
            llama_factory,
            &[
                "use_rslora: true",
                "lr_scheduler_type: \"cosine_with_min_lr\"",
                "optim: \"adamw_8bit\"",
                "early_stopping_steps: 2",
                "disable_shuffling: true",
            ],
        ),
    ] {
        let config = text(&out, "config.yaml");
        // A number with an exponent has a point, without which YAML 1.1 has a text.
        let common = [
            "adam_epsilon: 1.0e-8",
            "max_steps: 9",
            "lr_scheduler_kwargs: {min_lr_rate: 0.1}",
        ];
        for line in expected.iter().chain(&common) {
            assert!(config.lines().any(|l| l == *line), "{line}\n{config}");
        }
        assert!(text(&out, "requirements.txt").contains("bitsandbytes=="));
        let first = &lines(&out, "data.jsonl")[0];
        let len = first["input_ids"].as_array().unwrap().len();
        assert_eq!(first["attention_mask"], json!(vec![1; len]));
    }
}

#[test]
fn what_a_tool_cannot_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(folder.path(), "out");
    let refused = |data: &Path, options: &str, tool: &str, more: &[&str]| {
        let recipe = recipe(folder.path(), data, options);
        let args = ["recipe", &recipe, "--to", tool, "--out", &out];
        let error = fails(&[&args[..], more].concat());
        assert!(!Path::new(&out).exists(), "{error}");
        error
    };
    let (pairs, answers) = (pairs(), fixture("recipes/sft.jsonl"));
    for (data, options, tool, expected) in [
        (&pairs, "objective = \"dpo\"", "axolotl", "objective dpo"),
        (
            &pairs,
            "objective = \"orpo\"",
            "llama-factory",
            "objective orpo",
        ),
        (
            &pairs,
            "objective = \"cpo\"",
            "llama-factory",
            "no objective cpo",
        ),
        (
            &pairs,
            "objective = \"dpo\"\nloss_type = \"robust\"",
            "llama-factory",
            "loss_type robust",
        ),
        (
            &pairs,
            "objective = \"simpo\"\ncpo_alpha = 0.5",
            "llama-factory",
            "cpo_alpha",
        ),
        (
            &answers,
            "schedule = \"linear\"\nmin_lr_rate = 0.1",
            "axolotl",
            "min_lr_rate of the schedule linear",
        ),
        (
            &answers,
            "lora_alpha = 4.5",
            "llama-factory",
            "lora_alpha is 4.5",
        ),
    ] {
        let error = refused(data, options, tool, &BASE);
        assert!(
            error.contains(expected) && error.lines().count() == 1,
            "{error}"
        );
    }
    let error = refused(&answers, "", "trl", &[]);
    assert!(error.contains("--base OWNER/NAME"), "{error}");
    let error = refused(&answers, "", "trl", &["--base", "llama"]);
    assert!(error.contains("it must be OWNER/NAME"), "{error}");
    let error = refused(&answers, "packin = true", "trl", &BASE);
    assert!(error.contains("did you mean `packing`"), "{error}");
    let error = fails(&["check-recipe", &tiny("llama")]);
    assert!(
        error.contains("not a folder that `siskin recipe` wrote"),
        "{error}"
    );
    let axolotl = project(
        folder.path(),
        &recipe(folder.path(), &answers, ""),
        "axolotl",
    );
    let error = fails(&["check-recipe", axolotl.to_str().unwrap()]);
    assert!(error.contains("is for axolotl"), "{error}");
}

#[test]
fn a_merged_folder_says_how_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (tiny("llama"), path(folder.path(), "merged"));
    let adapter = fixture("tiny/llama/lora/adapter").display().to_string();
    let told = ok(&["merge", &model, &adapter, "--out", &out, "--to", "vllm"]);
    let serve = text(Path::new(&out), "SERVE.md");
    let line = told.lines().last().unwrap();
    assert!(
        line.starts_with("vllm serve /") && serve.contains(line),
        "{told}"
    );
    let gguf = path(folder.path(), "merged.gguf");
    let error = fails(&["merge", &model, &adapter, "--out", &gguf, "--to", "tgi"]);
    assert!(error.contains("needs a folder"), "{error}");
}

/// A Python that does what TRL did when it was recorded; `loss` replaces a part of it.
#[cfg(unix)]
fn recorded_python(folder: &Path, name: &str, change: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let metrics = fixture(&format!("recipes/{name}.metrics.jsonl"));
    let adapter = fixture("tiny/llama/lora/adapter");
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != --out ]; do shift; done\nmkdir -p \"$2\" && cp {}/* \"$2\" && \
         sed '{change}' {} > \"$2/metrics.jsonl\"\n",
        adapter.display(),
        metrics.display()
    );
    let path = folder.join(format!("python-{}", change.len()));
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[cfg(unix)]
#[test]
fn a_project_trains_in_trl_as_here() {
    for (name, data) in [
        ("sft", fixture("recipes/sft.jsonl")),
        ("dpo", fixture("preferences/chats.jsonl")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let options = text(&fixture("recipes"), &format!("{name}.toml"));
        let out = project(
            folder.path(),
            &recipe(folder.path(), &data, &options),
            "trl",
        );
        // What TRL was given when it was recorded.
        let given = text(&fixture("recipes"), &format!("{name}.data.jsonl"));
        assert_eq!(text(&out, "data.jsonl"), given);
        let (out, model) = (out.display().to_string(), tiny("llama"));
        let check = |python: &str| {
            [
                "check-recipe",
                &out,
                "--python",
                python,
                "--model",
                &model,
                "--steps",
                "4",
                "--json",
            ]
            .map(String::from)
        };
        let python = check(&recorded_python(folder.path(), name, ""));
        let told = answer(&python.each_ref().map(String::as_str));
        assert_eq!(told["same"], true, "{told}");
        assert_eq!(told["steps"].as_array().unwrap().len(), 4);
        let figures = told["steps"][0]["figures"].as_object().unwrap();
        assert!(figures.contains_key("grad_norm") && figures.contains_key("learning_rate"));
        assert_eq!(figures.contains_key("logps/chosen"), name == "dpo");
        // A loss that differs is found.
        let python = check(&recorded_python(
            folder.path(),
            name,
            "2s/\"loss\": /\"loss\": 1/",
        ));
        let error = fails(&python.each_ref().map(String::as_str));
        assert!(error.contains("`loss` differs by"), "{error}");
        // So are tokens that do.
        let data = Path::new(&out).join("data.jsonl");
        std::fs::write(&data, given.replacen("-100", "5", 1)).unwrap();
        let error = fails(&python.each_ref().map(String::as_str));
        assert!(error.contains("line 1 of"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_python_without_trl_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &fixture("recipes/sft.jsonl"), "");
    let out = project(folder.path(), &recipe, "trl").display().to_string();
    let python = path(folder.path(), "python");
    let model = tiny("llama");
    let check = [
        "check-recipe",
        &out,
        "--python",
        &python,
        "--model",
        &model,
        "--steps",
        "1",
    ];
    let error = fails(&check);
    assert!(error.contains("name a Python with --python"), "{error}");
    std::fs::write(
        &python,
        "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'trl'\" >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = fails(&check);
    let last = error.lines().last().unwrap();
    assert!(
        last.starts_with("error:") && last.contains("pip install -r"),
        "{error}"
    );
}
