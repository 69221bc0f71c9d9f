//! Models and outputs that are refused, each for the reason that is its own: made here out of the tiny ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use siskin_engine::Adapter;
use siskin_formats::{Array, GgufTensor, TensorType, Value as Metadata, write_gguf};
use siskin_tests::command::{self, fails, json as run_json, ok, path, tiny};
use siskin_tests::fixture;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The tiny llama as a folder in `at`, with its configuration and tensors changed.
fn folder(at: &Path, config: &[(&str, Value)], change: impl FnOnce(&mut Tensors)) -> String {
    let from = fixture("tiny/llama");
    let out = at.join("model");
    std::fs::create_dir_all(&out).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), out.join(name)).unwrap();
    }
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut whole: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in config {
        whole[*key] = value.clone();
    }
    std::fs::write(out.join("config.json"), whole.to_string()).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(out.join("model.safetensors"), bytes).unwrap();
    out.display().to_string()
}

fn logits<'a>(model: &'a str, device: &'a str, out: &'a str) -> Vec<&'a str> {
    let tokens = "5,6,7,8,9";
    [
        "logits", model, "--tokens", tokens, "--device", device, "--out", out,
    ]
    .to_vec()
}

#[test]
fn numbers_that_are_none_end_with_the_layer_s_name() {
    let tmp = tempfile::tempdir().unwrap();
    let model = folder(tmp.path(), &[], |t| {
        let down = t.get_mut("model.layers.1.mlp.down_proj.weight").unwrap();
        // A NaN of bf16.
        down.2[40..42].copy_from_slice(&[0xc0, 0x7f]);
    });
    let out = path(tmp.path(), "x.safetensors");
    for device in ["cpu", "gpu:0"] {
        for args in [
            logits(&model, device, &out),
            ["run", &model, "hello", "--raw", "--device", device].to_vec(),
            [
                "run",
                &model,
                "hello",
                "--raw",
                "--temperature",
                "1",
                "--device",
                device,
            ]
            .to_vec(),
        ] {
            let error = fails(&args);
            assert!(
                error.contains("`model.layers.1.hidden`"),
                "{args:?}: {error}"
            );
        }
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn tensors_that_nothing_takes_are_named() {
    let tmp = tempfile::tempdir().unwrap();
    let zeros = |n: usize| (Dtype::F32, vec![n], vec![0; 4 * n]);
    let model = folder(tmp.path(), &[], |t| {
        t.insert("model.layers.0.mlp.gate.weight".into(), zeros(4));
    });
    let error = fails(&["inspect", &model]);
    assert!(
        error.contains("`model.layers.0.mlp.gate.weight`"),
        "{error}"
    );
    // A bias that the configuration does not switch on.
    let model = folder(tmp.path(), &[], |t| {
        t.insert("model.layers.0.self_attn.q_proj.bias".into(), zeros(64));
    });
    let error = fails(&["inspect", &model]);
    assert!(error.contains("q_proj.bias"), "{error}");
    // Tables, masks and positions are no weights.
    let model = folder(tmp.path(), &[], |t| {
        t.insert(
            "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
            zeros(8),
        );
        let positions = (Dtype::I64, vec![4], vec![0; 32]);
        t.insert("model.embed_tokens.positions".into(), positions);
        let mask = (Dtype::BOOL, vec![4], vec![0; 4]);
        t.insert("model.layers.0.self_attn.mask".into(), mask);
    });
    assert!(ok(&["inspect", &model]).contains("llama"));
    // A type that is not read is named where the tensor is needed.
    let model = folder(tmp.path(), &[], |t| {
        let down = t.get_mut("model.layers.1.mlp.down_proj.weight").unwrap();
        down.0 = Dtype::F8_E4M3;
        down.2.truncate(down.1.iter().product());
    });
    let error = fails(&["inspect", &model]);
    assert!(
        error.contains("F8_E4M3") && error.contains("not supported"),
        "{error}"
    );
    assert!(!error.contains("download"), "{error}");
}

/// A GGUF file with the tiny llama's metadata, changed, and tensors.
fn gguf(at: &Path, metadata: &[(&str, Metadata)], tensors: &[GgufTensor]) -> String {
    let out = at.join("model.gguf");
    let metadata: Vec<_> = metadata
        .iter()
        .map(|(k, v)| (k.to_string(), v.clone()))
        .collect();
    let mut bytes = vec![];
    write_gguf::<std::io::Error>(&mut bytes, &metadata, tensors, |i| {
        let n: usize = tensors[i].shape.iter().product();
        Ok(vec![0; 4 * n])
    })
    .unwrap();
    std::fs::write(&out, bytes).unwrap();
    out.display().to_string()
}

#[test]
fn metadata_is_read_skipped_or_too_much() {
    let tmp = tempfile::tempdir().unwrap();
    let text = |s: &str| Metadata::String(s.into());
    let nested = Array::Nested(vec![
        Array::Int(vec![1, 2]),
        Array::String(vec!["a".into()]),
    ]);
    let tensor = GgufTensor {
        name: "token_embd.weight".into(),
        shape: vec![4, 32],
        ty: TensorType::F32,
    };
    let arch = ("general.architecture", text("rwkv7"));
    let file = gguf(
        tmp.path(),
        &[arch.clone(), ("general.nested", Metadata::Array(nested))],
        std::slice::from_ref(&tensor),
    );
    // Past the nested array, to what is really not supported.
    let error = fails(&["inspect", &file]);
    assert!(error.contains("`rwkv7` is not supported"), "{error}");
    let file = gguf(
        tmp.path(),
        &[arch.clone(), arch],
        std::slice::from_ref(&tensor),
    );
    assert!(fails(&["inspect", &file]).contains("twice"));
    // A string of which the file has no more than the length: nothing is allocated for it.
    let mut long = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    long.extend((1u64 << 31).to_le_bytes());
    let sparse = tmp.path().join("long.gguf");
    std::fs::write(&sparse, &long).unwrap();
    let file = std::fs::File::options().write(true).open(&sparse).unwrap();
    file.set_len(3 << 30).unwrap();
    let error = fails(&["inspect", &sparse.display().to_string()]);
    assert!(error.contains("exceeds the limit"), "{error}");
}

#[test]
fn tensors_that_overlap_are_damage() {
    let tmp = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture("tiny/llama/model.gguf")).unwrap();
    let name = b"blk.0.attn_q.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    // Name, number of dimensions, two dimensions, type; then the offset.
    let offset = at + name.len() + 4 + 16 + 4;
    for (by, part) in [(-32i64, "overlap"), (4, "multiple of the alignment")] {
        let mut bytes = bytes.clone();
        let found = u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
        let moved = found.checked_add_signed(by).unwrap();
        bytes[offset..offset + 8].copy_from_slice(&moved.to_le_bytes());
        let file = tmp.path().join("moved.gguf");
        std::fs::write(&file, bytes).unwrap();
        let error = fails(&["inspect", &file.display().to_string()]);
        assert!(error.contains(part), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn side_files_are_regular_and_stay_in_the_folder() {
    let tmp = tempfile::tempdir().unwrap();
    let model = PathBuf::from(folder(tmp.path(), &[], |_| ()));
    let config = model.join("config.json");
    let outside = tmp.path().join("config.json");
    std::fs::rename(&config, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &config).unwrap();
    let model = model.display().to_string();
    assert!(fails(&["inspect", &model]).contains("points outside the folder"));
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &config).unwrap();
    assert!(fails(&["inspect", &model]).contains("config.json"));
    assert!(fails(&["inspect", "/dev/zero"]).contains("not a regular file"));
    // As huggingface_hub keeps a snapshot: links into the blobs beside it.
    let hub = tmp.path().join("hub");
    let (snapshot, blobs) = (hub.join("snapshots/1"), hub.join("blobs"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::fs::rename(&outside, &config).unwrap();
    for (i, entry) in std::fs::read_dir(&model).unwrap().enumerate() {
        let entry = entry.unwrap();
        let blob = blobs.join(i.to_string());
        std::fs::copy(entry.path(), &blob).unwrap();
        let link = Path::new("../../blobs").join(i.to_string());
        std::os::unix::fs::symlink(link, snapshot.join(entry.file_name())).unwrap();
    }
    assert!(ok(&["inspect", &snapshot.display().to_string()]).contains("llama"));
}

#[cfg(unix)]
#[test]
fn nothing_is_overwritten_unasked() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let model = path(tmp.path(), "model.gguf");
    std::fs::copy(fixture("tiny/llama/model.gguf"), &model).unwrap();
    let before = std::fs::read(&model).unwrap();
    let link = tmp.path().join("link");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    let link = link.display().to_string();
    for args in [
        logits(&model, "cpu", &model),
        logits(&model, "cpu", &link),
        vec!["quantize", &model, "--type", "q8_0", "--out", &model],
        vec!["convert", &model, "--out", &link],
    ] {
        let error = fails(&args);
        assert!(error.contains("--out"), "{args:?}: {error}");
    }
    // A link and a device are never replaced.
    for out in [link.as_str(), "/dev/null"] {
        let args = [&logits(&model, "cpu", out)[..], &["--force"]].concat();
        assert!(fails(&args).contains("not a regular file"));
    }
    assert_eq!(std::fs::read(&model).unwrap(), before);
    let out = path(tmp.path(), "x.safetensors");
    ok(&logits(&model, "cpu", &out));
    let plain = path(tmp.path(), "plain");
    std::fs::write(&plain, "").unwrap();
    let mode = |p: &str| std::fs::metadata(p).unwrap().permissions().mode();
    assert_eq!(mode(&out), mode(&plain), "as the umask has it");
    ok(&[&logits(&model, "cpu", &out)[..], &["--force"]].concat());
    let parts = std::fs::read_dir(tmp.path()).unwrap();
    let left = parts.filter(|e| {
        e.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|e| e == "part")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn each_answer_has_another_seed_unless_one_is_given() {
    let model = tiny("llama");
    let run = |more: &[&str]| {
        let args = [
            "run",
            &model,
            "x",
            "--raw",
            "--temperature",
            "1.5",
            "--max-tokens",
            "12",
        ];
        run_json(&[&args[..], &["--device", "cpu", "--json"], more].concat())
    };
    let (a, b) = (run(&[]), run(&[]));
    assert_ne!(a["seed"], b["seed"]);
    assert_ne!(a["ids"], b["ids"]);
    let again = run(&["--seed", &a["seed"].to_string()]);
    assert_eq!((&again["ids"], &again["seed"]), (&a["ids"], &a["seed"]));
}

#[test]
fn names_do_not_reach_the_terminal_as_commands() {
    let tmp = tempfile::tempdir().unwrap();
    let model = folder(tmp.path(), &[("model_type", json!("a\u{1b}[2Jb"))], |_| ());
    let error = fails(&["inspect", &model]);
    assert!(
        !error.contains('\u{1b}') && error.contains("\\u{1b}"),
        "{error}"
    );
}

/// What is written of a model for images is the language model alone, by names and a configuration of its own.
#[test]
fn a_language_model_within_one_for_images() {
    let tmp = tempfile::tempdir().unwrap();
    let from = fixture("tiny/gemma3");
    let model = tmp.path().join("model");
    std::fs::create_dir_all(&model).unwrap();
    for entry in std::fs::read_dir(&from).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
        }
    }
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut text: Value = serde_json::from_str(&text).unwrap();
    // Only the outer configuration says whether the head is tied.
    text["tie_word_embeddings"] = json!(false);
    let whole = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": {"hidden_size": 32},
        "image_token_index": 262_144,
        "mm_tokens_per_image": 4,
    });
    std::fs::write(model.join("config.json"), whole.to_string()).unwrap();
    let (model, out) = (model.display().to_string(), path(tmp.path(), "text"));
    ok(&["convert", &model, "--out", &out]);
    let written = std::fs::read_to_string(Path::new(&out).join("config.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["model_type"], "gemma3_text");
    assert_eq!(written["architectures"], json!(["Gemma3ForCausalLM"]));
    assert!(written["vision_config"].is_null() && written["text_config"].is_null());
    let plain = from.display().to_string();
    let wanted = command::logits(tmp.path(), &[&plain, "--device", "cpu"]);
    for model in [&model, &out] {
        assert_eq!(
            command::logits(tmp.path(), &[model, "--device", "cpu"]),
            wanted
        );
    }
}

/// PEFT's names for the modules of such a model, in and out.
#[test]
fn adapters_of_a_language_model_within_one_for_images() {
    let folder = fixture("../conformance/adapters/default-keys");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let config = read("adapter_config.json");
    let plain = read("adapter_model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&plain).unwrap();
    let longer = |name: String| name.replace(".model.layers.", ".model.language_model.layers.");
    let views = file
        .tensors()
        .into_iter()
        .map(|(name, t)| (longer(name), t));
    let within = safetensors::serialize(views, None).unwrap();
    let [plain, within] = [plain, within].map(|w| Adapter::from_peft("a", &config, &w).unwrap());
    assert_eq!(plain.modules, within.modules);
    let [_, (_, written)] = within.to_peft().unwrap();
    let file = safetensors::SafeTensors::deserialize(&written).unwrap();
    let is_longer = |name: &str| name.starts_with("base_model.model.model.language_model.layers.");
    assert!(file.names().into_iter().all(is_longer));
}

/// An adapter of a head that is one with its embedding cannot be merged into it.
#[test]
fn nothing_of_an_adapter_is_lost_in_a_merge() {
    let tmp = tempfile::tempdir().unwrap();
    let conformance = fixture("../conformance");
    let (model, adapter) = (
        conformance.join("models/chatml").display().to_string(),
        conformance
            .join("adapters/tied-lm_head")
            .display()
            .to_string(),
    );
    for out in ["merged", "merged.gguf"] {
        let error = fails(&["merge", &model, &adapter, "--out", &path(tmp.path(), out)]);
        assert!(error.contains("`lm_head`"), "{error}");
    }
}
