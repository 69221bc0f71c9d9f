//! A tiny random model of each family, on every device, against transformers' recorded logits.

use std::path::Path;

use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use siskin_engine::{
    CacheType, DeviceRequest, LookOptions, ModelFiles, OpenOptions, Precision, RopeScaling,
    RopeScalingKind, Session,
};
use siskin_formats::{
    Checkpoint, GgufTensor, TensorInfo, TensorType, Value, decode, encode, write_gguf,
};
use siskin_gpu::Profile;
use siskin_graph::Op;
use siskin_models::{Head, Kind, Model, families};
use siskin_tests::{Tensors, assert_close, devices_for, family_folder, fixture, tolerance};

fn open(path: &Path, device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    block_on(Session::open(path, &options, &mut |_| ()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The CPU, every profile of the first driver, and one of another.
fn requests(case: usize) -> Vec<(DeviceRequest, Profile)> {
    let gpus = devices_for(case, 1).into_iter().map(|(index, profile)| {
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        (device, profile)
    });
    std::iter::once((DeviceRequest::Cpu, Profile::BASE))
        .chain(gpus)
        .collect()
}

/// Logits of a prompt, and of its last token by itself with the others in the cache.
fn check(path: &Path, device: DeviceRequest, profile: Profile, ids: &[u32], wanted: &[f32]) {
    let mut session = open(path, device);
    let what = format!("{} {device:?}", path.display());
    let logits = block_on(session.logits(ids)).unwrap();
    assert_close(&what, &logits, wanted, tolerance("model", profile));
    let (last, before) = ids.split_last().unwrap();
    session.reset();
    block_on(session.next_logits(before)).unwrap();
    let next = block_on(session.next_logits(&[before, &[*last]].concat())).unwrap();
    let wanted = &wanted[wanted.len() - wanted.len() / ids.len()..];
    assert_close(&what, &next, wanted, tolerance("model", profile));
}

/// As if the file said so, which transformers' recorded logits are of.
#[test]
fn a_rope_scaling_that_is_asked_for_is_as_one_of_the_file() {
    let name = "qwen2_yarn";
    let t = Tensors::open(&format!("families/{name}/expected.safetensors"));
    let (ids, wanted) = (t.u32("ids"), t.f32("logits"));
    let open = |path: &Path, scaling: &RopeScaling| -> Result<Session, String> {
        let files = ModelFiles::open_scaled(path, scaling).map_err(|e| e.to_string())?;
        let options = OpenOptions {
            cache_types: CacheType::F32.into(),
            precision: Precision::F32,
            ..OpenOptions::on(DeviceRequest::Cpu)
        };
        Ok(block_on(Session::load(files, &options, &mut |_| ())).unwrap())
    };
    let yarn = RopeScaling {
        kind: RopeScalingKind::Yarn,
        factor: 4.0,
        original_context: None,
    };
    let config = |folder: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    // The file without scaling, as transformers 4 and 5 write it.
    let forms: [fn(&mut serde_json::Value); 2] = [
        |config| {
            config["rope_theta"] = 10000.0.into();
            config["rope_parameters"] = serde_json::Value::Null;
        },
        |config| {
            config["rope_parameters"] =
                serde_json::json!({"rope_theta": 10000.0, "rope_type": "default"});
        },
    ];
    for plain in forms {
        let folder = family_folder(name);
        let mut plainly = config(folder.path());
        plainly["max_position_embeddings"] = 32.into();
        plain(&mut plainly);
        std::fs::write(folder.path().join("config.json"), plainly.to_string()).unwrap();
        let mut session = open(folder.path(), &yarn).unwrap();
        assert_eq!(session.context(), 128);
        let logits = block_on(session.logits(&ids)).unwrap();
        assert_close(name, &logits, &wanted, tolerance("model", Profile::BASE));
        let other = RopeScaling {
            kind: RopeScalingKind::Linear,
            ..yarn
        };
        let mut session = open(folder.path(), &other).unwrap();
        assert_ne!(block_on(session.logits(&ids)).unwrap(), logits);
    }
    // In place of the file's own: none, and then again.
    let folder = family_folder(name);
    for path in [
        folder.path(),
        &fixture(&format!("families/{name}/model.gguf")),
    ] {
        let none = RopeScaling {
            kind: RopeScalingKind::None,
            factor: 1.0,
            original_context: None,
        };
        let mut session = open(path, &none).unwrap();
        assert_eq!(session.context(), 32);
        let plain = block_on(session.logits(&ids)).unwrap();
        let mut session = open(path, &yarn).unwrap();
        assert_eq!(session.context(), 128);
        let logits = block_on(session.logits(&ids)).unwrap();
        assert_close(name, &logits, &wanted, tolerance("model", Profile::BASE));
        assert_ne!(plain, logits);
        let refused = open(
            path,
            &RopeScaling {
                factor: 0.5,
                ..yarn
            },
        )
        .unwrap_err();
        assert!(
            refused.contains("the factor must be at least 1"),
            "{refused}"
        );
    }
}

#[test]
fn logits_are_those_of_transformers() {
    let mut families: Vec<_> = std::fs::read_dir(fixture("families"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    families.sort();
    assert!(families.len() >= 29, "only {} families", families.len());
    for (i, family) in families.into_iter().enumerate() {
        let name = family.file_name().unwrap().to_string_lossy();
        let t = Tensors::open(&format!("families/{name}/expected.safetensors"));
        let (ids, wanted) = (t.u32("ids"), t.f32("logits"));
        let dir = family_folder(&name);
        for (device, profile) in requests(i) {
            check(dir.path(), device, profile, &ids, &wanted);
        }
        // The graph is the same; what differs is how it is read.
        let gguf = family.join("model.gguf");
        if gguf.exists() {
            check(&gguf, DeviceRequest::Cpu, Profile::BASE, &ids, &wanted);
        }
    }
}

/// Its checkpoints hold what is not of the text, and keys and values of layers that share those of others.
#[test]
fn gemma_3n_is_within_a_model_for_images_and_audio() {
    let dir = family_folder("gemma3n");
    let [config, weights] = ["config.json", "model.safetensors"].map(|f| dir.path().join(f));
    let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let whole = serde_json::json!({
        "model_type": "gemma3n", "text_config": text, "vision_config": {"hidden_size": 8},
        "audio_config": {"hidden_size": 8}, "audio_token_id": 9, "audio_soft_tokens_per_image": 4,
        "boa_token_id": 7, "eoa_token_id": 8,
    });
    std::fs::write(&config, whole.to_string()).unwrap();
    let bytes = std::fs::read(&weights).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let write = |more: &[&str]| {
        let mut all: Vec<_> = file.tensors();
        for (name, _) in &mut all {
            *name = name.replacen("model.", "model.language_model.", 1);
        }
        let any = file.tensor("model.norm.weight").unwrap();
        all.extend(more.iter().map(|name| (name.to_string(), any.clone())));
        serialize_to_file(all, None, &weights).unwrap();
    };
    let unread = [
        "model.audio_tower.conformer.0.norm.weight",
        "model.embed_audio.hard_embedding_norm.weight",
        "model.embed_vision.hard_embedding_norm.weight",
        "model.language_model.layers.2.self_attn.k_proj.weight",
        "model.language_model.layers.3.self_attn.v_proj.weight",
        "model.language_model.layers.3.self_attn.k_norm.weight",
    ];
    write(&unread);
    let t = Tensors::open("families/gemma3n/expected.safetensors");
    let (ids, wanted) = (t.u32("ids"), t.f32("logits"));
    check(dir.path(), DeviceRequest::Cpu, Profile::BASE, &ids, &wanted);
    // Layers 0 and 1 share none.
    for other in [
        "layers.1.self_attn.k_proj.bias",
        "layers.3.self_attn.extra.weight",
    ] {
        write(&[&format!("model.language_model.{other}")]);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let error = Model::open(&checkpoint).unwrap_err().to_string();
        assert!(error.contains(other), "{error}");
    }
}

/// What a configuration leaves out is as in its class, of which transformers counts the parameters.
#[test]
fn gemma_3n_without_sizes_is_its_class() {
    let model = Model::from_config(serde_json::json!({"model_type": "gemma3n_text"})).unwrap();
    let graph = model.graph(Head::Next).unwrap();
    let of_file = graph.weights.iter().filter(|w| !w.parts.is_empty());
    let parameters: usize = of_file.map(|w| w.rows() * w.cols).sum();
    assert_eq!((parameters, graph.caches.len()), (6_835_235_568, 20));
    let sparse = graph.nodes.iter().filter_map(|n| match n.op {
        Op::GaussianTopK { deviations } => Some(deviations),
        _ => None,
    });
    // PyTorch's quantile of 0.95.
    assert_eq!(sparse.collect::<Vec<_>>(), [1.644_853_6; 10]);
}

/// Also where a layer's hidden state is several streams, and its keys are those of another.
#[test]
fn the_lens_ends_with_the_likeliest_token_and_weights_sum_to_1() {
    let options = LookOptions {
        top_k: 1,
        attention: true,
        logit_lens: true,
    };
    for family in ["gemma3n", "gemma4"] {
        let gguf = fixture(&format!("families/{family}/model.gguf"));
        let mut session = open(&gguf, DeviceRequest::Cpu);
        let look = block_on(session.look(&[3, 4, 5, 6, 7], &options)).unwrap();
        let last = look.lens.last().unwrap();
        assert_eq!((look.lens.len(), last.len()), (4, 5));
        for (lens, top) in last.iter().zip(&look.top) {
            assert_eq!((lens.id, lens.logprob), (top[0].id, top[0].logprob));
        }
        assert_eq!(look.attention.len(), 4);
        for weights in look.attention.iter().flat_map(|a| a.chunks_exact(5)) {
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}

/// A file whose projections of keys, which are stored transposed, have blocks along what are rows for the graph; and one
/// of the older form, which has keys and values of each head in one tensor.
#[test]
fn latent_attention_of_gguf_files_in_both_forms() {
    let tmp = tempfile::tempdir().unwrap();
    let from = Checkpoint::open(&fixture("families/deepseek_v2/model.gguf")).unwrap();
    let (heads, rank, plain, v_dim) = (4, 32, 32, 16);
    let quantised = |info: &TensorInfo| encode(TensorType::Q8_0, &from.read_f32(info).unwrap());
    let decoded = |info: &TensorInfo| {
        let mut out = vec![0.0; info.shape.iter().product()];
        decode(TensorType::Q8_0, &quantised(info).unwrap(), &mut out);
        out
    };
    let bytes = |values: &[f32]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let logits = |form: &str| {
        let mut tensors = vec![];
        let mut data = vec![];
        for info in &from.tensors {
            let (name, shape) = (info.name.clone(), info.shape.clone());
            let (name, shape, ty, own) = match info.name.strip_suffix(".attn_k_b.weight") {
                None if form == "older" && info.name.ends_with(".attn_v_b.weight") => continue,
                None => (name, shape, info.ty, from.read(info).unwrap()),
                Some(_) if form == "q8_0" => {
                    (name, shape, TensorType::Q8_0, quantised(info).unwrap())
                }
                Some(_) if form == "f32" => (name, shape, TensorType::F32, bytes(&decoded(info))),
                Some(layer) => {
                    let v = from.get(&format!("{layer}.attn_v_b.weight")).unwrap();
                    let (k, v) = (decoded(info), from.read_f32(v).unwrap());
                    let mut both = vec![];
                    for h in 0..heads {
                        let k = &k[h * rank * plain..][..rank * plain];
                        both.extend(
                            (0..plain).flat_map(|p| (0..rank).map(move |r| k[r * plain + p])),
                        );
                        both.extend(&v[h * v_dim * rank..][..v_dim * rank]);
                    }
                    let shape = vec![heads * (plain + v_dim), rank];
                    (
                        format!("{layer}.attn_kv_b.weight"),
                        shape,
                        TensorType::F32,
                        bytes(&both),
                    )
                }
            };
            tensors.push(GgufTensor { name, shape, ty });
            data.push(own);
        }
        let metadata = from.gguf.as_ref().unwrap().header.metadata.clone();
        let mut metadata: Vec<_> = metadata.into_iter().collect();
        if form == "older" {
            metadata.retain(|(key, _)| !key.ends_with("_mla"));
            for (key, value) in &mut metadata {
                match key.as_str() {
                    "deepseek2.attention.key_length" => *value = Value::Uint(40),
                    "deepseek2.attention.value_length" => *value = Value::Uint(v_dim as u64),
                    "deepseek2.attention.head_count_kv" => *value = Value::Uint(heads as u64),
                    _ => {}
                }
            }
        }
        let mut out = vec![];
        write_gguf::<std::io::Error>(&mut out, &metadata, &tensors, |i| Ok(data[i].clone()))
            .unwrap();
        let path = tmp.path().join(format!("{form}.gguf"));
        std::fs::write(&path, out).unwrap();
        let mut session = open(&path, DeviceRequest::Cpu);
        block_on(session.logits(&[5, 77, 300, 12, 9])).unwrap()
    };
    let wanted = logits("f32");
    assert_close("q8_0", &logits("q8_0"), &wanted, 1e-6);
    assert_close("the older form", &logits("older"), &wanted, 1e-5);
}

/// A GGUF file has the keys and values that a layer does not use, too.
#[test]
fn shared_keys_of_a_gguf_file_are_not_read() {
    let tmp = tempfile::tempdir().unwrap();
    let from = Checkpoint::open(&fixture("families/gemma3n/model.gguf")).unwrap();
    let header = &from.gguf.as_ref().unwrap().header;
    let to = tmp.path().join("model.gguf");
    let write = |more: &[[&str; 2]]| {
        let named = |name: &str, like: &TensorInfo| GgufTensor {
            name: name.into(),
            shape: like.shape.clone(),
            ty: like.ty,
        };
        let own = from.tensors.iter().map(|t| (named(&t.name, t), t));
        let more = more.iter().map(|[name, like]| {
            let like = from.get(like).unwrap();
            (named(name, like), like)
        });
        let (tensors, sources): (Vec<_>, Vec<_>) = own.chain(more).unzip();
        let metadata: Vec<_> = header.metadata.clone().into_iter().collect();
        let mut out = vec![];
        write_gguf::<std::io::Error>(&mut out, &metadata, &tensors, |i| {
            Ok(from.read(sources[i]).unwrap())
        })
        .unwrap();
        std::fs::write(&to, out).unwrap();
        Model::open(&Checkpoint::open(&to).unwrap())
    };
    let unread = ["attn_k", "attn_v", "attn_k_norm"]
        .map(|name| [3, 0].map(|layer| format!("blk.{layer}.{name}.weight")));
    let unread = unread
        .each_ref()
        .map(|pair| pair.each_ref().map(String::as_str));
    write(&unread).unwrap();
    let error = write(&[["blk.3.attn_q.bias", "blk.0.attn_q_norm.weight"]]).unwrap_err();
    assert!(error.to_string().contains("blk.3.attn_q.bias"), "{error}");
}

#[test]
fn sizes_that_contradict_one_another_are_refused_by_name() {
    let config = fixture("families/gemma3n/config.json");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    for (key, value) in [
        ("altup_num_inputs", serde_json::json!(1)),
        ("altup_active_idx", serde_json::json!(4)),
        ("altup_correct_scale", serde_json::json!(false)),
        ("num_kv_shared_layers", serde_json::json!(4)),
        ("num_kv_shared_layers", serde_json::json!(3)),
        ("intermediate_size", serde_json::json!([32, 32])),
        (
            "activation_sparsity_pattern",
            serde_json::json!([0.5, 1.0, 0.0, 0.0]),
        ),
        ("activation_sparsity_pattern", serde_json::json!(0.5)),
        ("hidden_size_per_layer_input", serde_json::json!(0)),
        ("use_bidirectional_attention", serde_json::json!("all")),
    ] {
        let mut config = config.clone();
        config[key] = value;
        let error = Model::from_config(config).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    for (family, why) in [
        ("phi", "bias of its head"),
        ("gpt_neox", "in one tensor"),
        ("phimoe", "sparse mixer"),
        ("gemma3n", "streams"),
    ] {
        let config = fixture(&format!("families/{family}/config.json"));
        let config = std::fs::read_to_string(config).unwrap();
        let model = Model::from_config(serde_json::from_str(&config).unwrap()).unwrap();
        let error = model.graph(Head::Loss).unwrap_err().to_string();
        assert!(error.contains(why), "{family}: {error}");
        assert!(model.graph(Head::Next).is_ok());
    }
}

/// The rows of the tables of what is supported: by what people call the models, or by their names in `config.json`.
fn rows(is_code: bool) -> String {
    let kinds = [
        (Kind::Dense, "dense families"),
        (Kind::Experts, "with experts"),
        (Kind::Recurrent, "recurrent and hybrid"),
        (Kind::Encoder, "encoders"),
    ];
    let row = |(kind, title)| {
        let name = |(name, label, has_gguf): (&str, &str, bool)| {
            let shown = match is_code {
                true => format!("`{name}`"),
                false => label.to_string(),
            };
            let only = if has_gguf { "" } else { "\u{b9}" };
            format!("{shown}{only}")
        };
        let names: Vec<_> = families(kind).map(name).collect();
        format!("| {title} | {} |\n", names.join(", "))
    };
    kinds.map(row).concat()
}

#[test]
fn the_tables_of_families_are_the_registry_s() {
    for (path, is_code) in [
        ("../README.md", false),
        ("../crates/models/README.md", true),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(&path).unwrap();
        let wanted = rows(is_code);
        assert!(
            text.contains(&wanted),
            "{}: its rows of families must be\n{wanted}",
            path.display()
        );
    }
}

/// GPT-2's own files are of the base model, whose names are shorter, and have the mask of each layer.
#[test]
fn gpt2_opens_under_the_names_of_its_own_files() {
    let dir = family_folder("gpt2");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mask = [0u8; 4 * 8 * 8];
    let mask = TensorView::new(Dtype::F32, vec![1, 1, 8, 8], &mask).unwrap();
    let own = file.tensors().into_iter().map(|(name, tensor)| {
        let name = name.strip_prefix("transformer.").unwrap_or(&name);
        (name.to_string(), tensor)
    });
    let masks = (0..2).map(|i| (format!("h.{i}.attn.bias"), mask.clone()));
    let all: Vec<_> = own.chain(masks).collect();
    serialize_to_file(all, None, &path).unwrap();
    let t = Tensors::open("families/gpt2/expected.safetensors");
    let (ids, wanted) = (t.u32("ids"), t.f32("logits"));
    check(dir.path(), DeviceRequest::Cpu, Profile::BASE, &ids, &wanted);
}

/// Layers have one name each in traces, however files call them.
#[test]
fn attention_is_traced_in_every_family_of_attention() {
    for family in [
        "gpt2",
        "gpt_neox",
        "cohere",
        "gemma4",
        "nemotron_h",
        "mamba",
    ] {
        let dir = family_folder(family);
        let mut session = open(dir.path(), DeviceRequest::Cpu);
        let options = LookOptions {
            attention: true,
            ..LookOptions::default()
        };
        let look = block_on(session.look(&[5, 6, 7], &options)).unwrap();
        assert_eq!(
            look.attention.len(),
            session.model.dims().n_layers,
            "{family}"
        );
    }
}
