//! Mixtures of experts as models: their training against PEFT, what a token reads, and what is refused.

use std::path::Path;

use pollster::block_on;
use serde_json::{Value, json};
use siskin_engine::{
    Adapter, AdapterConfig, Batch, CacheType, Checkpointing, DeviceRequest, GenerateOptions,
    MomentType, OpenOptions, Precision, Session, TrainingSetup,
};
use siskin_gpu::Profile;
use siskin_models::{Head, Model};
use siskin_tests::{Tensors, assert_close, devices, fixture, is_first_driver};
use tempfile::TempDir;

/// A family's folder with the tokenizer that all share, and some keys of its configuration changed.
fn folder(family: &str, changes: &[(&str, Value)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (from, tokenizer) = (
        fixture(&format!("families/{family}")),
        fixture("tiny/llama"),
    );
    std::fs::copy(
        from.join("model.safetensors"),
        dir.path().join("model.safetensors"),
    )
    .unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(file), dir.path().join(file)).unwrap();
    }
    let config = config(family, changes).to_string();
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    dir
}

fn config(family: &str, changes: &[(&str, Value)]) -> Value {
    let text = std::fs::read_to_string(fixture(&format!("families/{family}/config.json")));
    let mut config: Value = serde_json::from_str(&text.unwrap()).unwrap();
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    config
}

fn open(path: &Path, device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    block_on(Session::open(path, &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

fn gpu(index: usize, profile: Profile) -> DeviceRequest {
    DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    }
}

/// Both examples in one batch.
fn batch(t: &Tensors) -> Batch {
    let examples = [0, 1].map(|i| (t.u32(&format!("ids.{i}")), t.f32(&format!("mask.{i}"))));
    let learned: f32 = examples.iter().flat_map(|e| &e.1[1..]).sum();
    let mut batch = Batch::default();
    for (ids, mask) in examples {
        let rows = ids.len() - 1;
        batch.tokens.extend(&ids[..rows]);
        batch.positions.extend(0..rows as u32);
        batch.targets.extend(&ids[1..]);
        batch.weights.extend(mask[1..].iter().map(|m| m / learned));
    }
    batch
}

/// Of Gemma 2, too, which has soft caps.
#[test]
fn gradients_are_those_of_peft() {
    let gpus = devices().into_iter().filter(|d| is_first_driver(d.0));
    let gpus: Vec<_> = gpus.map(|(i, p)| gpu(i, p)).collect();
    for family in ["qwen2_moe", "gpt_oss", "gemma2"] {
        let t = Tensors::open(&format!("families/{family}/lora/expected.safetensors"));
        let adapter = fixture(&format!("families/{family}/lora/adapter"));
        let dir = folder(family, &[]);
        for device in gpus.iter().copied().chain([DeviceRequest::Cpu]) {
            let mut session = open(dir.path(), device);
            let adapter = Adapter::open(&adapter).unwrap();
            block_on(session.set_adapter(Some(adapter))).unwrap();
            let setup = TrainingSetup {
                rows: 32,
                dropout: 0.0,
                checkpointing: Checkpointing::Every(1),
                moments: MomentType::F32,
                has_reference: false,
            };
            block_on(session.prepare_training(&setup)).unwrap();
            let loss = block_on(session.train_batch(&batch(&t))).unwrap();
            let what = format!("{family} {device:?}");
            assert_close(&what, &[loss], &t.f32("losses"), 1e-3);
            let grads = block_on(session.gradients()).unwrap();
            assert!(grads.modules.len() >= 8, "{what}: {}", grads.modules.len());
            for m in &grads.modules {
                for (part, values) in [("A", &m.a), ("B", &m.b)] {
                    let name = format!("{}.lora_{part}", m.name);
                    let wanted = t.f32(&format!("grad.{name}.weight"));
                    assert_close(&format!("{what} {name}"), values, &wanted, 1e-3);
                }
            }
        }
    }
}

/// With all experts a step reads what it does with some, and the others' weights.
#[test]
fn a_token_reads_the_experts_that_it_uses() {
    let bytes_with = |n_used: usize, device| {
        let dir = folder("qwen3_moe", &[("num_experts_per_tok", json!(n_used))]);
        let mut session = open(dir.path(), device);
        let options = GenerateOptions {
            max_tokens: 2,
            ignore_end: true,
            ..Default::default()
        };
        block_on(session.generate(&[5, 6, 7], &options, async |_| {
            std::ops::ControlFlow::Continue(())
        }))
        .unwrap();
        let position = session.tokens().len();
        block_on(session.decode_counts(position)).unwrap().unwrap()
    };
    for (index, profile) in devices().into_iter().filter(|d| is_first_driver(d.0)) {
        let device = gpu(index, profile);
        let [some, all] = [3, 8].map(|n| bytes_with(n, device));
        // Three matrices of 32 × 32 bf16 in each expert of two layers, and the activations of 5 more.
        let (matrix, layers, more) = (32 * 32 * 2, 2, 5);
        let weights = layers * more * 3 * matrix;
        let read = all.bytes_bound - some.bytes_bound;
        assert!(
            (weights..weights * 5 / 4).contains(&read),
            "{profile}: {read}"
        );
        // A layer: norm of the router's and the experts' input, router, choice, gates and ups with their activation,
        // downs with the residual, beside the three dispatches of attention, which are four on a CPU.
        let attention = if profile == Profile::CPU { 4 } else { 3 };
        assert_eq!(some.dispatches, layers * (attention + 5) + 3, "{profile}");
        assert_eq!(all.dispatches, some.dispatches, "{profile}");
    }
}

#[test]
fn counts_are_told() {
    let model = Model::from_config(config("qwen3_moe", &[])).unwrap();
    let experts = model.experts().unwrap().unwrap();
    assert_eq!((experts.count, experts.used), (8, 3));
    // Embedding and head, and for each of two layers attention, its norms, the router and three experts.
    let layer = 32 * 32 * 2 + 2 * 32 * 16 + 2 * 32 + 2 * 8 + 8 * 32 + 3 * 3 * 32 * 32;
    assert_eq!(experts.active_parameters, 2 * (320 * 32 + layer) + 32);
    let dense = Model::from_config(config("granite", &[])).unwrap();
    assert_eq!(dense.experts().unwrap(), None);
}

#[test]
fn what_is_not_understood_is_refused() {
    for (family, key, value, why) in [
        (
            "qwen3_moe",
            "num_experts_per_tok",
            json!(9),
            "num_experts_per_tok",
        ),
        ("qwen3_moe", "num_experts", json!(7), "num_local_experts"),
        (
            "qwen3_moe",
            "decoder_sparse_step",
            json!(0),
            "decoder_sparse_step",
        ),
        ("olmoe", "clip_qkv", json!(1.0), "clip_qkv"),
        ("gpt_oss", "swiglu_limit", json!(6.0), "swiglu_limit"),
        (
            "gpt_oss",
            "quantization_config",
            Value::Null,
            "quant_method",
        ),
        ("gpt_oss", "rope_parameters", Value::Null, "rope_parameters"),
        ("ernie4_5_moe", "moe_gate", json!("top2"), "moe_gate"),
        (
            "mixtral",
            "num_expert_groups",
            json!(2),
            "num_expert_groups",
        ),
    ] {
        let error = Model::from_config(config(family, &[(key, value)])).unwrap_err();
        assert!(error.to_string().contains(why), "{family}: {error}");
    }
}

/// A router is a linear, but no adapter is for it or for the experts.
#[test]
fn routers_and_experts_are_not_adapted() {
    let model = Model::from_config(config("qwen2_moe", &[])).unwrap();
    let graph = model.graph(Head::Next).unwrap();
    let plain = || AdapterConfig::plain(4, 8.0);
    for target in ["gate", "experts"] {
        let targets = [target.to_string()];
        let error = Adapter::new("new", &graph, &targets, plain(), 1).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(target) && error.contains("q_proj"),
            "{error}"
        );
    }
    let all = ["all-linear".to_string()];
    let adapter = Adapter::new("new", &graph, &all, plain(), 1).unwrap();
    let names: Vec<_> = adapter.modules.iter().map(|m| m.name.as_str()).collect();
    assert!(names.contains(&"model.layers.0.mlp.shared_expert_gate"));
    assert!(
        !names
            .iter()
            .any(|n| n.contains("experts") || n.ends_with("mlp.gate"))
    );
}
