//! Folders that GPTQ, AWQ, compressed-tensors and LLM.int8() quantised, against the values and logits of their own
//! libraries (`generate_quantised.py`), and what is refused of them.

use std::path::Path;

use pollster::block_on;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use siskin_engine::{CacheType, DeviceRequest, OpenOptions, Precision, Session};
use siskin_formats::{Checkpoint, Error, Place, SideFiles, TensorType};
use siskin_gpu::Profile;
use siskin_tests::command::{fails, json as printed, ok};
use siskin_tests::{Tensors, assert_close, devices, fixture, is_first_driver, tolerance};
use tempfile::TempDir;

const K_PROJ: &str = "model.layers.0.self_attn.k_proj";

/// The configuration of each folder, by its name.
fn configs() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("quantised/configs.json")).unwrap())
        .unwrap()
}

/// A folder in two files, the tokenizer borrowed.
fn folder(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
    write("config.json", &configs()[name].to_string());
    let own = format!("{name}.safetensors");
    let index = json!({"weight_map": {"a": "base.safetensors", "b": own}});
    write("model.safetensors.index.json", &index.to_string());
    for from in ["quantised/base.safetensors", &format!("quantised/{own}")]
        .into_iter()
        .chain([
            "tiny/llama/tokenizer.json",
            "tiny/llama/tokenizer_config.json",
        ])
    {
        let from = fixture(from);
        std::fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
    }
    dir
}

pub fn logits(folder: &Path, device: DeviceRequest, ids: &[u32]) -> Vec<f32> {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    let mut session = block_on(Session::open(folder, &options, &mut |_| ())).unwrap();
    block_on(session.logits(ids)).unwrap()
}

#[test]
fn logits_are_those_of_the_dequantised_weights() {
    let expected = Tensors::open("quantised/expected.safetensors");
    let ids = expected.u32("ids");
    let gpu = devices()
        .into_iter()
        .find(|d| is_first_driver(d.0) && d.1 == Profile::BASE);
    let (index, profile) = gpu.unwrap();
    for name in configs().as_object().unwrap().keys() {
        let (dir, wanted) = (folder(name), expected.f32(name));
        let found = logits(dir.path(), DeviceRequest::Cpu, &ids);
        assert_close(name, &found, &wanted, 1e-4);
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        let found = logits(dir.path(), device, &ids);
        assert_close(name, &found, &wanted, tolerance("model", profile));
    }
}

/// Exact, but where scales of 32 bits are rounded.
#[test]
fn values_are_those_of_the_methods_own_libraries() {
    use TensorType::{F16, INT4, INT8};
    let expected = Tensors::open("quantised/expected.safetensors");
    for (name, ty, tolerance) in [
        ("gptq_4_v1", INT4, 0.0),
        ("gptq_4_sym_row_v2", INT4, 0.0),
        ("gptq_4_act_order", F16, 0.0),
        ("gptq_8_v1", INT8, 0.0),
        ("awq", INT4, 0.0),
        ("packed_4", INT4, 0.0),
        ("packed_4_asym", INT4, 0.0),
        ("packed_8", INT8, 0.0),
        ("int_8", INT8, 0.0),
        ("int_8_asym", INT8, 2f32.powi(-16)),
        ("float_8", F16, 0.0),
        ("mixed", INT4, 0.0),
        ("int8", INT8, 1.01 * 2f32.powi(-16)),
    ] {
        let dir = folder(name);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let info = checkpoint.get(&format!("{K_PROJ}.weight")).unwrap();
        assert_eq!((info.ty, &info.shape[..]), (ty, &[32, 64][..]), "{name}");
        assert_eq!(
            info.bytes as usize,
            checkpoint.read(info).unwrap().len(),
            "{name}"
        );
        let found = checkpoint.read_f32(info).unwrap();
        for (found, wanted) in found.iter().zip(expected.f32(&format!("{name}.k_proj"))) {
            let near = (found - wanted).abs() <= tolerance * wanted.abs();
            assert!(near, "{name}: {found} is not {wanted}");
        }
        assert!(checkpoint.unread.is_empty(), "{:?}", checkpoint.unread);
    }
}

/// What `inspect` says of types, and of matrices that take more memory than their files.
#[test]
fn inspect_names_the_types() {
    let of = |name: &str| ok(&["inspect", &folder(name).path().display().to_string()]);
    let text = of("mixed");
    assert!(text.contains("INT4") && text.contains("INT8"), "{text}");
    let text = of("gptq_4_act_order");
    assert!(
        text.contains("7 of F16 are in the files as 4-bit"),
        "{text}"
    );
    let all = printed(&[
        "inspect",
        "--json",
        &folder("float_8").path().display().to_string(),
    ]);
    assert_eq!(all["widened"]["8-bit floats (FP8)"], 7);
}

/// A tensor's name, type, shape and bytes.
type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

/// The tensors of one module, with what is changed in them and in the configuration.
fn changed(
    name: &str,
    config: impl Fn(&mut Value),
    tensors: impl Fn(&mut Vec<Entry>),
) -> Result<Checkpoint, Error> {
    let file = std::fs::read(fixture(&format!("quantised/{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let mut all: Vec<Entry> = file
        .iter()
        .filter(|(name, _)| name.starts_with(K_PROJ))
        .map(|(name, t)| (name.into(), t.dtype(), t.shape().into(), t.data().into()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    tensors(&mut all);
    let mut of = configs()[name].clone();
    config(&mut of["quantization_config"]);
    let mut side = SideFiles::new("here");
    side.add("config.json", of.to_string());
    // Two files, so that parts of a matrix are in different ones.
    let half = all.len() / 2;
    let files = [&all[..half], &all[half..]].map(|part| {
        let views = part.iter().map(|(name, ty, shape, bytes)| {
            (name, TensorView::new(*ty, shape.clone(), bytes).unwrap())
        });
        Box::new(safetensors::serialize(views, None).unwrap())
            as Box<dyn siskin_formats::ByteSource>
    });
    Checkpoint::from_safetensors(files.into(), side)
}

#[test]
fn parts_may_be_in_different_files() {
    let expected = Tensors::open("quantised/expected.safetensors");
    for name in ["gptq_4_v1", "awq", "packed_4_asym", "int8"] {
        let checkpoint = changed(name, |_| (), |_| ()).unwrap();
        let info = checkpoint.get(&format!("{K_PROJ}.weight")).unwrap();
        let files: std::collections::BTreeSet<_> =
            info.ranges().iter().map(|p: &Place| p.file).collect();
        assert_eq!(files.len(), 2, "{name}");
        let found = checkpoint.read_f32(info).unwrap();
        let wanted = expected.f32(&format!("{name}.k_proj"));
        assert_close(name, &found[..wanted.len()], &wanted, 2e-5);
        // Parts of rows are read with the whole.
        assert_eq!(info.around(3..5, 32), (info.clone(), 3));
    }
}

#[test]
fn options_that_are_not_understood_are_refused() {
    let group = "/config_groups/group_0";
    let at = |rest: &str| format!("{group}{rest}");
    for (name, key, value, wanted) in [
        (
            "gptq_4_v1",
            "/bits".to_string(),
            json!(3),
            "`quantization_config.bits` is 3, which is not supported; supported: 4, 8",
        ),
        ("gptq_4_v1", "/bits".into(), Value::Null, "bits` is missing"),
        (
            "gptq_4_v1",
            "/quant_method".into(),
            json!("hqq"),
            "`quantization_config.quant_method` is hqq, which is not supported; supported: awq",
        ),
        (
            "gptq_4_v1",
            "/checkpoint_format".into(),
            json!("marlin"),
            "supported: gptq, gptq_v2",
        ),
        (
            "gptq_4_v1",
            "/group_size".into(),
            json!(48),
            "-1 and multiples of 32",
        ),
        (
            "gptq_4_v1",
            "/group_size".into(),
            json!(0),
            "group_size` is 0",
        ),
        (
            "gptq_4_v1",
            "/pack_dtype".into(),
            json!("int16"),
            "pack_dtype",
        ),
        (
            "gptq_4_v1",
            "/dynamic".into(),
            json!({"+:k_proj": {"bits": 8}}),
            "`quantization_config.dynamic`",
        ),
        (
            "gptq_4_v1",
            "/adapter".into(),
            json!({"name": "lora"}),
            "`quantization_config.adapter`",
        ),
        (
            "gptq_4_v1",
            "/rotation".into(),
            json!("hadamard"),
            "`quantization_config.rotation`",
        ),
        (
            "awq",
            "/version".into(),
            json!("gemv"),
            "version` is gemv, which is not supported; supported: gemm",
        ),
        ("awq", "/bits".into(), json!(8), "supported: 4"),
        ("awq", "/backend".into(), json!("llm-awq"), "backend"),
        (
            "packed_4",
            "/format".into(),
            json!("marlin-24"),
            "format` is marlin-24",
        ),
        (
            "packed_4",
            at("/format"),
            json!("marlin-24"),
            "group_0.format` is marlin-24",
        ),
        (
            "packed_4",
            "/kv_cache_scheme".into(),
            json!({"num_bits": 8}),
            "kv_cache_scheme",
        ),
        (
            "packed_4",
            "/sparsity_config".into(),
            json!({"format": "sparse-24-bitmask"}),
            "sparsity_config.format` is sparse-24",
        ),
        (
            "packed_4",
            "/transform_config".into(),
            json!({"config_groups": {"u": {}}}),
            "transform_config",
        ),
        (
            "packed_4",
            "/config_groups".into(),
            json!({}),
            "config_groups",
        ),
        (
            "packed_4",
            at("/weights/num_bits"),
            json!(3),
            "group_0.weights.num_bits` is 3",
        ),
        (
            "packed_4",
            at("/weights/type"),
            json!("float"),
            "group_0.weights.type` is float",
        ),
        (
            "packed_4",
            at("/weights/strategy"),
            json!("tensor_group"),
            "tensor_group",
        ),
        (
            "packed_4",
            at("/output_activations"),
            json!({"num_bits": 8}),
            "group_0.output_activations",
        ),
        (
            "int_8",
            at("/input_activations/dynamic"),
            json!(false),
            "input_activations.dynamic` is false",
        ),
        (
            "float_8",
            at("/weights/num_bits"),
            json!(4),
            "num_bits` is 4",
        ),
        (
            "float_8",
            at("/weights/symmetric"),
            json!(false),
            "symmetric",
        ),
    ] {
        let set = |config: &mut Value| {
            let (parent, last) = key.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[last] = value.clone();
        };
        let error = changed(name, set, |_| ()).unwrap_err();
        assert!(matches!(error, Error::Quantisation { .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains(wanted) && error.starts_with("here/config.json: "),
            "{key}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    // No configuration, but tensors that need one.
    let error = changed("gptq_4_v1", |c| *c = Value::Null, |_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`quantization_config` is missing"),
        "{error}"
    );
}

/// A tensor's name without its module's.
fn part<'a>(tensors: &'a mut [Entry], name: &str) -> &'a mut Entry {
    let name = format!("{K_PROJ}.{name}");
    tensors.iter_mut().find(|t| t.0 == name).unwrap()
}

#[test]
fn tensors_that_do_not_fit_together_are_refused() {
    for (name, missing) in [
        ("gptq_4_v1", "qzeros"),
        ("gptq_4_v1", "scales"),
        ("gptq_4_act_order", "g_idx"),
        ("awq", "qzeros"),
        ("packed_4", "weight_shape"),
        ("packed_4_asym", "weight_zero_point"),
        ("int_8_asym", "weight_zero_point"),
    ] {
        let full = format!("{K_PROJ}.{missing}");
        let error = changed(name, |_| (), |all| all.retain(|t| t.0 != full)).unwrap_err();
        assert_eq!(error.to_string(), format!("here has no tensor `{full}`"));
    }
    for (name, which, shape) in [
        ("gptq_4_v1", "qzeros", vec![4, 2]),
        ("gptq_4_v1", "scales", vec![1, 64]),
        ("gptq_4_v1", "qweight", vec![256]),
        ("gptq_4_v1", "g_idx", vec![32, 2]),
        ("awq", "scales", vec![4, 16]),
        ("packed_4", "weight_scale", vec![16, 4]),
        ("packed_4_asym", "weight_zero_point", vec![2, 4]),
        ("int8", "SCB", vec![8, 4]),
    ] {
        let reshape = |all: &mut Vec<Entry>| part(all, which).2 = shape.clone();
        let error = changed(name, |_| (), reshape).unwrap_err().to_string();
        let wanted = format!("here is damaged: `{K_PROJ}.{which}` is ");
        assert!(
            error.starts_with(&wanted) && error.contains("is needed"),
            "{error}"
        );
    }
    // Another type of the same size.
    for (name, which, ty) in [
        ("gptq_4_v1", "qweight", Dtype::U32),
        ("gptq_4_v1", "scales", Dtype::I16),
        ("packed_4", "weight_shape", Dtype::U64),
        ("int8", "SCB", Dtype::I32),
    ] {
        let retype = |all: &mut Vec<Entry>| part(all, which).1 = ty;
        let error = changed(name, |_| (), retype).unwrap_err().to_string();
        assert!(
            error.contains(which) && error.contains("is needed"),
            "{error}"
        );
    }
    // Groups of 16 columns.
    let halves = |all: &mut Vec<Entry>| {
        let scales = part(all, "weight_scale");
        scales.3 = [&scales.3[..], &scales.3].concat();
        scales.2 = vec![32, 4];
    };
    let error = changed("packed_4", |_| (), halves).unwrap_err().to_string();
    assert!(error.contains("block size is 32"), "{error}");
}

/// What only the data shows.
#[test]
fn data_that_does_not_fit_is_refused() {
    let read = |name: &str, which: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let checkpoint = changed(name, |_| (), |all| change(&mut part(all, which).3)).unwrap();
        let info = checkpoint.get(&format!("{K_PROJ}.weight")).unwrap();
        checkpoint.read(info).map_err(|e| e.to_string())
    };
    let first =
        |value: i32| move |bytes: &mut Vec<u8>| bytes[..4].copy_from_slice(&value.to_le_bytes());
    for (name, which, value, wanted) in [
        (
            "gptq_4_v1",
            "g_idx",
            2,
            "column 0 is of group 2, but there are 2 groups",
        ),
        ("gptq_4_act_order", "g_idx", 2, "column 0 is of group 2"),
        ("gptq_4_v1", "g_idx", -1, "column 0 is of group -1"),
        (
            "gptq_4_v1",
            "g_idx",
            1,
            "`desc_act` is false in config.json; set it to true",
        ),
        (
            "packed_4",
            "weight_shape",
            33,
            "its `weight_shape` is [33, 64], but its codes are [32, 64]",
        ),
    ] {
        let error = read(name, which, &first(value)).unwrap_err();
        assert!(error.contains(wanted) && error.contains(K_PROJ), "{error}");
    }
    let error = read("int8", "weight_format", &|bytes| bytes[0] = 1).unwrap_err();
    assert!(error.contains("weight_format"), "{error}");
    assert!(read("gptq_4_v1", "g_idx", &first(0)).is_ok());
}

/// Packers of GPTQ write a bias for every matrix. Zeros change nothing; others belong to another architecture.
#[test]
fn a_bias_that_the_architecture_lacks_must_be_zero() {
    let expected = Tensors::open("quantised/expected.safetensors");
    let ids = expected.u32("ids");
    for value in [0.0f32, 0.5] {
        let dir = folder("gptq_4_v1");
        let file = dir.path().join("gptq_4_v1.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<(String, TensorView<'_>)> = tensors.tensors();
        let bias = [0.0, 0.0, value].repeat(32);
        let bias: Vec<u8> = bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![96], &bias).unwrap();
        all.push(("model.layers.0.mlp.up_proj.bias".into(), view));
        std::fs::write(&file, safetensors::serialize(all, None).unwrap()).unwrap();
        let path = dir.path().display().to_string();
        let gguf = dir.path().join("x.gguf").display().to_string();
        let convert = ["convert", &path, "--out", &gguf];
        if value == 0.0 {
            let found = logits(dir.path(), DeviceRequest::Cpu, &ids);
            assert_close("zeros", &found, &expected.f32("gptq_4_v1"), 1e-4);
            // As F16, in which a GGUF file holds it.
            ok(&convert);
            let found = logits(Path::new(&gguf), DeviceRequest::Cpu, &ids);
            assert_close("GGUF", &found, &expected.f32("gptq_4_v1"), 1e-3);
        } else {
            let error = fails(&convert);
            assert!(error.contains("up_proj.bias"), "{error}");
            let options = OpenOptions::on(DeviceRequest::Cpu);
            let error = block_on(Session::open(dir.path(), &options, &mut |_| ()));
            let error = error.err().unwrap().to_string();
            assert!(
                error.contains("`model.layers.0.mlp.up_proj.bias`"),
                "{error}"
            );
        }
    }
}
