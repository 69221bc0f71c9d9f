//! Training of tiny models, and of the real one, against what PEFT and PyTorch recorded.

use std::path::Path;

use pollster::block_on;
use siskin_engine::{
    AdamW, Adapter, Batch, CacheType, Checkpointing, DeviceRequest, MomentType, OpenOptions,
    Precision, Session, TrainingSetup,
};
use siskin_gpu::Profile;
use siskin_tests::{Tensors, assert_close, devices_for, fixture, is_first_driver};
use siskin_train::{Dataset, Optim, Record, Schedule, TrainOptions, Trainer};

/// The models and adapters of `generate_lora.py`.
const RECORDED: [&str; 8] = [
    "llama/lora",
    "mistral/lora",
    "qwen2/lora",
    "qwen3/lora",
    "gemma3/lora",
    "llama/dora",
    "qwen2/dora",
    "gemma3/dora",
];

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
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
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

fn gpu((index, profile): (usize, Profile)) -> DeviceRequest {
    DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    }
}

/// The CPU, every profile of the first driver, and one of another.
fn devices() -> Vec<DeviceRequest> {
    let gpus = siskin_tests::most_devices().into_iter().map(gpu);
    std::iter::once(DeviceRequest::Cpu).chain(gpus).collect()
}

fn is_second(device: DeviceRequest) -> bool {
    matches!(device, DeviceRequest::Gpu { index: Some(i), .. } if !is_first_driver(i))
}

fn prepare(session: &mut Session, folder: &Path, checkpointing: Checkpointing) {
    let adapter = Adapter::open(&folder.join("adapter")).unwrap();
    block_on(session.set_adapter(Some(adapter))).unwrap();
    let setup = TrainingSetup {
        rows: 64,
        dropout: 0.0,
        checkpointing,
        moments: MomentType::F32,
        has_reference: false,
    };
    block_on(session.prepare_training(&setup)).unwrap();
}

fn check_gradients(what: &str, session: &mut Session, t: &Tensors, tolerance: f32) {
    let grads = block_on(session.gradients()).unwrap();
    for m in &grads.modules {
        let parts = [("A", &m.a), ("B", &m.b), ("magnitude_vector", &m.m)];
        for (part, values) in parts.into_iter().filter(|p| !p.1.is_empty()) {
            let name = format!("{}.lora_{part}", m.name);
            let wanted = t.f32(&format!("grad.{name}.weight"));
            assert_close(&format!("{what} {name}"), values, &wanted, tolerance);
        }
    }
}

/// The same losses as PEFT for up to 20 steps; the same gradients in the first; packed or not.
#[test]
fn gradients_and_losses_are_those_of_peft() {
    for (case, recorded) in RECORDED.into_iter().enumerate() {
        let folder = fixture(&format!("tiny/{recorded}"));
        let t = Tensors::open(&format!("tiny/{recorded}/expected.safetensors"));
        // Each takes other profiles of the first driver, and two take the second one.
        let gpus = devices_for(case, 1).into_iter().map(gpu);
        for device in std::iter::once(DeviceRequest::Cpu).chain(gpus) {
            let all = [
                (true, Checkpointing::Every(1)),
                (true, Checkpointing::Off),
                (false, Checkpointing::Off),
            ];
            // GPUs take one way; a second driver takes fewer steps.
            let ways = if device == DeviceRequest::Cpu { 3 } else { 1 };
            let steps = if is_second(device) { 4 } else { 20 };
            for (packed, checkpointing) in all.into_iter().take(ways) {
                let what = format!("{recorded} {device:?} packed {packed} {checkpointing:?}");
                let mut session = open(folder.parent().unwrap(), device);
                prepare(&mut session, &folder, checkpointing);
                let before = block_on(session.logits(&t.u32("ids.0"))).unwrap();
                assert_close(&what, &before, &t.f32("logits.before"), 2e-4);
                let batches = batches(&t, 3, packed);
                let (mut losses, mut norms) = (vec![], vec![]);
                for step in 1..=steps {
                    let loss = |b| block_on(session.train_batch(b)).unwrap();
                    losses.push(batches.iter().map(loss).sum::<f32>());
                    if step == 1 {
                        check_gradients(&what, &mut session, &t, 1e-3);
                    }
                    norms.push(block_on(session.optimise(&adamw(step))).unwrap());
                }
                let recorded = |name| t.f32(name)[..steps as usize].to_vec();
                assert_close(
                    &format!("{what} losses"),
                    &losses,
                    &recorded("losses"),
                    1e-3,
                );
                assert_close(&format!("{what} norms"), &norms, &recorded("norms"), 1e-2);
                if steps < 20 {
                    continue;
                }
                let after = block_on(session.logits(&t.u32("ids.0"))).unwrap();
                assert_close(&what, &after, &t.f32("logits.after"), 5e-3);
                // One token at a time takes other kernels.
                let one = block_on(session.trace(&t.u32("ids.0"), &[], 1)).unwrap();
                assert_close(&what, &one[0].values, &t.f32("logits.after"), 5e-3);
            }
        }
    }
}

/// Through quantised weights; the reference ran on the dequantised ones.
#[test]
fn the_real_model_s_gradients_are_those_of_peft() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let model = root.join("models/smollm2-135m-instruct.gguf");
    assert!(
        model.exists(),
        "run `cargo xtask test`, which fetches the model"
    );
    let t = Tensors::open("real/lora/expected.safetensors");
    let mut session = open(&model, DeviceRequest::Cpu);
    prepare(&mut session, &fixture("real/lora"), Checkpointing::Every(5));
    let batch = &batches(&t, 1, true)[0];
    let mut losses = vec![];
    for step in 1..=5 {
        losses.push(block_on(session.train_batch(batch)).unwrap());
        if step == 1 {
            check_gradients("real", &mut session, &t, 1e-2);
        }
        block_on(session.optimise(&adamw(step))).unwrap();
    }
    assert_close("losses", &losses, &t.f32("losses"), 1e-2);
}

fn records() -> Vec<Record> {
    let text: String = (0..10)
        .map(|i| format!("{{\"prompt\":\"a{i} b\",\"completion\":\"c{i} d e\"}}\n"))
        .collect();
    Dataset::parse("a.jsonl", &text).unwrap().records
}

fn options() -> TrainOptions {
    TrainOptions {
        rank: 4,
        learning_rate: Some(1e-2),
        lora_dropout: 0.1,
        epochs: 2,
        batch_size: 3,
        max_seq_len: 48,
        validation: 0.2,
        ..TrainOptions::default()
    }
}

/// A trainer with its session.
struct Run {
    trainer: Trainer,
    session: Session,
}

impl Run {
    fn new(
        device: DeviceRequest,
        records: &[Record],
        options: TrainOptions,
    ) -> siskin_train::Result<Self> {
        let mut session = open(&fixture("tiny/llama"), device);
        let trainer = block_on(Trainer::new(&mut session, records, options))?;
        Ok(Self { trainer, session })
    }

    fn step(&mut self) -> siskin_train::Result<siskin_train::StepReport> {
        block_on(self.trainer.step(&mut self.session))
    }

    fn adapter(&mut self) -> Adapter {
        block_on(self.trainer.adapter(&mut self.session)).unwrap()
    }

    fn checkpoint(&mut self) -> Vec<u8> {
        block_on(self.trainer.checkpoint(&mut self.session)).unwrap()
    }

    fn resume(&mut self, bytes: &[u8]) -> siskin_train::Result<()> {
        self.trainer.resume(&mut self.session, bytes)
    }
}

fn trainer(device: DeviceRequest, options: TrainOptions) -> Run {
    Run::new(device, &records(), options).unwrap()
}

fn losses(run: &mut Run, n: usize) -> Vec<(f32, Option<f32>)> {
    let step = |_| {
        let report = run.step().unwrap();
        (report.loss, report.held_out)
    };
    (0..n).map(step).collect()
}

/// From any checkpoint on, the losses are those of a training run that was never stopped.
#[test]
fn a_resumed_training_goes_on_as_if_nothing_had_happened() {
    for device in devices().into_iter().filter(|d| !is_second(*d)) {
        let mut whole = trainer(device, options());
        let steps = whole.trainer.summary().steps;
        assert_eq!((steps, whole.trainer.summary().held_out), (6, 2));
        let unbroken = losses(&mut whole, steps);
        assert!(unbroken[2].1.is_some() && unbroken[5].1.is_some() && unbroken[0].1.is_none());
        assert!(unbroken[5].0 < unbroken[0].0);
        let all = [4, 0, 1];
        let n = if device == DeviceRequest::Cpu { 3 } else { 1 };
        for stopped in all.into_iter().take(n) {
            let mut first = trainer(device, options());
            losses(&mut first, stopped);
            let bytes = first.checkpoint();
            drop(first);
            let mut second = trainer(device, options());
            second.resume(&bytes).unwrap();
            assert_eq!(second.trainer.done(), stopped);
            let rest = losses(&mut second, steps - stopped);
            assert_eq!(rest, unbroken[stopped..], "stopped after {stopped}");
        }
    }
}

/// The same, with magnitudes and moments of 8 bits, which lead nearly where those of 32 do.
#[test]
fn dora_and_moments_of_eight_bits_go_on_too() {
    // Its kernels are those of any profile: half of them.
    for device in devices().into_iter().step_by(2) {
        let run = |optim| {
            let options = TrainOptions {
                use_dora: true,
                optim,
                ..options()
            };
            trainer(device, options)
        };
        let plain = block_on(open(&fixture("tiny/llama"), device).logits(&[1, 2, 3])).unwrap();
        let mut whole = run(Optim::AdamW8bit);
        let begin = block_on(whole.session.logits(&[1, 2, 3])).unwrap();
        assert_close("DoRA begins where the model is", &begin, &plain, 1e-4);
        let unbroken = losses(&mut whole, 6);
        let mut second = run(Optim::AdamW8bit);
        losses(&mut second, 3);
        let bytes = second.checkpoint();
        let mut second = run(Optim::AdamW8bit);
        second.resume(&bytes).unwrap();
        assert_eq!(losses(&mut second, 3), unbroken[3..]);
        let mut exact = run(Optim::AdamW);
        let memory = [&whole, &exact].map(|r| r.trainer.summary().memory.adapter);
        assert!(memory[0] * 3 < memory[1] * 2, "{memory:?}");
        let first = |l: &[(f32, Option<f32>)]| l.iter().map(|l| l.0).collect::<Vec<_>>();
        assert_close(
            "8 bits",
            &first(&unbroken),
            &first(&losses(&mut exact, 6)),
            1e-2,
        );
        let error = exact.resume(&bytes).unwrap_err().to_string();
        assert!(error.contains("optim"), "{error}");
    }
}

/// The training ends when the held-out loss no longer falls, also if it was resumed, and the best adapter is kept.
#[test]
fn a_training_stops_early_and_keeps_the_best_adapter() {
    let options = TrainOptions {
        learning_rate: Some(0.1),
        schedule: Schedule::Constant,
        steps: Some(60),
        eval_every: Some(1),
        early_stopping_patience: Some(3),
        load_best_model_at_end: true,
        ..options()
    };
    let rest = |run: &mut Run| {
        let mut held_out = vec![];
        while !run.trainer.is_finished() {
            held_out.push(run.step().unwrap().held_out.unwrap());
        }
        held_out
    };
    let mut whole = trainer(DeviceRequest::Cpu, options.clone());
    let held_out = rest(&mut whole);
    let best = held_out.iter().copied().fold(f32::INFINITY, f32::min);
    let steps = held_out.len();
    assert!(steps < 60 && held_out[steps - 1] > best, "{held_out:?}");
    assert_eq!(held_out[steps - 4], best);
    assert_eq!(whole.trainer.best_step(), Some(steps - 3));
    let score = block_on(whole.trainer.score(&mut whole.session)).unwrap();
    assert_eq!(score.unwrap().loss, best);

    let mut part = trainer(DeviceRequest::Cpu, options.clone());
    losses(&mut part, steps - 1);
    let bytes = part.checkpoint();
    let mut part = trainer(DeviceRequest::Cpu, options.clone());
    part.resume(&bytes).unwrap();
    assert_eq!(rest(&mut part), held_out[steps - 1..]);
    assert!(part.adapter() == whole.adapter(), "another adapter is kept");

    let few = Run::new(DeviceRequest::Cpu, &records()[..1], options);
    let error = few.err().unwrap().to_string();
    assert!(error.contains("early_stopping_patience is 3"), "{error}");
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let mut one = trainer(DeviceRequest::Cpu, options());
    let bytes = one.checkpoint();
    let other = TrainOptions {
        learning_rate: Some(1e-3),
        ..options()
    };
    let mut two = trainer(DeviceRequest::Cpu, other);
    let error = two.resume(&bytes).unwrap_err().to_string();
    assert!(error.contains("learning_rate"), "{error}");
    let mut three = Run::new(DeviceRequest::Cpu, &records()[1..], options()).unwrap();
    let error = three.resume(&bytes).unwrap_err().to_string();
    assert!(error.contains("examples"), "{error}");
}

/// Packing changes how many runs a step takes, and nothing else.
#[test]
fn packed_and_unpacked_steps_are_the_same() {
    let run = |packing| {
        let options = TrainOptions {
            packing,
            lora_dropout: 0.0,
            ..options()
        };
        let mut trainer = trainer(DeviceRequest::Cpu, options);
        let losses: Vec<f32> = losses(&mut trainer, 6).iter().map(|l| l.0).collect();
        (losses, trainer.adapter())
    };
    let ((packed, a), (unpacked, b)) = (run(true), run(false));
    assert_close("losses", &packed, &unpacked, 1e-4);
    for (a, b) in a.modules.iter().zip(&b.modules) {
        assert_close(&a.name, &a.b, &b.b, 1e-3);
    }
}

/// A loss that is not finite changes nothing.
#[test]
fn a_step_without_a_number_is_not_taken() {
    let wild = TrainOptions {
        learning_rate: Some(1e30),
        warmup_steps: Some(0),
        max_grad_norm: f32::MAX,
        ..options()
    };
    let mut trainer = trainer(DeviceRequest::Cpu, wild);
    let mut before = trainer.adapter();
    let error = loop {
        match trainer.step() {
            Ok(_) => before = trainer.adapter(),
            Err(e) => break e.to_string(),
        }
    };
    assert!(error.contains("lower learning rate"), "{error}");
    assert!(trainer.adapter() == before, "the adapter changed");
}

#[test]
fn what_cannot_be_learned_from_is_told() {
    let new = |text: &str, options: TrainOptions| {
        let records = Dataset::parse("a.jsonl", text).unwrap().records;
        Run::new(DeviceRequest::Cpu, &records, options)
    };
    let long = "x ".repeat(200);
    let text = format!("{{\"prompt\":\"{long}\",\"completion\":\"y\"}}\n{{\"text\":\"{long}\"}}");
    let run = new(&text, options()).unwrap();
    let summary = run.trainer.summary();
    assert_eq!(
        (summary.examples, summary.cut, summary.unusable.len()),
        (1, 1, 1)
    );
    let reason = &summary.unusable[0].reason;
    assert!(reason.contains("max_seq_len"), "{reason}");
    let silent =
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" "}]}"#;
    let error = new(silent, options()).err().unwrap().to_string();
    assert!(error.contains("message 2 is an empty answer"), "{error}");
    let only = text.lines().next().unwrap();
    let error = new(only, options()).err().unwrap().to_string();
    assert!(error.contains("record 1"), "{error}");
    let targets = TrainOptions {
        target_modules: vec!["q_prj".into()],
        ..options()
    };
    let error = new(&text, targets).err().unwrap().to_string();
    assert!(
        error.contains("q_prj") && error.contains("q_proj"),
        "{error}"
    );
}

/// A long text is cut into chunks, and each of its tokens is learned once.
#[test]
fn long_texts_are_cut_into_chunks() {
    let text = format!(
        "{{\"text\":\"{}\"}}\n{{\"text\":\"a b\"}}",
        "x y ".repeat(60)
    );
    let records = Dataset::parse("a.jsonl", &text).unwrap().records;
    let summary = |chunk_overlap, max_seq_len| {
        let options = TrainOptions {
            chunk_overlap,
            max_seq_len,
            validation: 0.0,
            ..options()
        };
        let run = Run::new(DeviceRequest::Cpu, &records, options).unwrap();
        run.trainer.summary().clone()
    };
    let whole = summary(None, 128);
    assert_eq!((whole.examples, whole.cut), (2, 1));
    let learned: Vec<usize> = [0, 8, 16]
        .map(|overlap| {
            let found = summary(Some(overlap), 32);
            assert!(found.cut == 0 && found.examples > 4, "{found:?}");
            found.learned
        })
        .to_vec();
    assert!(learned[0] > whole.learned && learned.iter().all(|n| *n == learned[0]));
    let options = TrainOptions {
        chunk_overlap: Some(20),
        max_seq_len: 32,
        ..options()
    };
    let error = Run::new(DeviceRequest::Cpu, &records, options).err();
    assert!(error.unwrap().to_string().contains("chunk_overlap is 20"));
}

/// Saved and read again, in PEFT's layout; and refused by a model of other shapes.
#[test]
fn adapters_go_out_and_come_back() {
    let mut trainer = trainer(DeviceRequest::Cpu, options());
    losses(&mut trainer, 2);
    let adapter = trainer.adapter();
    let [(_, config), (_, weights)] = adapter.to_peft().unwrap();
    let mut back = Adapter::from_peft("back", &config, &weights).unwrap();
    back.name = adapter.name.clone();
    assert!(back == adapter, "the adapter changed on its way");
    let mut other = open(&fixture("tiny/gemma3"), DeviceRequest::Cpu);
    let before = block_on(other.logits(&[1, 2, 3])).unwrap();
    let error = block_on(other.set_adapter(Some(back.clone())))
        .unwrap_err()
        .to_string();
    assert!(error.contains("the model"), "{error}");
    assert_eq!(block_on(other.logits(&[1, 2, 3])).unwrap(), before);
    let mut same = open(&fixture("tiny/llama"), DeviceRequest::Cpu);
    let plain = block_on(same.logits(&[1, 2, 3])).unwrap();
    back.strength = 0.0;
    block_on(same.set_adapter(Some(back.clone()))).unwrap();
    assert_close(
        "strength 0",
        &block_on(same.logits(&[1, 2, 3])).unwrap(),
        &plain,
        1e-6,
    );
    back.strength = 1.0;
    block_on(same.set_adapter(Some(back))).unwrap();
    assert_ne!(block_on(same.logits(&[1, 2, 3])).unwrap(), plain);
    block_on(same.set_adapter(None)).unwrap();
    assert_eq!(block_on(same.logits(&[1, 2, 3])).unwrap(), plain);
    for (config, weights) in [
        (&b"{"[..], &weights[..]),
        (&config[..], &weights[..40]),
        (
            &br#"{"peft_type":"IA3","r":4,"lora_alpha":8}"#[..],
            &weights[..],
        ),
        (
            &br#"{"peft_type":"LORA","r":5,"lora_alpha":8}"#[..],
            &weights[..],
        ),
    ] {
        assert!(Adapter::from_peft("bad", config, weights).is_err());
    }
}
