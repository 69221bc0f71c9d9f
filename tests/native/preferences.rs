//! Objectives over preferences, against what TRL recorded (`generate_preferences.py`).

use std::path::Path;

use pollster::block_on;
use siskin_engine::{
    AdamW, Adapter, Batch, CacheType, Checkpointing, DeviceRequest, MomentType, OpenOptions,
    Precision, Session, TrainingSetup,
};
use siskin_tests::{Tensors, assert_close, devices_for, fixture, most_devices};
use siskin_train::{
    Dataset, LossType, Objective, Preferences, Record, Schedule, StepReport, TrainOptions, Trainer,
};

/// A recorded objective: its file, its data, and its options.
fn recorded() -> Vec<(&'static str, &'static str, TrainOptions)> {
    let base = TrainOptions {
        rank: 4,
        learning_rate: Some(3e-3),
        schedule: Schedule::Constant,
        warmup_steps: Some(0),
        weight_decay: 0.01,
        steps: Some(20),
        validation: 0.0,
        max_seq_len: 128,
        target_modules: ["q_proj", "v_proj", "up_proj"].map(String::from).to_vec(),
        ..TrainOptions::default()
    };
    let of = |objective, beta| TrainOptions {
        objective,
        beta: Some(beta),
        ..base.clone()
    };
    let typed = |loss_type, options| TrainOptions {
        loss_type: Some(loss_type),
        ..options
    };
    let smoothed = |by, options| TrainOptions {
        label_smoothing: by,
        ..options
    };
    let nll = |alpha, options| TrainOptions {
        cpo_alpha: Some(alpha),
        ..options
    };
    let kto = TrainOptions {
        desirable_weight: Some(1.5),
        undesirable_weight: Some(0.5),
        ..of(Objective::Kto, 0.1)
    };
    let simpo = TrainOptions {
        simpo_gamma: Some(1.0),
        ..of(Objective::Simpo, 2.0)
    };
    let robust = smoothed(0.2, of(Objective::Dpo, 0.1));
    let ipo = nll(0.5, of(Objective::Cpo, 0.5));
    vec![
        ("dpo", "chats", of(Objective::Dpo, 0.1)),
        ("kto", "rated", kto),
        ("orpo", "pairs", of(Objective::Orpo, 0.1)),
        ("simpo", "pairs", simpo),
        ("cpo", "pairs", smoothed(0.1, of(Objective::Cpo, 0.1))),
        (
            "dpo_ipo",
            "pairs",
            typed(LossType::Ipo, of(Objective::Dpo, 0.2)),
        ),
        (
            "dpo_hinge",
            "pairs",
            typed(LossType::Hinge, of(Objective::Dpo, 0.03)),
        ),
        ("dpo_robust", "pairs", typed(LossType::Robust, robust)),
        ("cpo_ipo", "pairs", typed(LossType::Ipo, ipo)),
    ]
}

fn open(device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    block_on(Session::open(&fixture("tiny/llama"), &options, &mut |_| ())).unwrap()
}

fn records(data: &str) -> Vec<Record> {
    let name = format!("preferences/{data}.jsonl");
    let text = std::fs::read_to_string(fixture(&name)).unwrap();
    Dataset::parse(&name, &text).unwrap().records
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
        let mut session = open(device);
        let trainer = block_on(Trainer::new(&mut session, records, options))?;
        Ok(Self { trainer, session })
    }

    /// Begins with the adapter with which TRL began.
    fn of_recorded(device: DeviceRequest, data: &str, options: TrainOptions, rows: usize) -> Self {
        let mut run = Self::new(device, &records(data), options).unwrap();
        let adapter = Adapter::open(&fixture("tiny/llama/lora/adapter")).unwrap();
        block_on(run.session.set_adapter(Some(adapter))).unwrap();
        prepare(&mut run.session, rows);
        run
    }

    fn step(&mut self) -> siskin_train::Result<StepReport> {
        block_on(self.trainer.step(&mut self.session))
    }
}

fn prepare(session: &mut Session, rows: usize) {
    let setup = TrainingSetup {
        rows,
        dropout: 0.0,
        checkpointing: Checkpointing::Off,
        moments: MomentType::F32,
        has_reference: true,
    };
    block_on(session.prepare_training(&setup)).unwrap();
}

/// The values of the steps' reports under TRL's names.
fn reported(reports: &[StepReport]) -> Vec<(&'static str, Vec<f32>)> {
    type Of = fn(&Preferences) -> Option<f32>;
    let all: [(&str, Of); 10] = [
        ("rewards/chosen", |p| p.chosen),
        ("rewards/rejected", |p| p.rejected),
        ("rewards/margins", |p| p.margins),
        ("rewards/accuracies", |p| p.accuracies),
        ("logps/chosen", |p| p.chosen_logps),
        ("logps/rejected", |p| p.rejected_logps),
        ("nll_loss", |p| p.nll_loss),
        ("log_odds_ratio", |p| p.log_odds_ratio),
        ("log_odds_chosen", |p| p.log_odds_chosen),
        ("kl", |p| p.kl),
    ];
    let values = |of: Of| {
        let found = reports.iter().filter_map(|r| of(&r.preferences.unwrap()));
        found.collect::<Vec<f32>>()
    };
    let all = all.into_iter().map(|(name, of)| (name, values(of)));
    all.filter(|(_, values)| !values.is_empty()).collect()
}

/// The same gradients of the first step, and the same losses, norms and rewards of all, as TRL.
#[test]
fn losses_gradients_and_rewards_are_those_of_trl() {
    let gpu = |(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    };
    for (name, data, options) in recorded() {
        let t = Tensors::open(&format!("preferences/{name}.safetensors"));
        // GPUs run the kernels of any other training: one objective is enough.
        let gpus = match name {
            "dpo" => most_devices(),
            _ => vec![],
        };
        for device in std::iter::once(DeviceRequest::Cpu).chain(gpus.into_iter().map(gpu)) {
            let what = format!("{name} {device:?}");
            let steps = if device == DeviceRequest::Cpu { 20 } else { 2 };
            let mut run = Run::of_recorded(device, data, options.clone(), 512);
            let gradients = block_on(run.trainer.gradients(&mut run.session)).unwrap();
            for m in &gradients.modules {
                for (part, values) in [("A", &m.a), ("B", &m.b)] {
                    let key = format!("{}.lora_{part}.weight", m.name);
                    let wanted = t.f32(&format!("grad.{key}"));
                    assert_close(&format!("{what} {key}"), values, &wanted, 1e-3);
                }
            }
            let reports: Vec<_> = (0..steps).map(|_| run.step().unwrap()).collect();
            let check = |key: &str, found: Vec<f32>, tolerance| {
                let wanted = &t.f32(key)[..steps];
                assert_close(&format!("{what} {key}"), &found, wanted, tolerance);
            };
            check("losses", reports.iter().map(|r| r.loss).collect(), 1e-3);
            check("norms", reports.iter().map(|r| r.grad_norm).collect(), 1e-2);
            for (key, values) in reported(&reports) {
                // TRL writes four digits.
                check(key, values, 2e-3);
            }
        }
    }
}

/// Whether examples share a run changes how many runs a step takes, and nothing else.
#[test]
fn packed_and_unpacked_steps_are_the_same() {
    for (name, data, options) in recorded().into_iter().take(5) {
        let losses = |packing| {
            let options = TrainOptions {
                packing,
                steps: Some(4),
                ..options.clone()
            };
            let mut run = Run::new(DeviceRequest::Cpu, &records(data), options).unwrap();
            (0..4).map(|_| run.step().unwrap().loss).collect::<Vec<_>>()
        };
        assert_close(name, &losses(true), &losses(false), 1e-5);
    }
}

/// Before the first step, the model is the reference; and a run that was stopped goes on as if it had not been.
#[test]
fn a_resumed_training_goes_on_as_if_nothing_had_happened() {
    let devices = devices_for(0, 1)
        .into_iter()
        .map(|(index, profile)| DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        });
    let first = devices.take(1);
    for device in std::iter::once(DeviceRequest::Cpu).chain(first) {
        let objectives = [(Objective::Dpo, "chats"), (Objective::Kto, "rated")];
        let n = if device == DeviceRequest::Cpu { 2 } else { 1 };
        for (objective, data) in objectives.into_iter().take(n) {
            let options = TrainOptions {
                objective,
                use_dora: true,
                lora_dropout: 0.1,
                rank: 4,
                batch_size: 2,
                steps: Some(5),
                validation: if objective == Objective::Dpo {
                    0.25
                } else {
                    0.0
                },
                max_seq_len: 128,
                ..TrainOptions::default()
            };
            let begin = || Run::new(device, &records(data), options.clone()).unwrap();
            let mut whole = begin();
            if objective == Objective::Dpo {
                let score = block_on(whole.trainer.score(&mut whole.session)).unwrap();
                let loss = score.unwrap().loss;
                assert!((loss - std::f32::consts::LN_2).abs() < 1e-5, "{loss}");
            }
            let all: Vec<StepReport> = (0..5).map(|_| whole.step().unwrap()).collect();
            let of = |r: &StepReport| (r.loss, r.grad_norm, r.preferences, r.held_out);
            let mut stopped = begin();
            stopped.step().unwrap();
            stopped.step().unwrap();
            let bytes = block_on(stopped.trainer.checkpoint(&mut stopped.session)).unwrap();
            let mut second = begin();
            second.trainer.resume(&mut second.session, &bytes).unwrap();
            for wanted in &all[2..] {
                assert_eq!(of(&second.step().unwrap()), of(wanted), "{device:?}");
            }
            if device != DeviceRequest::Cpu {
                continue;
            }
            let other = TrainOptions {
                beta: Some(0.3),
                ..options.clone()
            };
            let mut other = Run::new(device, &records(data), other).unwrap();
            let error = other
                .trainer
                .resume(&mut other.session, &bytes)
                .unwrap_err();
            assert!(error.to_string().contains("beta"), "{error}");
        }
    }
}

/// A run without the adapter does not hide from the next one that magnitudes have changed.
#[test]
fn magnitudes_are_fresh_after_a_run_without_them() {
    let batch = Batch {
        tokens: vec![5, 6, 7, 8],
        positions: vec![0, 1, 2, 3],
        targets: vec![6, 7, 8, 9],
        weights: vec![1.0; 4],
        ..Batch::default()
    };
    let adamw = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        step: 1,
    };
    let gpus = devices_for(0, 1).into_iter().take(1);
    let gpus = gpus.map(|(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    });
    for device in std::iter::once(DeviceRequest::Cpu).chain(gpus) {
        let after = |refers: bool| {
            let mut session = open(device);
            let adapter = Adapter::open(&fixture("tiny/llama/dora/adapter")).unwrap();
            block_on(session.set_adapter(Some(adapter))).unwrap();
            prepare(&mut session, 64);
            block_on(session.train_batch(&batch)).unwrap();
            block_on(session.optimise(&adamw)).unwrap();
            if refers {
                block_on(session.reference_losses(&batch)).unwrap();
            }
            block_on(session.losses_of(&batch)).unwrap()
        };
        assert_eq!(after(true), after(false), "{device:?}");
    }
}

fn new(text: &str, objective: Objective) -> siskin_train::Result<Run> {
    let records = Dataset::parse("a.jsonl", text).unwrap().records;
    let options = TrainOptions {
        objective,
        max_seq_len: 64,
        validation: 0.0,
        ..TrainOptions::default()
    };
    Run::new(DeviceRequest::Cpu, &records, options)
}

#[test]
fn data_of_another_objective_is_refused() {
    let pair = r#"{"prompt":"q","chosen":"a","rejected":"b"}"#;
    let good = r#"{"prompt":"q","completion":"a","label":true}"#;
    let bad = r#"{"prompt":"q","completion":"b","label":false}"#;
    let answer = r#"{"prompt":"q","completion":"a"}"#;
    for (text, objective, wanted) in [
        (
            pair,
            Objective::Sft,
            "record 1: it has `chosen` and `rejected`",
        ),
        (good, Objective::Sft, "record 1: it has a `label`"),
        (answer, Objective::Dpo, "needs `chosen` and `rejected`"),
        (good, Objective::Simpo, "needs `chosen` and `rejected`"),
        (
            pair,
            Objective::Kto,
            "needs `prompt`, `completion` and `label`",
        ),
    ] {
        let error = new(text, objective).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let error = new(&format!("{good}\n{good}"), Objective::Kto)
        .err()
        .unwrap();
    let error = error.to_string();
    assert!(
        error.contains("records 1 to 2") && error.contains("`label` true"),
        "{error}"
    );
    assert!(new(&format!("{good}\n{bad}"), Objective::Kto).is_ok());
    // What differs is behind the limit.
    let same = "x ".repeat(60);
    let text = format!(r#"{{"prompt":"q","chosen":"{same} a","rejected":"{same} b"}}"#);
    let error = new(&text, Objective::Dpo).err().unwrap().to_string();
    assert!(error.contains("the same to the model"), "{error}");
}

/// A loss that is not finite changes nothing, and the gradients are gone.
#[test]
fn a_step_without_a_number_is_not_taken() {
    let options = TrainOptions {
        learning_rate: Some(1e30),
        warmup_steps: Some(0),
        max_grad_norm: f32::MAX,
        steps: Some(9),
        ..recorded()[0].2.clone()
    };
    let mut run = Run::new(DeviceRequest::Cpu, &records("chats"), options).unwrap();
    let adapter = |run: &mut Run| block_on(run.trainer.adapter(&mut run.session)).unwrap();
    let mut before = adapter(&mut run);
    let error = loop {
        match run.step() {
            Ok(_) => before = adapter(&mut run),
            Err(e) => break e.to_string(),
        }
    };
    assert!(error.contains("lower learning rate"), "{error}");
    assert!(adapter(&mut run) == before, "the adapter changed");
    let gradients = block_on(run.session.gradients()).unwrap();
    assert!(
        gradients
            .modules
            .iter()
            .all(|m| m.a.iter().all(|v| *v == 0.0))
    );
}

/// Every recipe of `examples/recipes` runs, and says what it learned.
#[test]
fn recipes_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = vec![];
    for entry in std::fs::read_dir(root.join("examples/recipes")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("adapter");
        let is_of_rewards = ["grpo", "rloo"].contains(&name.as_str());
        // The tiny model never answers well.
        let reward = ["--reward", "regex:[a-e]"];
        let run = siskin_tests::command::siskin()
            .current_dir(&root)
            .arg("train")
            .arg(&path)
            .args(["--model", &siskin_tests::command::tiny("llama")])
            .args(["--device", "cpu", "--steps", "2", "--json", "--out"])
            .arg(&out)
            .args(reward.iter().filter(|_| is_of_rewards))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{name}: {error}");
        let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(report["summary"]["objective"], *name);
        let (last, held_out, metric) = match is_of_rewards {
            true => (
                &report["last_step"]["reward"],
                &report["held_out_reward_after"],
                "reward_std",
            ),
            false => (
                &report["last_step"]["rewards/chosen"],
                &report["held_out_rewards"]["rewards/chosen"],
                "rewards/margins",
            ),
        };
        assert!(last.is_number() && held_out.is_number(), "{report}");
        let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        assert!(
            metrics.lines().count() == 3 && metrics.contains(metric),
            "{metrics}"
        );
        Adapter::open(&out).unwrap();
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        ["cpo", "dpo", "grpo", "kto", "orpo", "rloo", "simpo"]
    );
}
