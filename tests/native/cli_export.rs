//! Files of models by the command line: other types, other kinds.

use std::path::Path;

use siskin_tests::assert_close;
use siskin_tests::command::{fails, json, logits, ok, path, tiny};

#[test]
fn files_change_type_and_kind() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = format!("{}/model.gguf", tiny("qwen2"));
    let wanted = logits(folder.path(), &[&gguf, "--device", "cpu"]);
    for (ty, bound) in [
        ("f32", 1e-6),
        ("f16", 1e-2),
        ("q8_0", 5e-2),
        ("q4_1", 0.5),
        ("q4_0", 0.5),
    ] {
        let to = path(folder.path(), &format!("{ty}.gguf"));
        ok(&["quantize", &gguf, "--type", ty, "--out", &to]);
        let found = logits(folder.path(), &[&to, "--device", "cpu"]);
        assert_close(ty, &found, &wanted, bound);
        let types = json(&["inspect", &to, "--json"]).to_string();
        assert!(
            types.to_lowercase().contains(&format!("\"{ty}\"")),
            "{ty}: {types}"
        );
    }
    let to = path(folder.path(), "folder");
    ok(&["convert", &gguf, "--out", &to, "--type", "f32"]);
    assert_close(
        "folder",
        &logits(folder.path(), &[&to, "--device", "cpu"]),
        &wanted,
        1e-5,
    );
    let text = |model: &str| ok(&["tokenize", model, "Hello there, 12 cafés", "--json"]);
    assert_eq!(text(&to), text(&gguf));
    let error = fails(&[
        "quantize",
        &gguf,
        "--type",
        "iq2_xs",
        "--out",
        &path(folder.path(), "x.gguf"),
    ]);
    assert!(
        error.contains("iq2_xs") && error.contains("q4_k_m"),
        "{error}"
    );
    let error = fails(&[
        "quantize",
        &gguf,
        "--type",
        "q8_0",
        "--out",
        &path(folder.path(), "y"),
    ]);
    assert!(error.contains(".gguf"), "{error}");
    assert!(!folder.path().join("y").exists());
}

/// As bitsandbytes has it: written and read again, a folder of theirs unpacked; GGUF has no such type.
#[test]
fn folders_of_four_bits_are_written_and_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = tiny("nf4");
    let cpu = |model: &str| logits(folder.path(), &[model, "--device", "cpu"]);
    let wanted = cpu(&theirs);
    let [unpacked, again, gguf] = ["f32", "nf4", "model.gguf"].map(|n| path(folder.path(), n));
    ok(&["convert", &theirs, "--out", &unpacked, "--type", "f32"]);
    assert_close("unpacked", &cpu(&unpacked), &wanted, 1e-5);
    let config = std::fs::read_to_string(Path::new(&unpacked).join("config.json")).unwrap();
    assert!(!config.contains("quantization_config"), "{config}");
    ok(&["quantize", &unpacked, "--type", "nf4", "--out", &again]);
    // Rounded once more: the embedding to f16, the peaks to codes.
    assert_close("again", &cpu(&again), &wanted, 2e-2);
    let types = json(&["inspect", &again, "--json"]).to_string();
    assert!(types.contains("NF4") && types.contains("F16"), "{types}");
    let config = std::fs::read_to_string(Path::new(&again).join("config.json")).unwrap();
    assert!(config.contains("bitsandbytes"), "{config}");
    let error = fails(&["quantize", &theirs, "--type", "nf4", "--out", &gguf]);
    assert!(error.contains("GGUF has no type NF4"), "{error}");
    ok(&["convert", &theirs, "--out", &gguf]);
    assert_close("as F16", &cpu(&gguf), &wanted, 1e-2);
}

/// A folder as GGUF, and back: the same logits, the same tokens, Llama 3's and linear scaling and Gemma's norms and all.
#[test]
fn folders_become_gguf_and_folders_again() {
    let folder = tempfile::tempdir().unwrap();
    for family in ["llama", "mistral", "qwen2", "qwen3", "gemma3"] {
        let to = path(folder.path(), &format!("{family}.gguf"));
        ok(&["convert", &tiny(family), "--out", &to, "--type", "f32"]);
        let wanted = logits(folder.path(), &[&tiny(family), "--device", "cpu"]);
        let found = logits(folder.path(), &[&to, "--device", "cpu"]);
        assert_close(family, &found, &wanted, 1e-5);
        let text = |model: &str| {
            ok(&[
                "tokenize",
                model,
                "Hello there, 12 cafés\n\n it's",
                "--json",
            ])
        };
        assert_eq!(text(&to), text(&tiny(family)), "{family}");
        let chat = |model: &str| ok(&["tokenize", model, "Hi", "--chat", "--json"]);
        assert_eq!(chat(&to), chat(&tiny(family)), "{family}");
        let answer = |model: &str| {
            json(&[
                "run",
                model,
                "Hi",
                "--device",
                "cpu",
                "--max-tokens",
                "8",
                "--json",
            ])["ids"]
                .clone()
        };
        assert_eq!(answer(&to), answer(&tiny(family)), "{family}");
        let back = path(folder.path(), family);
        ok(&["convert", &to, "--out", &back]);
        let found = logits(folder.path(), &[&back, "--device", "cpu"]);
        assert_close(&back, &found, &wanted, 1e-5);
        assert_eq!(text(&back), text(&tiny(family)), "{family}");
    }
}

/// A folder's tokenizer and special tokens, after it became a GGUF file and a folder again.
#[test]
fn tokenizers_are_what_they_were_after_both_conversions() {
    let tmp = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/models");
    // As transformers has them.
    for (name, ids, names) in [
        (
            "spm",
            &[1, 349, 381][..],
            &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("pad_token", "<unk>"),
            ][..],
        ),
        (
            "base-eos",
            &[307, 223, 72, 81, 90],
            &[("eos_token", "<|endoftext|>")],
        ),
    ] {
        let folder = models.join(name).display().to_string();
        let (gguf, again) = (
            path(tmp.path(), &format!("{name}.gguf")),
            path(tmp.path(), name),
        );
        ok(&["convert", &folder, "--out", &gguf]);
        ok(&["convert", &gguf, "--out", &again, "--type", "f32"]);
        for model in [&folder, &gguf, &again] {
            let found = json(&["tokenize", model, "The fox", "--json"]);
            assert_eq!(found["ids"], serde_json::json!(ids), "{model}");
        }
        let text =
            std::fs::read_to_string(Path::new(&again).join("tokenizer_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (key, token) in names {
            assert_eq!(config[key], *token, "{name} {key}");
        }
        let chat = |model: &str| json(&["tokenize", model, "Hi", "--chat", "--json"]);
        assert_eq!(chat(&folder)["rendered"], chat(&again)["rendered"]);
    }
}
