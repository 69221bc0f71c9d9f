//! Readers and codecs: bit-exact with the reference, and never a panic on damaged files.

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use siskin_engine::read_text;
use siskin_formats::{
    Checkpoint, Error, Gguf, Nf4Parts, SideFiles, TensorType, decode, encode, encode_rows,
    nf4_codes,
};
use siskin_models::Model;
use siskin_tests::{Tensors, assert_close, fixture};

#[test]
fn every_type_decodes_to_the_reference_s_bits() {
    let blocks = Tensors::open("blocks.safetensors");
    for ty in TensorType::ALL.into_iter().filter(|t| t.ggml().is_some()) {
        let name = ty.name();
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

/// The error that ggml's own encoders leave is the bound: the root of the squares, with an importance of the weighted ones.
#[test]
fn searched_encoders_come_as_near_as_the_reference_s() {
    let t = Tensors::open("encoded.safetensors");
    let (x, importance) = (t.f32("values"), t.f32("importance"));
    let cols = importance.len();
    for ty in [
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q2_K,
        TensorType::Q3_K,
        TensorType::Q4_K,
        TensorType::Q5_K,
        TensorType::Q6_K,
        TensorType::IQ4_NL,
        TensorType::IQ4_XS,
    ] {
        for (kind, weights) in [("plain", None), ("weighted", Some(&importance[..]))] {
            let theirs = t.bytes(&format!("{}.{kind}", ty.name()));
            let mine = encode_rows(ty, &x, cols, weights).unwrap();
            assert_eq!(mine.len(), theirs.len(), "{ty} {kind}");
            let error = |bytes: &[u8]| {
                let mut found = vec![0.0; x.len()];
                decode(ty, bytes, &mut found);
                let each = x.iter().zip(&found).enumerate().map(|(i, (a, b))| {
                    f64::from((a - b) * (a - b) * weights.map_or(1.0, |w| w[i % cols]))
                });
                each.sum::<f64>().sqrt()
            };
            let (mine, theirs) = (error(&mine), error(&theirs));
            println!(
                "{ty} {kind}: {mine:.6}, ggml {theirs:.6}, ratio {:.4}",
                mine / theirs
            );
            assert!(mine <= 1.01 * theirs, "{ty} {kind}: {mine} {theirs}");
        }
    }
}

/// Rows that are not whole blocks, an importance of other columns, and what no scale holds.
#[test]
fn what_cannot_be_encoded_is_refused() {
    let x = [0.5; 512];
    let rows = |ty, cols, w: Option<&[f32]>| encode_rows(ty, &x, cols, w);
    assert!(rows(TensorType::Q4_K, 256, None).is_ok());
    for cols in [0, 128, 300] {
        let error = rows(TensorType::Q4_K, cols, None);
        assert!(matches!(error, Err(Error::BlockShape { .. })), "{cols}");
    }
    let error = rows(TensorType::Q4_K, 256, Some(&[1.0; 128]));
    assert!(matches!(error, Err(Error::Importance { .. })));
    let error = rows(TensorType::IQ3_S, 256, None);
    assert!(matches!(error, Err(Error::CannotEncode(_))));
    for bad in [f32::NAN, f32::INFINITY] {
        let error = encode_rows(TensorType::Q6_K, &[bad; 256], 256, None);
        assert!(matches!(error, Err(Error::NotFinite(_))), "{bad}");
    }
}

/// The same codes and peaks; of peaks that are quantised again, the same values but for rounding.
#[test]
fn nf4_is_that_of_bitsandbytes() {
    let t = Tensors::open("nf4.safetensors");
    let x = t.f32("values");
    let blocks = encode(TensorType::NF4, &x).unwrap();
    assert_eq!(nf4_codes(&blocks), t.bytes("plain.codes"));
    let peaks: Vec<u8> = blocks
        .chunks_exact(36)
        .flat_map(|b| &b[..4])
        .copied()
        .collect();
    assert_eq!(peaks, t.bytes("plain.absmax"));
    let mut found = vec![0.0; x.len()];
    decode(TensorType::NF4, &blocks, &mut found);
    assert_eq!(found, t.f32("plain.decoded"));
    let parts = Nf4Parts::of(&blocks, &[80, 256]);
    let theirs = t.bytes("nested.absmax");
    let apart: Vec<u8> = parts
        .peaks
        .iter()
        .zip(theirs)
        .map(|(a, b)| a.abs_diff(b))
        .collect();
    let n: usize = apart.iter().filter(|a| **a > 0).count();
    // One that lies between two codes.
    assert!(
        apart.len() == 320 && n <= 1 && apart.iter().all(|a| *a <= 1),
        "{n}"
    );
    assert_close(
        "scales",
        &parts.scales,
        &t.f32("nested.nested_absmax"),
        1e-6,
    );
    let [values, map] = Nf4Parts::maps();
    assert_eq!(values, t.f32("nested.quant_map"));
    assert_close("map", &map, &t.f32("nested.nested_quant_map"), 1e-7);
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let mine = json(parts.state.as_bytes());
    let theirs = json(&t.bytes("nested.quant_state.bitsandbytes__nf4"));
    for (key, value) in theirs.as_object().unwrap() {
        match value.as_f64() {
            Some(v) => assert!((mine[key].as_f64().unwrap() - v).abs() < 1e-5, "{key}"),
            None => assert_eq!(&mine[key], value, "{key}"),
        }
    }
}

/// PyTorch's 8-bit floats times their scales, as F16: the same bits.
#[test]
fn eight_bit_floats_are_read_with_their_scales() {
    let bytes = std::fs::read(fixture("fp8.safetensors")).unwrap();
    let file = Checkpoint::from_safetensors(vec![Box::new(bytes)], SideFiles::default()).unwrap();
    for name in ["blocks", "rows", "whole", "codes"] {
        let info = file.get(&format!("{name}.weight")).unwrap();
        assert_eq!(info.ty, TensorType::F16);
        let wanted = file.get(&format!("{name}.wanted")).unwrap();
        assert_eq!(info.shape, wanted.shape, "{name}");
        assert_eq!(
            file.read(info).unwrap(),
            file.read(wanted).unwrap(),
            "{name}"
        );
        // Some rows, as tensors that are taken apart are read.
        let (piece, first) = info.around(1..2, info.shape[0]);
        let cols = info.shape[1];
        let values = file.read_f32(&piece).unwrap();
        let row = &file.read_f32(wanted).unwrap()[cols..2 * cols];
        assert_eq!(&values[first * cols..][..cols], row, "{name}");
    }
    assert!(file.unread.is_empty() && file.tensors.len() == 8);
}

/// Scales of a shape that is not understood: the tensor has a type that is not read.
#[test]
fn eight_bit_floats_without_their_scales_are_not_read() {
    for shape in [vec![2, 2], vec![3]] {
        let (codes, scales) = ([0x38u8; 32], vec![0u8; 4 * shape.iter().product::<usize>()]);
        let codes = TensorView::new(Dtype::F8_E4M3, vec![4, 8], &codes).unwrap();
        let scales = TensorView::new(Dtype::F32, shape, &scales).unwrap();
        let views = [("w.weight", codes), ("w.weight_scale", scales)];
        let bytes = safetensors::serialize(views, None).unwrap();
        let file = Checkpoint::from_safetensors(vec![Box::new(bytes)], SideFiles::default());
        let error = file.unwrap().get("w.weight").unwrap_err().to_string();
        assert!(error.contains("F8_E4M3"), "{error}");
    }
}

/// A file of bitsandbytes' tensors, the recorded ones under a model's names, with something changed.
fn nf4_file(kind: &str, change: impl Fn(&str, &mut Vec<u8>)) -> Result<Checkpoint, Error> {
    let t = Tensors::open("nf4.safetensors");
    let mut parts = vec![("", Dtype::U8, "codes")];
    parts.push((
        ".quant_state.bitsandbytes__nf4",
        Dtype::U8,
        "quant_state.bitsandbytes__nf4",
    ));
    parts.push((".quant_map", Dtype::F32, "quant_map"));
    if kind == "nested" {
        parts.push((".absmax", Dtype::U8, "absmax"));
        parts.push((".nested_absmax", Dtype::F32, "nested_absmax"));
        parts.push((".nested_quant_map", Dtype::F32, "nested_quant_map"));
    } else {
        parts.push((".absmax", Dtype::F32, "absmax"));
    }
    let mut data = vec![];
    for (suffix, ty, name) in parts {
        let mut bytes = t.bytes(&format!("{kind}.{name}"));
        change(suffix, &mut bytes);
        data.push((format!("w.weight{suffix}"), ty, bytes));
    }
    let views = data.iter().map(|(name, ty, bytes)| {
        let n = bytes.len() / if *ty == Dtype::F32 { 4 } else { 1 };
        (name, TensorView::new(*ty, vec![n], bytes).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    Checkpoint::from_safetensors(vec![Box::new(file)], SideFiles::new("here"))
}

#[test]
fn nf4_tensors_are_read_as_one() {
    let t = Tensors::open("nf4.safetensors");
    for kind in ["plain", "nested"] {
        let file = nf4_file(kind, |_, _| ()).unwrap();
        assert_eq!(file.tensors.len(), 1);
        let info = file.get("w.weight").unwrap();
        assert_eq!(
            (info.shape.as_slice(), info.ty),
            (&[80, 256][..], TensorType::NF4)
        );
        let found = file.read_f32(info).unwrap();
        assert_close(kind, &found, &t.f32(&format!("{kind}.decoded")), 1e-6);
        assert_eq!(file.read(info).unwrap().len() as u64, info.bytes);
    }
    // What does not fit together is an error, whatever it is.
    for (suffix, wanted) in [
        ("", "10240 bytes"),
        (".absmax", "320 bytes"),
        (".nested_absmax", "8 bytes"),
        (".nested_quant_map", "1024 bytes"),
        (".quant_state.bitsandbytes__nf4", "not JSON"),
    ] {
        let cut = |s: &str, bytes: &mut Vec<u8>| {
            if s == suffix {
                bytes.truncate(bytes.len() - 4);
            }
        };
        let error = nf4_file("nested", cut).unwrap_err().to_string();
        assert!(error.contains(wanted), "{suffix}: {error}");
    }
    for (from, to, wanted) in [
        ("nf4", "fp4", "only nf4"),
        ("64", "96", "only nf4"),
        ("[80, 256]", "[80, 250]", "block size is 64"),
        ("[80, 256]", "[81, 256]", "10368 bytes"),
        ("[80, 256]", "\"a\"", "no shape"),
    ] {
        let state = |s: &str, bytes: &mut Vec<u8>| {
            if s.starts_with(".quant_state") {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace(from, to).into_bytes();
            }
        };
        let error = nf4_file("nested", state).unwrap_err().to_string();
        assert!(error.contains(wanted), "{to}: {error}");
    }
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
    assert!(message(one_tensor(1, &[33], 2, 0)).contains("block size is 32"));
    assert!(
        message(one_tensor(1, &[32], 99, 0))
            .contains("type 99 (unknown to ggml), which is not supported; supported: F32")
    );
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
