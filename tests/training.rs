//! Training of tiny models, and of the real one, against what PEFT and PyTorch recorded.

use std::path::Path;

use pollster::block_on;
use siskin_engine::{
    AdamW, Adapter, Batch, CacheType, Checkpointing, DeviceRequest, OpenOptions, Precision, Session,
};
use siskin_tests::{Tensors, assert_close, fixture};

const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gemma3"];

/// As `generate_lora.py` has it.
fn adamw(step: u32) -> AdamW {
    AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        max_grad_norm: 1.0,
        step,
    }
}

fn open(path: &Path, device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_type: CacheType::F32,
        precision: Precision::F32,
    };
    block_on(Session::open(path, &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

/// The recorded examples, each as its own batch or all in one.
fn batches(t: &Tensors, n: usize, packed: bool) -> Vec<Batch> {
    let examples: Vec<_> = (0..n)
        .map(|i| (t.u32(&format!("ids.{i}")), t.f32(&format!("mask.{i}"))))
        .collect();
    let learned: f32 = examples.iter().flat_map(|e| &e.1[1..]).sum();
    let mut all: Vec<Batch> = vec![];
    for (ids, mask) in examples {
        let rows = ids.len() - 1;
        if !packed || all.is_empty() {
            all.push(Batch::default());
        }
        let batch = all.last_mut().unwrap();
        batch.tokens.extend(&ids[..rows]);
        batch.positions.extend(0..rows as u32);
        batch.targets.extend(&ids[1..]);
        batch.weights.extend(mask[1..].iter().map(|m| m / learned));
    }
    all
}

fn devices() -> Vec<DeviceRequest> {
    vec![DeviceRequest::Cpu]
}

fn prepare(session: &mut Session, folder: &Path, checkpointing: Checkpointing) {
    let adapter = Adapter::open(&folder.join("adapter")).unwrap();
    block_on(session.set_adapter(Some(adapter))).unwrap();
    block_on(session.prepare_training(64, 0.0, checkpointing)).unwrap();
}

fn check_gradients(what: &str, session: &mut Session, t: &Tensors, tolerance: f32) {
    let grads = block_on(session.gradients()).unwrap();
    for m in &grads.modules {
        for (part, values) in [("A", &m.a), ("B", &m.b)] {
            let name = format!("{}.lora_{part}", m.name);
            let wanted = t.f32(&format!("grad.{name}.weight"));
            assert_close(&format!("{what} {name}"), values, &wanted, tolerance);
        }
    }
}

/// The same losses as PEFT for 20 steps; the same gradients in the first; packed or not.
#[test]
fn gradients_and_losses_are_those_of_peft() {
    for family in FAMILIES {
        let folder = fixture(&format!("tiny/{family}/lora"));
        let t = Tensors::open(&format!("tiny/{family}/lora/expected.safetensors"));
        for device in devices() {
            for (packed, checkpointing) in [
                (false, Checkpointing::Off),
                (true, Checkpointing::Off),
                (true, Checkpointing::Every(1)),
            ] {
                let what = format!("{family} {device:?} packed {packed} {checkpointing:?}");
                let mut session = open(&fixture(&format!("tiny/{family}")), device);
                prepare(&mut session, &folder, checkpointing);
                let before = block_on(session.logits(&t.u32("ids.0"))).unwrap();
                assert_close(&what, &before, &t.f32("logits.before"), 2e-4);
                let batches = batches(&t, 3, packed);
                let (mut losses, mut norms) = (vec![], vec![]);
                for step in 1..=20 {
                    let loss = |b| block_on(session.train_batch(b)).unwrap();
                    losses.push(batches.iter().map(loss).sum::<f32>());
                    if step == 1 {
                        check_gradients(&what, &mut session, &t, 1e-3);
                    }
                    norms.push(block_on(session.optimise(&adamw(step))).unwrap());
                }
                assert_close(&format!("{what} losses"), &losses, &t.f32("losses"), 1e-3);
                assert_close(&format!("{what} norms"), &norms, &t.f32("norms"), 1e-2);
                let after = block_on(session.logits(&t.u32("ids.0"))).unwrap();
                assert_close(&what, &after, &t.f32("logits.after"), 5e-3);
            }
        }
    }
}
