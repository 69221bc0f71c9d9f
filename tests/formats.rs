//! Readers and codecs: bit-exact with the reference, and never a panic on damaged files.

use proptest::prelude::*;
use siskin_engine::read_text;
use siskin_formats::{Checkpoint, Error, Gguf, TensorType, decode, encode};
use siskin_models::Model;
use siskin_tests::{Tensors, fixture};

#[test]
fn every_type_decodes_to_the_reference_s_bits() {
    let blocks = Tensors::open("blocks.safetensors");
    for (ty, _, name) in TensorType::ALL {
        let wanted = blocks.f32(&format!("{name}.values"));
        let mut found = vec![0.0; wanted.len()];
        decode(ty, &blocks.bytes(&format!("{name}.bytes")), &mut found);
        for (i, (a, b)) in found.iter().zip(&wanted).enumerate() {
            assert_eq!(a.to_bits(), b.to_bits(), "{name} at {i}: {a} {b}");
        }
    }
}

#[test]
fn encoders_write_the_reference_s_bytes() {
    let blocks = Tensors::open("blocks.safetensors");
    let x = blocks.f32("encode.values");
    for ty in [
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q8_0,
        TensorType::F16,
        TensorType::BF16,
    ] {
        let wanted = blocks.bytes(&format!("encode.{}", ty.name()));
        assert_eq!(encode(ty, &x).unwrap(), wanted, "{ty}");
    }
    assert!(matches!(
        encode(TensorType::Q4_K, &x),
        Err(Error::CannotEncode(_))
    ));
}

#[test]
fn header_of_a_small_file() {
    let checkpoint = Checkpoint::open(&fixture("tiny/llama/model.gguf")).unwrap();
    let gguf = checkpoint.gguf.as_ref().unwrap();
    assert_eq!(gguf.header.version, 3);
    assert_eq!(gguf.str("general.architecture"), Some("llama"));
    assert_eq!(gguf.uint("llama.block_count"), Some(2));
    let q = checkpoint.get("blk.1.attn_q.weight").unwrap();
    assert_eq!((q.shape.as_slice(), q.ty), (&[64, 64][..], TensorType::F32));
}

fn small_file() -> Vec<u8> {
    std::fs::read(fixture("tokenizers/smollm.gguf")).unwrap()
}

#[test]
fn a_cut_file_is_an_error_at_every_byte() {
    let bytes = small_file();
    for len in 0..bytes.len() - 40 {
        let cut = bytes[..len].to_vec();
        let error = Gguf::read(&cut)
            .expect_err("a cut file was read")
            .to_string();
        assert!(!error.contains('\n'), "{error}");
    }
}

/// Everything that a stranger's file meets before any weight is read.
fn open_all(bytes: Vec<u8>) {
    if let Ok(checkpoint) = Checkpoint::from_gguf(Box::new(bytes)) {
        let _ = read_text(&checkpoint);
        let _ = Model::open(&checkpoint);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(flips in prop::collection::vec((0usize..20_000, any::<u8>()), 1..8)) {
        let mut bytes = small_file();
        let n = bytes.len();
        for (at, value) in flips {
            bytes[at % n] = value;
        }
        open_all(bytes);
    }

    #[test]
    fn damaged_headers_never_panic(flips in prop::collection::vec((0usize..900, any::<u8>()), 1..4)) {
        let mut bytes = std::fs::read(fixture("tiny/qwen3/model.gguf")).unwrap();
        for (at, value) in flips {
            bytes[at] = value;
        }
        open_all(bytes);
    }

    #[test]
    fn encoding_is_close(x in prop::collection::vec(-100f32..100.0, 32)) {
        for (ty, steps) in [(TensorType::Q8_0, 127.0), (TensorType::Q4_0, 8.0), (TensorType::Q4_1, 15.0)] {
            let mut back = vec![0.0; 32];
            decode(ty, &encode(ty, &x).unwrap(), &mut back);
            let (min, max) = x.iter().fold((0f32, 0f32), |(a, b), v| (a.min(*v), b.max(*v)));
            let step = (max - min) / steps;
            for (a, b) in x.iter().zip(&back) {
                prop_assert!((a - b).abs() <= 1.02 * step + 0.1, "{ty}: {a} {b}");
            }
        }
    }
}

/// A GGUF file of one tensor, whose fields a test can spoil.
fn one_tensor(n_tensors: u64, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(n_tensors.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out.extend(1u64.to_le_bytes());
    out.push(b'w');
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.resize(out.len().next_multiple_of(32) + 128, 0);
    out
}

#[test]
fn lies_about_sizes_are_named() {
    let message = |bytes: Vec<u8>| {
        Gguf::read(&bytes)
            .expect_err("a lie was believed")
            .to_string()
    };
    assert!(Gguf::read(&one_tensor(1, &[32], 0, 0)).is_ok());
    assert!(message(b"not a model".to_vec()).contains("not a GGUF file"));
    assert!(message(one_tensor(u64::MAX, &[32], 0, 0)).contains("number of tensors"));
    assert!(message(one_tensor(1, &[u64::MAX, 2], 0, 0)).contains("`w`"));
    assert!(message(one_tensor(1, &[1 << 40], 0, 0)).contains("beyond the file"));
    assert!(message(one_tensor(1, &[32], 0, 1 << 60)).contains("beyond the file"));
    assert!(message(one_tensor(1, &[33], 2, 0)).contains("blocks of 32"));
    assert!(message(one_tensor(1, &[32], 99, 0)).contains("unknown type 99; known: F32"));
}

#[test]
fn sharded_folders_and_missing_parts() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let open = || {
        Checkpoint::open(folder.path())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(open().contains("model.safetensors"));
    write(
        "model.safetensors.index.json",
        r#"{"weight_map": {"a": "../outside"}}"#,
    );
    assert!(open().contains("names no file of this folder"));
    write(
        "model.safetensors.index.json",
        r#"{"weight_map": {"a": "one.safetensors"}}"#,
    );
    assert!(open().contains("one.safetensors"));
    write("one.safetensors", "12345678901234567890");
    assert!(open().contains("beyond the file"));
    std::fs::copy(
        fixture("ops.safetensors"),
        folder.path().join("one.safetensors"),
    )
    .unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.get("linear.w").unwrap().shape, [48, 64]);
}
