//! Objectives over rewards, against what TRL recorded (`generate_rewards.py`).

use std::ops::ControlFlow;

use pollster::block_on;
use serde_json::Value as Json;
use siskin_engine::{
    Adapter, CacheType, Checkpointing, DeviceRequest, MomentType, OpenOptions, Precision, Session,
    TrainingSetup,
};
use siskin_tests::{Tensors, assert_close, fixture, most_devices};
use siskin_train::{
    Dataset, ImportanceSamplingLevel, LossType, Objective, Record, Rewarded, Rollout, ScaleRewards,
    Schedule, StepReport, TrainOptions, Trainer,
};

const PROMPTS: &str = "{\"prompt\": \"the sky is\"}\n{\"prompt\": \"one and one are\"}\n";

fn options(objective: Objective) -> TrainOptions {
    TrainOptions {
        objective,
        rank: 4,
        num_generations: Some(4),
        max_completion_length: Some(8),
        learning_rate: Some(3e-3),
        schedule: Schedule::Constant,
        warmup_steps: Some(0),
        weight_decay: 0.01,
        steps: Some(4),
        batch_size: 2,
        validation: 0.0,
        max_seq_len: 64,
        target_modules: ["q_proj", "v_proj", "up_proj"].map(String::from).to_vec(),
        ..TrainOptions::default()
    }
}

/// A recorded objective: its file and its options.
fn recorded() -> Vec<(&'static str, TrainOptions)> {
    let grpo = || options(Objective::Grpo);
    vec![
        (
            "grpo",
            TrainOptions {
                beta: Some(0.1),
                num_iterations: Some(2),
                epsilon: Some(0.05),
                epsilon_high: Some(0.08),
                ..grpo()
            },
        ),
        (
            "grpo_of_answers",
            TrainOptions {
                loss_type: Some(LossType::Grpo),
                num_iterations: Some(3),
                epsilon: Some(0.02),
                scale_rewards: Some(ScaleRewards::Batch),
                ..grpo()
            },
        ),
        (
            "dr_grpo",
            TrainOptions {
                loss_type: Some(LossType::DrGrpo),
                scale_rewards: Some(ScaleRewards::None),
                mask_truncated_completions: true,
                ..grpo()
            },
        ),
        (
            "gspo",
            TrainOptions {
                loss_type: Some(LossType::Grpo),
                importance_sampling_level: Some(ImportanceSamplingLevel::Sequence),
                beta: Some(0.04),
                num_iterations: Some(2),
                epsilon: Some(0.03),
                ..grpo()
            },
        ),
        (
            "rloo",
            TrainOptions {
                beta: Some(0.05),
                num_iterations: Some(2),
                epsilon: Some(0.1),
                ..options(Objective::Rloo)
            },
        ),
    ]
}

fn records(text: &str) -> Vec<Record> {
    Dataset::parse("prompts.jsonl", text).unwrap().records
}

/// A trainer with its session.
struct Run {
    trainer: Trainer,
    session: Session,
}

impl Run {
    fn new(
        device: DeviceRequest,
        text: &str,
        options: TrainOptions,
        sequences: usize,
    ) -> siskin_train::Result<Self> {
        let open = OpenOptions {
            device,
            context: Some(64),
            cache_types: CacheType::F32.into(),
            precision: Precision::F32,
            sequences,
            ..OpenOptions::default()
        };
        let model = fixture("tiny/llama");
        let mut session = block_on(Session::open(&model, &open, &mut |_| ())).unwrap();
        let trainer = block_on(Trainer::new(&mut session, &records(text), options))?;
        Ok(Self { trainer, session })
    }

    fn roll_out(&mut self) -> Vec<Rollout> {
        let go_on = &mut |_| ControlFlow::Continue(());
        let drawn = block_on(self.trainer.roll_out(&mut self.session, go_on));
        drawn.unwrap().unwrap()
    }

    fn learn(&mut self, rollouts: &[Rollout], rewards: &[f32]) -> siskin_train::Result<StepReport> {
        block_on(self.trainer.learn(&mut self.session, rollouts, rewards))
    }

    /// Draws answers and learns how many letters each has.
    fn step(&mut self) -> siskin_train::Result<StepReport> {
        let rollouts = self.roll_out();
        let rewards: Vec<f32> = rollouts.iter().map(letters).collect();
        self.learn(&rollouts, &rewards)
    }
}

fn letters(rollout: &Rollout) -> f32 {
    let text = &rollout.completion;
    let letters = text.chars().filter(char::is_ascii_lowercase).count();
    letters as f32 / text.chars().count().max(1) as f32
}

/// The recorded answers and their rewards.
fn answers() -> (Vec<Rollout>, Vec<f32>) {
    let text = std::fs::read_to_string(fixture("rewards/answers.json")).unwrap();
    let all: Vec<Json> = serde_json::from_str(&text).unwrap();
    let rewards = all.iter().map(|a| a["reward"].as_f64().unwrap() as f32);
    let ids = |a: &Json| {
        let ids = a["ids"].as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let prompts = records(PROMPTS);
    let rollouts = all.iter().map(|a| {
        let prompt = a["prompt"].as_str().unwrap();
        let is_its = |r: &Record| {
            let question = r.example.question().unwrap();
            question.messages.last().unwrap().content() == prompt
        };
        let place = prompts.iter().position(is_its).unwrap();
        Rollout {
            line: place + 1,
            prompt: prompts[place].example.question().unwrap().messages,
            completion: String::new(),
            answer: None,
            columns: serde_json::Map::new(),
            truncated: a["ends"] == false,
            ids: ids(a),
            place,
        }
    });
    (rollouts.collect(), rewards.collect())
}

/// The same gradients of the first update, and the same losses, norms and metrics of all, as TRL.
#[test]
fn losses_gradients_and_metrics_are_those_of_trl() {
    let gpu = |(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    };
    let (rollouts, rewards) = answers();
    for (name, options) in recorded() {
        let t = Tensors::open(&format!("rewards/{name}.safetensors"));
        let gpus = match name {
            "grpo" => most_devices(),
            _ => vec![],
        };
        for device in std::iter::once(DeviceRequest::Cpu).chain(gpus.into_iter().map(gpu)) {
            let what = format!("{name} {device:?}");
            let (steps, updates) = (
                if device == DeviceRequest::Cpu { 4 } else { 1 },
                options.num_iterations.unwrap_or(1),
            );
            let mut run = Run::new(device, PROMPTS, options.clone(), 1).unwrap();
            let adapter = Adapter::open(&fixture("tiny/llama/lora/adapter")).unwrap();
            block_on(run.session.set_adapter(Some(adapter))).unwrap();
            let setup = TrainingSetup {
                rows: 256,
                dropout: 0.0,
                checkpointing: Checkpointing::Off,
                moments: MomentType::F32,
                has_reference: true,
            };
            block_on(run.session.prepare_training(&setup)).unwrap();
            if matches!(name, "grpo" | "rloo") {
                let found = run
                    .trainer
                    .gradients_of(&mut run.session, &rollouts, &rewards);
                for m in &block_on(found).unwrap().modules {
                    for (part, values) in [("A", &m.a), ("B", &m.b)] {
                        let key = format!("{}.lora_{part}.weight", m.name);
                        let wanted = t.f32(&format!("grad.{key}"));
                        assert_close(&format!("{what} {key}"), values, &wanted, 1e-3);
                    }
                }
            }
            let reports: Vec<_> = (0..steps)
                .map(|_| run.learn(&rollouts, &rewards).unwrap())
                .collect();
            // Of each step's updates, which one is reported.
            let check = |key: &str, found: Vec<f32>, which: usize, tolerance| {
                let wanted = t.f32(key);
                let wanted: Vec<f32> = match wanted.len() == 4 {
                    true => wanted,
                    false => wanted.into_iter().skip(which).step_by(updates).collect(),
                };
                assert_close(
                    &format!("{what} {key}"),
                    &found,
                    &wanted[..steps],
                    tolerance,
                );
            };
            let last = updates - 1;
            // The first loss may be a sum that cancels out.
            let losses: Vec<f32> = reports.iter().map(|r| r.loss + 1.0).collect();
            let wanted: Vec<f32> = t.f32("losses").iter().map(|l| l + 1.0).collect();
            let wanted: Vec<f32> = wanted.into_iter().step_by(updates).take(steps).collect();
            assert_close(&format!("{what} losses"), &losses, &wanted, 1e-3);
            let norms = reports.iter().map(|r| r.grad_norm).collect();
            check("norms", norms, last, 1e-2);
            type Of = fn(&Rewarded) -> Option<f32>;
            let metrics: [(&str, Of); 7] = [
                ("reward", |r| Some(r.reward)),
                ("reward_std", |r| Some(r.reward_std)),
                ("frac_reward_zero_std", |r| Some(r.frac_reward_zero_std)),
                ("completions/mean_length", |r| Some(r.mean_length)),
                ("completions/clipped_ratio", |r| Some(r.clipped_ratio)),
                ("kl", |r| r.kl),
                ("clip_ratio/region_mean", |r| Some(r.clip_ratio)),
            ];
            for (key, of) in metrics {
                let found = reports.iter().filter_map(|r| of(&r.rewarded.unwrap()));
                let found: Vec<f32> = found.collect();
                if !found.is_empty() {
                    check(key, found, last, 2e-3);
                }
            }
        }
    }
}

/// The same answers, however many are drawn at once; and other ones in the next step.
#[test]
fn answers_depend_on_the_seed_alone() {
    let drawn = |sequences| {
        let mut run = Run::new(
            DeviceRequest::Cpu,
            PROMPTS,
            options(Objective::Grpo),
            sequences,
        )
        .unwrap();
        let first = run.roll_out();
        let rewards: Vec<f32> = first.iter().map(letters).collect();
        run.learn(&first, &rewards).unwrap();
        (first, run.roll_out())
    };
    let (first, second) = drawn(4);
    assert_eq!((first.clone(), second.clone()), drawn(1));
    assert_eq!(first.len(), 8);
    assert_ne!(first, second);
    let lengths = first.iter().all(|r| (1..=8).contains(&r.ids.len()));
    assert!(lengths && first.iter().any(|r| r.ids != first[0].ids));
    let json = serde_json::to_value(&first[0]).unwrap();
    assert!(json["completion"].is_string() && json["prompt"][0]["content"].is_string());
}

/// Noise depends on seed and position alone, so seeds of answers must not be neighbours.
#[test]
fn neighbouring_seeds_have_no_answers_in_common() {
    let drawn = |seed| {
        let options = TrainOptions {
            seed,
            ..options(Objective::Grpo)
        };
        let mut run = Run::new(DeviceRequest::Cpu, PROMPTS, options, 8).unwrap();
        let answers = run.roll_out().into_iter().map(|r| r.ids);
        answers.filter(|ids| ids.len() > 4).collect::<Vec<_>>()
    };
    let (first, second) = (drawn(0), drawn(1));
    assert!(first.len() > 3 && second.len() > 3);
    assert!(first.iter().all(|ids| !second.contains(ids)));
}

/// A reward for letters makes answers of letters.
#[test]
fn rewards_rise() {
    let options = TrainOptions {
        learning_rate: Some(5e-2),
        steps: Some(20),
        num_generations: Some(8),
        target_modules: vec!["all-linear".into()],
        ..options(Objective::Grpo)
    };
    let mut run = Run::new(DeviceRequest::Cpu, PROMPTS, options, 8).unwrap();
    let rewards: Vec<f32> = (0..20)
        .map(|_| run.step().unwrap().rewarded.unwrap().reward)
        .collect();
    let mean = |r: &[f32]| r.iter().sum::<f32>() / r.len() as f32;
    let (before, after) = (mean(&rewards[..3]), mean(&rewards[17..]));
    assert!(after > before + 0.2, "{rewards:?}");
}

#[test]
fn a_resumed_training_goes_on_as_if_nothing_had_happened() {
    let begin = || {
        let options = TrainOptions {
            num_iterations: Some(2),
            ..options(Objective::Rloo)
        };
        Run::new(DeviceRequest::Cpu, PROMPTS, options, 2).unwrap()
    };
    let of = |r: StepReport| (r.step, r.loss, r.grad_norm, r.rewarded.unwrap().reward);
    let mut whole = begin();
    let all: Vec<_> = (0..3).map(|_| of(whole.step().unwrap())).collect();
    let mut stopped = begin();
    stopped.step().unwrap();
    let bytes = block_on(stopped.trainer.checkpoint(&mut stopped.session)).unwrap();
    let mut second = begin();
    second.trainer.resume(&mut second.session, &bytes).unwrap();
    for wanted in &all[1..] {
        assert_eq!(of(second.step().unwrap()), *wanted);
    }
}

#[test]
fn rewards_that_teach_nothing_are_refused() {
    let mut run = Run::new(DeviceRequest::Cpu, PROMPTS, options(Objective::Grpo), 2).unwrap();
    let rollouts = run.roll_out();
    let mut rewards: Vec<f32> = rollouts.iter().map(letters).collect();
    for (rewards, wanted) in [
        (
            vec![1.0; 8],
            "all 8 answers of the first step have the reward 1",
        ),
        (vec![1.0; 7], "7 rewards for 8 answers"),
        (
            vec![0.0, 1.0, 0.0, 1.0, 0.0, f32::NAN, 0.0, 1.0],
            "is NaN, which is no number",
        ),
    ] {
        let error = run.learn(&rollouts, &rewards).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let error = block_on(run.trainer.step(&mut run.session)).unwrap_err();
    assert!(error.to_string().contains("needs rewards"), "{error}");
    // Nothing has changed.
    assert_eq!(run.roll_out(), rollouts);
    rewards[0] += 1.0;
    assert_eq!(run.learn(&rollouts, &rewards).unwrap().step, 1);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let of = |change: fn(&mut TrainOptions)| {
        let mut options = options(Objective::Grpo);
        change(&mut options);
        options
    };
    let long = format!("{{\"prompt\": \"{}\"}}", "x ".repeat(60));
    for (text, options, wanted) in [
        (
            PROMPTS,
            of(|o| o.num_generations = Some(1)),
            "num_generations is 1",
        ),
        (PROMPTS, of(|o| o.epsilon = Some(1.0)), "epsilon is 1"),
        (
            PROMPTS,
            of(|o| o.loss_type = Some(LossType::Ipo)),
            "loss_type is ipo",
        ),
        (
            PROMPTS,
            of(|o| o.max_completion_length = Some(64)),
            "max_completion_length is 64",
        ),
        (
            PROMPTS,
            of(|o| o.load_best_model_at_end = true),
            "no held-out loss",
        ),
        (
            PROMPTS,
            TrainOptions {
                objective: Objective::Sft,
                ..TrainOptions::default()
            },
            "it has no answer, which is for the objectives grpo and rloo",
        ),
        (
            PROMPTS,
            TrainOptions {
                num_generations: Some(4),
                objective: Objective::Dpo,
                ..TrainOptions::default()
            },
            "num_generations is set; it is an option of the objectives grpo and rloo",
        ),
        (long.as_str(), of(|_| ()), "max_completion_length"),
        ("{\"text\": \"a\"}", of(|_| ()), "needs prompts"),
    ] {
        let error = Run::new(DeviceRequest::Cpu, text, options, 1).err();
        let error = error.unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
