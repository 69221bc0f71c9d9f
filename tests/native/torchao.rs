//! Folders that torchao quantised and transformers saved, against torchao's values and transformers' logits
//! (`generate_torchao.py`), and what is refused of them.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use siskin_engine::DeviceRequest;
use siskin_formats::{Checkpoint, Error, SideFiles, TensorType};
use siskin_tests::command::{fails, ok};
use siskin_tests::{Tensors, assert_close, devices, fixture, is_first_driver, tolerance};
use tempfile::TempDir;

use crate::quantised::logits;

const LAYER: &str = "model.layers.0.";
const K_PROJ: &str = "model.layers.0.self_attn.k_proj";

/// The configuration of each folder, by its name.
fn configs() -> Value {
    let text = std::fs::read_to_string(fixture("torchao/configs.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A folder as transformers saved it, but for what all have, which is in a file of its own; the tokenizer borrowed.
fn folder(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
    write("config.json", &configs()[name].to_string());
    let (own, base) = (
        format!("torchao/{name}.safetensors"),
        "quantised/base.safetensors",
    );
    let files = match name {
        "embeddings" => vec![own.as_str()],
        _ => vec![own.as_str(), base],
    };
    let mut map = serde_json::Map::new();
    for from in files.iter().chain(&[
        "tiny/llama/tokenizer.json",
        "tiny/llama/tokenizer_config.json",
    ]) {
        let file = from.rsplit('/').next().unwrap();
        std::fs::copy(fixture(from), dir.path().join(file)).unwrap();
        if file.ends_with(".safetensors") {
            map.insert(file.into(), json!(file));
        }
    }
    let index = json!({ "weight_map": map });
    write("model.safetensors.index.json", &index.to_string());
    dir
}

#[test]
fn logits_are_those_of_transformers() {
    let expected = Tensors::open("torchao/expected.safetensors");
    let ids = expected.u32("ids");
    for name in configs().as_object().unwrap().keys() {
        let (dir, wanted) = (folder(name), expected.f32(name));
        let found = logits(dir.path(), DeviceRequest::Cpu, &ids);
        assert_close(name, &found, &wanted, 1e-4);
        for (index, profile) in devices().into_iter().filter(|d| is_first_driver(d.0)) {
            let device = DeviceRequest::Gpu {
                index: Some(index),
                profile: Some(profile),
            };
            let found = logits(dir.path(), device, &ids);
            assert_close(name, &found, &wanted, tolerance("model", profile));
        }
    }
}

/// Exact, but where f32 scales are rounded.
#[test]
fn values_are_torchaos() {
    use TensorType::{F16, INT4, INT4_1, INT8};
    let expected = Tensors::open("torchao/expected.safetensors");
    for (name, ty, tolerance) in [
        ("int4", INT4_1, 0.0),
        ("intx_4", INT4, 0.0),
        ("int8", INT8, 1.01 * 2f32.powi(-16)),
        ("float8", F16, 0.0),
        ("mixed", INT8, 0.0),
        ("embeddings", INT4_1, 0.0),
    ] {
        let dir = folder(name);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let info = checkpoint.get(&format!("{K_PROJ}.weight")).unwrap();
        assert_eq!((info.ty, &info.shape[..]), (ty, &[32, 64][..]), "{name}");
        let bytes = checkpoint.read(info).unwrap().len();
        assert_eq!(info.bytes as usize, bytes, "{name}");
        let found = checkpoint.read_f32(info).unwrap();
        let wanted = expected.f32(&format!("{name}.k_proj"));
        for (found, wanted) in found.iter().zip(wanted) {
            let near = (found - wanted).abs() <= tolerance * wanted.abs();
            assert!(near, "{name}: {found} is not {wanted}");
        }
        assert!(checkpoint.unread.is_empty(), "{:?}", checkpoint.unread);
        // Parts of rows are read with the whole.
        assert_eq!(info.around(3..5, 32), (info.clone(), 3));
    }
}

/// One folder has every class, and a matrix that is left as it is.
#[test]
fn each_tensor_has_its_own_type() {
    let dir = folder("mixed");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    for (module, ty) in [
        ("self_attn.q_proj", TensorType::INT4),
        ("self_attn.k_proj", TensorType::INT8),
        ("self_attn.v_proj", TensorType::INT8),
        ("self_attn.o_proj", TensorType::INT8),
        ("mlp.gate_proj", TensorType::F16),
        ("mlp.up_proj", TensorType::INT4_1),
        ("mlp.down_proj", TensorType::BF16),
    ] {
        let info = checkpoint.get(&format!("{LAYER}{module}.weight")).unwrap();
        assert_eq!(info.ty, ty, "{module}");
    }
    let path = dir.path().display().to_string();
    let text = ok(&["inspect", &path]);
    for ty in ["INT4", "INT8", "INT4_1", "8-bit floats (FP8)"] {
        assert!(text.contains(ty), "{ty}: {text}");
    }
    // A GGUF file holds what it can.
    let gguf = dir.path().join("x.gguf").display().to_string();
    ok(&["convert", &path, "--out", &gguf]);
    let expected = Tensors::open("torchao/expected.safetensors");
    let found = logits(gguf.as_ref(), DeviceRequest::Cpu, &expected.u32("ids"));
    assert_close("GGUF", &found, &expected.f32("mixed"), 1e-3);
}

/// A tensor's name, type, shape and bytes.
type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

/// The tensors of one module, with what is changed in them and in what the metadata says of it.
fn changed(
    name: &str,
    state: impl Fn(&mut Value),
    tensors: impl Fn(&mut Vec<Entry>),
) -> Result<Checkpoint, Error> {
    let file = std::fs::read(fixture(&format!("torchao/{name}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let weight = format!("{K_PROJ}.weight");
    let mut of: Value =
        serde_json::from_str(&header.metadata().as_ref().unwrap()[&weight]).unwrap();
    state(&mut of);
    let metadata = HashMap::from([
        ("tensor_names".to_string(), json!([weight]).to_string()),
        (weight, of.to_string()),
    ]);
    let file = SafeTensors::deserialize(&file).unwrap();
    let mut all: Vec<Entry> = file
        .iter()
        .filter(|(name, _)| name.starts_with(K_PROJ))
        .map(|(name, t)| (name.into(), t.dtype(), t.shape().into(), t.data().into()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    tensors(&mut all);
    let mut side = SideFiles::new("here");
    side.add("config.json", configs()[name].to_string());
    // Two files, so that parts of a matrix are in different ones; both have all metadata.
    let files = [&all[..1], &all[1..]].map(|part| {
        let views = part.iter().map(|(name, ty, shape, bytes)| {
            (name, TensorView::new(*ty, shape.clone(), bytes).unwrap())
        });
        Box::new(serialize(views, Some(metadata.clone())).unwrap())
            as Box<dyn siskin_formats::ByteSource>
    });
    Checkpoint::from_safetensors(files.into(), side)
}

#[test]
fn parts_may_be_in_different_files() {
    let expected = Tensors::open("torchao/expected.safetensors");
    for name in ["int4", "intx_4", "int8", "float8"] {
        let checkpoint = changed(name, |_| (), |_| ()).unwrap();
        let info = checkpoint.get(&format!("{K_PROJ}.weight")).unwrap();
        let found = checkpoint.read_f32(info).unwrap();
        let wanted = expected.f32(&format!("{name}.k_proj"));
        assert_close(name, &found[..wanted.len()], &wanted, 2e-5);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let kwargs = json!({"_type": "QuantizeTensorToInt8Kwargs", "_data": {}});
    let float8 = json!({"_type": "torch.dtype", "_data": "float8_e4m3fn"});
    for (name, pointer, value, wanted) in [
        (
            "int4",
            "/_type",
            json!("Int4TilePackedTo4dTensor"),
            "weight._type` is Int4TilePackedTo4dTensor, which is not supported; supported: for weights of modules \
             Int4Tensor (Int4WeightOnlyConfig with int4_packing_format=plain), ",
        ),
        (
            "int8",
            "/_data/act_quant_kwargs",
            kwargs.clone(),
            "supported: weights alone are quantised, as by Int8WeightOnlyConfig",
        ),
        (
            "float8",
            "/_data/act_quant_kwargs",
            kwargs,
            "Float8WeightOnlyConfig",
        ),
        (
            "intx_4",
            "/_data/activation_quantization",
            json!("int8_asym_per_token"),
            "activation_quantization` is int8_asym_per_token, which is not supported",
        ),
        (
            "int4",
            "/_data/activation_dtype",
            float8,
            "Int4WeightOnlyConfig",
        ),
        (
            "int4",
            "/_tensor_data_names",
            json!(["act_pre_scale", "qdata", "scale", "zero_point"]),
            "_tensor_data_names` is [\"act_pre_scale\"",
        ),
        ("int4", "/_data", json!(1), "weight._data` is 1"),
        (
            "int8",
            "/_data/rotation",
            json!("hadamard"),
            "rotation` is hadamard",
        ),
        (
            "int8",
            "/_data/block_size",
            json!([2, 64]),
            "block_size` is [2,64]",
        ),
        (
            "int8",
            "/_data/block_size",
            json!([1, 0]),
            "block_size` is [1,0]",
        ),
        (
            "int8",
            "/_data/block_size",
            json!([1, 48]),
            "block_size` is [1,48]",
        ),
        (
            "float8",
            "/_data/block_size",
            json!([32, 64]),
            "block_size` is [32,64]",
        ),
        (
            "int4",
            "/_data/block_size",
            json!([32, 32]),
            "block_size` is [32,32]",
        ),
        ("int4", "/_data/shape", json!([32, 63]), "shape` is [32,63]"),
        (
            "intx_4",
            "/_data/target_dtype",
            json!({"_type": "torch.dtype", "_data": "uint4"}),
            "target_dtype` is",
        ),
    ] {
        let set = |state: &mut Value| {
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            state.pointer_mut(parent).unwrap()[last] = value.clone();
        };
        let error = changed(name, set, |_| ()).unwrap_err();
        assert!(matches!(error, Error::Quantisation { .. }), "{error}");
        let error = error.to_string();
        let start = format!("here: `{K_PROJ}.weight.");
        assert!(
            error.contains(wanted) && error.starts_with(&start),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    // Blocks of 16 columns are of no type.
    for (name, shape) in [("int4", vec![4, 32]), ("intx_4", vec![32, 4])] {
        let halves = |all: &mut Vec<Entry>| {
            for (_, _, of, bytes) in &mut all[1..] {
                *bytes = [&bytes[..], bytes].concat();
                *of = shape.clone();
            }
        };
        let set = |state: &mut Value| state["_data"]["block_size"] = json!([1, 16]);
        let error = changed(name, set, halves).unwrap_err().to_string();
        assert!(error.contains("block size is 32"), "{error}");
    }
}

#[test]
fn tensors_that_do_not_fit_together_are_refused() {
    for (name, missing) in [
        ("int4", "qdata"),
        ("int4", "zero_point"),
        ("intx_4", "scale"),
        ("int8", "zero_point"),
        ("float8", "scale"),
    ] {
        let full = format!("{K_PROJ}._weight_{missing}");
        let error = changed(name, |_| (), |all| all.retain(|t| t.0 != full)).unwrap_err();
        assert_eq!(error.to_string(), format!("here has no tensor `{full}`"));
    }
    for (name, which, ty, shape) in [
        ("int4", "qdata", Dtype::U8, vec![32, 32]),
        ("int4", "scale", Dtype::BF16, vec![32, 2]),
        ("int4", "zero_point", Dtype::I16, vec![2, 32]),
        ("intx_4", "zero_point", Dtype::U8, vec![32, 2]),
        ("int8", "qdata", Dtype::I8, vec![32, 8, 8]),
        ("float8", "qdata", Dtype::F8_E5M2, vec![32, 64]),
        ("float8", "scale", Dtype::F32, vec![8, 4]),
    ] {
        let full = format!("{K_PROJ}._weight_{which}");
        let reshape = |all: &mut Vec<Entry>| {
            let part = all.iter_mut().find(|t| t.0 == full).unwrap();
            (part.1, part.2) = (ty, shape.clone());
        };
        let error = changed(name, |_| (), reshape).unwrap_err().to_string();
        let start = format!("here is damaged: `{full}` is ");
        assert!(
            error.starts_with(&start) && error.contains("is needed"),
            "{error}"
        );
    }
}

/// What only the data shows.
#[test]
fn data_that_does_not_fit_is_refused() {
    for (name, which, bytes, wanted) in [
        (
            "intx_4",
            "qdata",
            [8u8, 0],
            "a code of row 0 is out of the range of 4 bits",
        ),
        ("intx_4", "qdata", [0xf7, 0], "a code of row 0"),
        (
            "intx_4",
            "zero_point",
            [0xf7, 0],
            "the zero point of row 0, group 0",
        ),
        (
            "int4",
            "scale",
            [0x80, 0x7f],
            "the scale of row 0, group 0 is inf",
        ),
        ("int4", "zero_point", [0x80, 0x48], "its offset 262144"),
    ] {
        let full = format!("{K_PROJ}._weight_{which}");
        let change = |all: &mut Vec<Entry>| {
            let part = all.iter_mut().find(|t| t.0 == full).unwrap();
            part.3[..2].copy_from_slice(&bytes);
        };
        let checkpoint = changed(name, |_| (), change).unwrap();
        let info = checkpoint.get(&format!("{K_PROJ}.weight")).unwrap();
        let error = checkpoint.read(info).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains(K_PROJ), "{error}");
    }
}

/// The command line says what to do instead.
#[test]
fn a_folder_without_metadata_is_refused() {
    let dir = folder("int8");
    let file = dir.path().join("int8.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    std::fs::write(&file, serialize(tensors.tensors(), None).unwrap()).unwrap();
    let error = fails(&["inspect", &dir.path().display().to_string()]);
    assert!(
        error.contains("`__metadata__.tensor_names` is missing"),
        "{error}"
    );
}
