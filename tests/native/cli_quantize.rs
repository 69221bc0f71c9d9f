//! `siskin quantize` and `siskin imatrix`: mixtures, files of every family, and importances.

use std::path::Path;

use siskin_formats::{Checkpoint, GgufTensor, TensorType, Value, write_gguf};
use siskin_tests::command::{fails, logits, ok, path, tiny};
use siskin_tests::{assert_close, fixture};

const MIXTURES: [(&str, u64); 16] = [
    ("q8_0", 7),
    ("q6_k", 18),
    ("q5_k_m", 17),
    ("q5_k_s", 16),
    ("q5_1", 9),
    ("q5_0", 8),
    ("q4_k_m", 15),
    ("q4_k_s", 14),
    ("q4_1", 3),
    ("q4_0", 2),
    ("iq4_nl", 25),
    ("iq4_xs", 30),
    ("q3_k_l", 13),
    ("q3_k_m", 12),
    ("q3_k_s", 11),
    ("q2_k", 10),
];

/// What is 64 wide falls back to blocks of 32, so that all of these are near; the file says its type.
#[test]
fn every_type_is_written_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = format!("{}/model.gguf", tiny("llama"));
    let wanted = logits(folder.path(), &[&gguf, "--device", "cpu"]);
    let vocab = wanted.len() / 5;
    for (ty, number) in MIXTURES {
        let out = path(folder.path(), &format!("{ty}.gguf"));
        ok(&["quantize", &gguf, "--type", ty, "--out", &out]);
        let found = logits(folder.path(), &[&out, "--device", "cpu"]);
        assert_eq!(found.len(), 5 * vocab);
        assert_close(ty, &found, &wanted, if number == 7 { 5e-2 } else { 0.5 });
        let checkpoint = Checkpoint::open(Path::new(&out)).unwrap();
        let header = checkpoint.gguf.as_ref().unwrap();
        assert_eq!(header.uint("general.file_type"), Some(number), "{ty}");
    }
    // As llama.cpp: nothing of 64 columns is a K block.
    let made = Checkpoint::open(Path::new(&path(folder.path(), "q4_k_m.gguf"))).unwrap();
    let ty = |name: &str| made.get(name).unwrap().ty;
    assert_eq!(ty("blk.0.attn_q.weight"), TensorType::Q5_0);
    assert_eq!(ty("blk.0.attn_norm.weight"), TensorType::F32);
}

/// A folder is written as its GGUF file is.
#[test]
fn folders_become_the_same_mixture() {
    let tmp = tempfile::tempdir().unwrap();
    let [gguf, whole, made] = ["a.gguf", "whole.gguf", "b.gguf"].map(|n| path(tmp.path(), n));
    ok(&["convert", &tiny("qwen3"), "--type", "f32", "--out", &whole]);
    ok(&["quantize", &whole, "--type", "q5_k_m", "--out", &gguf]);
    ok(&[
        "quantize",
        &tiny("qwen3"),
        "--type",
        "q5_k_m",
        "--out",
        &made,
    ]);
    let [a, b] = [&gguf, &made].map(|p| Checkpoint::open(Path::new(p)).unwrap());
    assert_eq!(a.tensors.len(), b.tensors.len());
    for t in &a.tensors {
        let other = b.get(&t.name).unwrap();
        assert_eq!((t.ty, &t.shape), (other.ty, &other.shape), "{}", t.name);
        assert_eq!(a.read(t).unwrap(), b.read(other).unwrap(), "{}", t.name);
    }
}

/// Tensors are known by name alone: also of families that are not converted.
#[test]
fn files_of_every_family_are_quantised() {
    let tmp = tempfile::tempdir().unwrap();
    let mut n = 0;
    for family in std::fs::read_dir(fixture("families")).unwrap() {
        let gguf = family.unwrap().path().join("model.gguf");
        if !gguf.exists() {
            continue;
        }
        let gguf = gguf.display().to_string();
        let out = path(tmp.path(), "out.gguf");
        let wanted = logits(tmp.path(), &[&gguf, "--device", "cpu"]);
        // Random recurrent layers make much of what is rounded.
        for (ty, bound) in [("f32", 1e-5), ("q8_0", 0.25)] {
            ok(&["quantize", &gguf, "--type", ty, "--out", &out, "--force"]);
            let found = logits(tmp.path(), &[&out, "--device", "cpu"]);
            assert_close(&gguf, &found, &wanted, bound);
        }
        n += 1;
    }
    assert!(n >= 30, "{n}");
}

fn text(folder: &Path) -> String {
    let file = path(folder, "text.txt");
    std::fs::write(
        &file,
        "The quick brown fox jumps over the lazy dog. ".repeat(20),
    )
    .unwrap();
    file
}

/// Its columns weigh in the file that is made with it, and the file is llama.cpp's.
#[test]
fn an_importance_is_measured_and_used() {
    let tmp = tempfile::tempdir().unwrap();
    let gguf = format!("{}/model.gguf", tiny("llama"));
    let [importance, plain, weighted] =
        ["i.gguf", "plain.gguf", "weighted.gguf"].map(|n| path(tmp.path(), n));
    let data = text(tmp.path());
    let make = [
        "imatrix",
        &gguf,
        "--data",
        &data,
        "--out",
        &importance,
        "--device",
        "cpu",
    ];
    ok(&[&make[..], &["--chunk", "64"]].concat());
    let found = Checkpoint::open(Path::new(&importance)).unwrap();
    let header = found.gguf.as_ref().unwrap();
    assert_eq!(header.str("general.type"), Some("imatrix"));
    assert_eq!(header.uint("imatrix.chunk_size"), Some(64));
    let chunks = header.uint("imatrix.chunk_count").unwrap();
    assert!(chunks > 1, "{chunks}");
    let counts = found.get("blk.1.ffn_down.weight.counts").unwrap();
    assert_eq!(found.read_f32(counts).unwrap(), [64.0 * chunks as f32]);
    ok(&["quantize", &gguf, "--type", "q4_0", "--out", &plain]);
    ok(&[
        "quantize",
        &gguf,
        "--type",
        "q4_0",
        "--out",
        &weighted,
        "--imatrix",
        &importance,
    ]);
    let sums = found.get("blk.1.attn_q.weight.in_sum2").unwrap();
    let weights = found.read_f32(sums).unwrap();
    let [own, plain, weighted] = [&gguf, &plain, &weighted].map(|p| {
        let file = Checkpoint::open(Path::new(p)).unwrap();
        file.read_f32(file.get("blk.1.attn_q.weight").unwrap())
            .unwrap()
    });
    let error = |found: &[f32]| -> f32 {
        let each = own.iter().zip(found).enumerate();
        let each = each.map(|(i, (a, b))| weights[i % weights.len()] * (a - b) * (a - b));
        each.sum()
    };
    assert!(
        error(&weighted) < error(&plain),
        "{} {}",
        error(&weighted),
        error(&plain)
    );
}

#[test]
fn importances_that_do_not_fit_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let gguf = format!("{}/model.gguf", tiny("llama"));
    let file = path(tmp.path(), "i.gguf");
    let write = |key: &str, tensors: &[(&str, usize)]| {
        let metadata = [
            ("general.type".to_string(), Value::String("imatrix".into())),
            (key.to_string(), Value::Uint(1)),
        ];
        let given: Vec<_> = tensors
            .iter()
            .map(|(name, cols)| GgufTensor {
                name: (*name).into(),
                shape: vec![1, *cols],
                ty: TensorType::F32,
            })
            .collect();
        let mut out = vec![];
        write_gguf::<std::io::Error>(&mut out, &metadata, &given, |i| {
            Ok(vec![0; 4 * given[i].shape[1]])
        })
        .unwrap();
        std::fs::write(&file, out).unwrap();
    };
    let refused = |more: &[&str]| {
        let out = path(tmp.path(), "x.gguf");
        let common = ["quantize", &gguf, "--out", &out, "--imatrix", &file];
        let error = fails(&[&common[..], more].concat());
        assert!(!Path::new(&out).exists());
        assert_eq!(error.trim().lines().count(), 1, "{error}");
        error
    };
    let [sums, counts] = ["in_sum2", "counts"].map(|n| format!("blk.0.attn_q.weight.{n}"));
    const CHUNKS: &str = "imatrix.chunk_count";
    let typed = ["--type", "q4_k_m"];
    write("imatrix.colour", &[(&sums, 64), (&counts, 1)]);
    assert!(refused(&typed).contains("imatrix.colour"));
    write(CHUNKS, &[(&sums, 64)]);
    assert!(refused(&typed).contains("counts"));
    write(CHUNKS, &[(&sums, 64), (&counts, 1), ("other", 1)]);
    assert!(refused(&typed).contains("`other`"));
    write(CHUNKS, &[(&sums, 32), (&counts, 1)]);
    assert!(refused(&typed).contains("attn_q"));
    write(CHUNKS, &[("a.in_sum2", 64), ("a.counts", 1)]);
    assert!(refused(&typed).contains("no tensor of this model"));
    write(CHUNKS, &[(&sums, 64), (&counts, 1)]);
    assert!(refused(&["--type", "f16"]).contains("--imatrix"));
    let model = fails(&[
        "quantize",
        &file,
        "--type",
        "q8_0",
        "--out",
        &path(tmp.path(), "y.gguf"),
    ]);
    assert!(model.contains("imatrix"), "{model}");
    std::fs::copy(&gguf, &file).unwrap();
    assert!(refused(&typed).contains("general.type"));
}
