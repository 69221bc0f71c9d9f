//! The cases of `tests/conformance`: the program, run on inputs that were once answered wrongly or refused for a
//! reason that was not theirs.

use std::path::{Path, PathBuf};

use pollster::block_on;
use serde_json::Value;
use siskin_engine::{Adapter, CacheType, DeviceRequest, OpenOptions, Precision, Session};
use siskin_formats::Checkpoint;
use siskin_gpu::Profile;
use siskin_models::Model;
use siskin_tests::command::{fails, json, ok, read_logits};
use siskin_tests::{assert_close, devices, fixture, is_first_driver, tolerance};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Every folder with a `case.json` below one of `tests/conformance`.
fn cases(area: &str) -> Vec<(PathBuf, Value)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(root().join(area)).unwrap() {
        let folder = entry.unwrap().path();
        let text = std::fs::read_to_string(folder.join("case.json"))
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let case = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        found.push((folder, case));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "no cases in {area}");
    found
}

fn args(case: &Value, folder: &Path, tmp: &Path) -> Vec<String> {
    let places = [
        ("{case}", folder.to_path_buf()),
        ("{models}", root().join("models")),
        ("{tiny}", fixture("tiny")),
        ("{tmp}", tmp.to_path_buf()),
    ];
    let args = case["args"].as_array().expect("args");
    let filled = args.iter().map(|arg| {
        let arg = arg.as_str().expect("arguments are strings").to_string();
        places.iter().fold(arg, |arg, (name, path)| {
            arg.replace(name, &path.display().to_string())
        })
    });
    filled.collect()
}

/// The logits by the program on the CPU; then in every profile of the first GPU, and in one of each other, in this
/// process: what is compiled for one case serves the next.
fn check_logits(what: &str, args: &[&str], wanted: &Path, tmp: &Path) {
    let wanted = read_logits(wanted);
    let out = tmp.join("logits.safetensors").display().to_string();
    let rest = [
        "--device",
        "cpu",
        "--out",
        &out,
        "--force",
        "--precision",
        "f32",
        "--cache",
        "f32",
    ];
    ok(&[args, &rest].concat());
    assert_close(what, &read_logits(Path::new(&out)), &wanted, 2e-4);
    for (index, profile) in devices() {
        if !is_first_driver(index) && profile != Profile::BASE {
            continue;
        }
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        let what = format!("{what} gpu:{index} {profile}");
        let found = logits_on(device, args);
        assert_close(&what, &found, &wanted, tolerance("model", profile));
    }
}

/// What `siskin logits` with these arguments computes, on a device.
fn logits_on(device: DeviceRequest, args: &[&str]) -> Vec<f32> {
    let value = |flag| Some(args[args.iter().position(|a| *a == flag)? + 1]);
    let known = ["--tokens", "--adapter"];
    let flags = args.iter().filter(|a| a.starts_with("--"));
    assert!(flags.into_iter().all(|a| known.contains(a)), "{args:?}");
    let options = OpenOptions {
        device,
        context: None,
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    let path = Path::new(args[1]);
    let mut session = block_on(Session::open(path, &options, &mut |_| ())).unwrap();
    if let Some(adapter) = value("--adapter").map(Path::new) {
        let adapter = match adapter.extension().is_some_and(|e| e == "gguf") {
            true => {
                let checkpoint = Checkpoint::open(adapter).unwrap();
                Adapter::from_gguf(&checkpoint, &session.model).unwrap()
            }
            false => Adapter::open(adapter).unwrap(),
        };
        block_on(session.set_adapter(Some(adapter))).unwrap();
    }
    let tokens = value("--tokens").expect("tokens").split(',');
    let ids: Vec<u32> = tokens.map(|t| t.parse().unwrap()).collect();
    let traced = block_on(session.trace(&ids, &[], 32)).unwrap();
    traced[0].values.clone()
}

/// Whether `found` holds all that `wanted` does.
fn check_json(what: &str, found: &Value, wanted: &Value) {
    match wanted {
        Value::Object(wanted) => {
            for (key, value) in wanted {
                check_json(&format!("{what}.{key}"), &found[key], value);
            }
        }
        _ => assert_eq!(found, wanted, "{what}"),
    }
}

/// What a `config.json` alone says, or why it is refused.
fn check_config(what: &str, folder: &Path, case: &Value) {
    let text = std::fs::read_to_string(folder.join(case["config"].as_str().unwrap())).unwrap();
    let found = Model::from_config(serde_json::from_str(&text).unwrap());
    if let Some(parts) = case["error"].as_array() {
        let error = found.expect_err(what).to_string();
        for part in parts {
            let part = part.as_str().unwrap();
            assert!(error.contains(part), "{what}: `{part}` is not in: {error}");
        }
        return;
    }
    let d = found
        .unwrap_or_else(|e| panic!("{what}: {e}"))
        .dims()
        .clone();
    for (key, found) in [
        ("n_layers", d.n_layers),
        ("hidden_size", d.hidden_size),
        ("intermediate_size", d.intermediate_size),
        ("n_heads", d.n_heads),
        ("n_kv_heads", d.n_kv_heads),
        ("head_dim", d.head_dim),
        ("vocab_size", d.vocab_size),
        ("context_length", d.context_length),
    ] {
        assert_eq!(case["dims"][key], found, "{what}: {key}");
    }
}

fn check(area: &str) {
    for (folder, case) in cases(area) {
        if case["config"].is_string() {
            check_config(&folder.display().to_string(), &folder, &case);
            continue;
        }
        let what = folder.display().to_string();
        let tmp = tempfile::tempdir().unwrap();
        let args = args(&case, &folder, tmp.path());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut checked = false;
        let parts = |key: &str| -> Vec<String> {
            let list = case[key].as_array().into_iter().flatten();
            list.map(|p| p.as_str().unwrap().to_string()).collect()
        };
        if let Some(file) = case["logits"].as_str() {
            check_logits(&what, &args, &folder.join(file), tmp.path());
            checked = true;
        }
        if case["json"].is_object() {
            check_json(&what, &json(&args), &case["json"]);
            checked = true;
        }
        if case["stdout"].is_array() {
            let found = ok(&args);
            for part in parts("stdout") {
                assert!(found.contains(&part), "{what}: `{part}` is not in: {found}");
            }
            checked = true;
        }
        if case["error"].is_array() {
            let found = fails(&args);
            assert_eq!(found.trim_end().lines().count(), 1, "{what}: {found}");
            for part in parts("error") {
                assert!(found.contains(&part), "{what}: `{part}` is not in: {found}");
            }
            checked = true;
        }
        assert!(checked, "{what}: the case expects nothing");
    }
}

#[test]
fn models() {
    check("configs");
}

#[test]
fn adapters() {
    check("adapters");
}

#[test]
fn files() {
    check("files");
}

#[test]
fn answers() {
    check("answers");
}
