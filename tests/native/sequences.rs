//! Many sequences over one model: each is answered as if it were alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use pollster::block_on;
use siskin_engine::{
    Adapter, AdapterModule, Answer, BeamOptions, CacheType, CacheTypes, DeviceRequest, Event,
    FinishReason, GenerateOptions, OpenOptions, Precision, RequestEvent, RequestId, Sampling,
    Session,
};
use siskin_tests::{copy_of, family_folder, fixture, most_devices};

const CONTEXT: usize = 64;
/// Of the tiny Llama.
const HIDDEN: usize = 64;
const VOCAB: usize = 320;

fn open(model: &str, device: DeviceRequest, sequences: usize, cache_tokens: usize) -> Session {
    open_guessing(model, device, [sequences, cache_tokens, 0])
}

fn open_guessing(model: &str, device: DeviceRequest, numbers: [usize; 3]) -> Session {
    open_with(model, device, numbers, CacheType::F32.into())
}

fn open_with(
    model: &str,
    device: DeviceRequest,
    [sequences, cache_tokens, guesses]: [usize; 3],
    cache_types: CacheTypes,
) -> Session {
    let options = OpenOptions {
        device,
        context: Some(CONTEXT),
        sequences,
        cache_tokens: Some(cache_tokens),
        guesses,
        cache_types,
        precision: Precision::F32,
    };
    let path = fixture(&format!("tiny/{model}"));
    block_on(Session::open(&path, &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

fn requests() -> Vec<DeviceRequest> {
    let gpu = |(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    };
    let gpus = most_devices().into_iter().map(gpu);
    std::iter::once(DeviceRequest::Cpu).chain(gpus).collect()
}

/// Prompts of several lengths, of which some begin alike, each with a sampling of its own.
fn prompts() -> Vec<(Vec<u32>, GenerateOptions)> {
    let shared: Vec<u32> = (0..21).map(|i| 3 + i * 7 % 50).collect();
    let own = |n: u32, from: u32| (0..n).map(move |i| 5 + (from + i * 11) % 60);
    let long = shared.iter().copied().chain(own(17, 4)).collect();
    let alike = shared.iter().copied().chain(own(4, 9)).collect();
    let all: [Vec<u32>; 5] = [
        own(3, 1).collect(),
        long,
        own(1, 7).collect(),
        alike,
        own(12, 30).collect(),
    ];
    let samplings = [
        Sampling::default(),
        Sampling {
            temperature: 0.9,
            seed: 5,
            ..Sampling::default()
        },
        Sampling {
            repeat_penalty: 1.5,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1.2,
            top_k: 20,
            top_p: 0.9,
            repeat_penalty: 1.2,
            seed: 77,
            ..Sampling::default()
        },
        Sampling::default(),
    ];
    let options = |sampling, max_tokens| GenerateOptions {
        sampling,
        max_tokens,
        ignore_end: true,
        ..GenerateOptions::default()
    };
    let lengths = [24, 20, 30, 11, 17];
    let all = all.into_iter().zip(samplings).zip(lengths);
    all.map(|((prompt, sampling), n)| (prompt, options(sampling, n)))
        .collect()
}

fn alone(session: &mut Session) -> Vec<Vec<u32>> {
    let answer = |(prompt, options): (Vec<u32>, GenerateOptions)| {
        session.reset();
        let answer = session.generate(&prompt, &options, async |_| ControlFlow::Continue(()));
        block_on(answer).unwrap().ids
    };
    prompts().into_iter().map(answer).collect()
}

/// Steps until all are answered; `on_step` may do something before each step.
fn run(
    session: &mut Session,
    mut on_step: impl FnMut(&mut Session, usize),
) -> BTreeMap<RequestId, Answer> {
    let (mut answers, mut n) = (BTreeMap::new(), 0);
    while !session.is_idle() {
        on_step(session, n);
        n += 1;
        for update in block_on(session.step()).unwrap() {
            match update.event {
                RequestEvent::Done(answer) => {
                    assert!(answers.insert(update.request, *answer).is_none());
                }
                RequestEvent::Failed(e) => panic!("{e}"),
                _ => {}
            }
        }
    }
    answers
}

fn ids(answers: BTreeMap<RequestId, Answer>) -> Vec<Vec<u32>> {
    answers.into_values().map(|a| a.ids).collect()
}

#[test]
fn answers_do_not_depend_on_what_else_runs() {
    for model in ["llama", "gemma3"] {
        let wanted = alone(&mut open(model, DeviceRequest::Cpu, 1, CONTEXT));
        for device in requests() {
            let what = format!("{model} {device:?}");
            assert_eq!(
                alone(&mut open(model, device, 1, CONTEXT)),
                wanted,
                "{what}"
            );
            // Room for all; then so little that some must wait, and begin again.
            for (sequences, cache) in [(5, 5 * CONTEXT), (3, 80)] {
                let mut session = open(model, device, sequences, cache);
                let mut later = prompts().into_iter();
                for (prompt, options) in later.by_ref().take(2) {
                    session.submit(&prompt, options).unwrap();
                }
                let answers = run(&mut session, |session, n| {
                    assert!(session.n_running() <= sequences);
                    if n % 3 == 2
                        && let Some((prompt, options)) = later.next()
                    {
                        session.submit(&prompt, options).unwrap();
                    }
                });
                assert_eq!(ids(answers), wanted, "{what}, {sequences} in {cache}");
                session.reset();
                assert_eq!(session.cache_free(), 1.0, "{what}: blocks are lost");
            }
        }
    }
}

/// With the model itself as the draft, all guesses are right, drawn ones too.
#[test]
fn a_smaller_model_guesses_and_changes_no_answer() {
    for (draft, model) in [("llama", "llama"), ("qwen3", "llama")] {
        for device in requests() {
            let wanted = alone(&mut open(model, device, 1, CONTEXT));
            let what = format!("{model} {device:?}");
            let mut session = open_guessing(model, device, [3, 3 * CONTEXT, 4]);
            session
                .set_draft(open(draft, DeviceRequest::Cpu, 3, 3 * CONTEXT))
                .unwrap();
            for (prompt, options) in prompts() {
                session.submit(&prompt, options).unwrap();
            }
            let answers = run(&mut session, |_, _| ());
            let right: usize = answers.values().map(|a| a.right_guesses).sum();
            let guessed: usize = answers.values().map(|a| a.guessed_tokens).sum();
            assert!(guessed > 0, "{what}");
            assert!(
                draft != model || right + 2 >= guessed,
                "{what}: {right} of {guessed}"
            );
            assert_eq!(ids(answers), wanted, "{what}");
            session.reset();
            assert_eq!(session.cache_free(), 1.0);
        }
    }
}

#[test]
fn a_draft_of_another_vocabulary_is_refused() {
    let mut session = open("llama", DeviceRequest::Cpu, 2, CONTEXT);
    let refused = |session: &mut Session, draft| session.set_draft(draft).unwrap_err().to_string();
    let folder = copy_of("tiny/llama");
    let file = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("<|endoftext|>", "<|other|>")).unwrap();
    let options = OpenOptions {
        sequences: 2,
        ..OpenOptions::on(DeviceRequest::Cpu)
    };
    let other = block_on(Session::open(folder.path(), &options, &mut |_| ())).unwrap();
    let what = refused(&mut session, other);
    assert!(
        what.contains("its token 0 is `<|other|>` instead of `<|endoftext|>`"),
        "{what}"
    );
    let few = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
    let what = refused(&mut session, few);
    assert!(what.contains("it runs 1 sequences"), "{what}");
}

#[test]
fn a_full_context_slides_if_asked_to() {
    for device in requests().into_iter().take(2) {
        let options = |max_tokens, keep| GenerateOptions {
            max_tokens,
            keep,
            ignore_end: true,
            ..GenerateOptions::default()
        };
        let mut session = open("llama", device, 1, CONTEXT);
        let mut generate = |prompt: &[u32], options| {
            let answer = session.generate(prompt, &options, async |_| ControlFlow::Continue(()));
            block_on(answer).unwrap()
        };
        let prompt: Vec<u32> = (0..9).map(|i| 3 + i * 7).collect();
        let stopped = generate(&prompt, options(150, None));
        assert_eq!(stopped.finish_reason, FinishReason::Length);
        assert_eq!(stopped.ids.len(), CONTEXT + 1 - prompt.len());
        // The same by hand.
        let (mut tokens, mut wanted): (_, Vec<u32>) = (prompt.clone(), vec![]);
        while wanted.len() < 150 {
            let answer = generate(&tokens, options(150 - wanted.len(), None));
            wanted.extend(&answer.ids);
            tokens.extend(&answer.ids);
            let dropped = (tokens.len() - 5).div_ceil(2);
            tokens.drain(5..5 + dropped);
        }
        assert_eq!(generate(&prompt, options(150, Some(5))).ids, wanted);
        // A prompt that is too long.
        let long: Vec<u32> = (0..100).map(|i| 3 + i * 7 % 300).collect();
        let cut = [&long[..5], &long[53..]].concat();
        let answer = generate(&long, options(4, Some(5)));
        assert_eq!(answer.ids, generate(&cut, options(4, None)).ids);
        let refused = session
            .submit(&prompt, options(4, Some(CONTEXT)))
            .unwrap_err();
        assert!(
            refused.to_string().contains("64 tokens cannot stay"),
            "{refused}"
        );
    }
}

/// Greedy answers of this small model soon repeat themselves, so that guesses are often right; drawn ones do not.
#[test]
fn guesses_save_steps_and_change_no_answer() {
    let model = "gemma3";
    for device in requests() {
        let wanted = alone(&mut open(model, device, 1, CONTEXT));
        let what = format!("{model} {device:?}");
        let mut one = open_guessing(model, device, [1, CONTEXT, 6]);
        assert_eq!(alone(&mut one), wanted, "{what}");
        // So little that requests must make room for one another.
        let mut session = open_guessing(model, device, [3, 96, 6]);
        for (prompt, options) in prompts() {
            session.submit(&prompt, options).unwrap();
        }
        let answers = run(&mut session, |_, _| ());
        let right: usize = answers.values().map(|a| a.right_guesses).sum();
        let guessed: usize = answers.values().map(|a| a.guessed_tokens).sum();
        assert!(
            0 < right && right <= guessed,
            "{what}: {right} of {guessed}"
        );
        assert!(guessed < 3 * right + 40, "{what}: {right} of {guessed}");
        assert_eq!(ids(answers), wanted, "{what}");
        session.reset();
        assert_eq!(session.cache_free(), 1.0);
    }
}

#[test]
fn a_cancelled_request_disturbs_no_other() {
    for device in requests() {
        let wanted = alone(&mut open("llama", device, 1, CONTEXT));
        let mut session = open("llama", device, 3, 3 * CONTEXT);
        let mut submitted = vec![];
        for (prompt, options) in prompts() {
            submitted.push(session.submit(&prompt, options).unwrap());
        }
        let mut cancelled = vec![];
        let answers = run(&mut session, |session, n| {
            // One that runs, and one that waits.
            for i in [1, 4].into_iter().filter(|_| n == 4) {
                cancelled.extend(session.cancel(submitted[i]));
            }
        });
        let reasons: Vec<_> = cancelled
            .iter()
            .filter_map(|u| match &u.event {
                RequestEvent::Done(answer) => Some(answer.finish_reason),
                _ => None,
            })
            .collect();
        assert_eq!(reasons, [FinishReason::Cancelled; 2]);
        assert_eq!(answers.len(), 3);
        for i in [0, 2, 3] {
            assert_eq!(answers[&submitted[i]].ids, wanted[i], "{device:?} {i}");
        }
        session.reset();
        assert_eq!(session.cache_free(), 1.0);
    }
}

#[test]
fn a_shared_beginning_runs_once() {
    let (prompt, options) = prompts().swap_remove(1);
    for device in requests() {
        let mut session = open("llama", device, 4, 4 * CONTEXT);
        session.submit(&prompt, options.clone()).unwrap();
        run(&mut session, |_, _| ());
        for _ in 0..3 {
            session.submit(&prompt, options.clone()).unwrap();
        }
        let answers = run(&mut session, |_, _| ());
        let answers: Vec<_> = answers.into_values().collect();
        for answer in &answers {
            assert_eq!(answer.cached_tokens, prompt.len() - 1, "{device:?}");
            assert_eq!(answer.ids, answers[0].ids, "{device:?}");
        }
        // Two whole blocks are the same for all, and those of the answers that are kept.
        assert!(session.cache_free() > 0.25, "{}", session.cache_free());
    }
}

/// A copied part of a block is as exact as any other, over heads of 32 and a window.
#[test]
fn quantised_blocks_are_shared() {
    let (prompt, options) = prompts().swap_remove(1);
    let options = GenerateOptions {
        max_tokens: 12,
        ..options
    };
    for device in requests() {
        let mut session = open_with(
            "gemma3",
            device,
            [3, 3 * CONTEXT, 0],
            CacheType::Q8_0.into(),
        );
        let mut alone = |prompt: &[u32]| {
            session.reset();
            let go_on = async |_: Event<'_>| ControlFlow::Continue(());
            block_on(session.generate(prompt, &options, go_on))
                .unwrap()
                .ids
        };
        // Other tokens from the middle of a block on.
        let mut other = prompt.clone();
        other[20] += 1;
        let wanted = [alone(&prompt), alone(&other)];
        for prompt in [&prompt, &other] {
            session.submit(prompt, options.clone()).unwrap();
        }
        let answers: Vec<_> = run(&mut session, |_, _| ()).into_values().collect();
        assert_eq!(answers[0].cached_tokens, 20, "{device:?}");
        let found: Vec<_> = answers.into_iter().map(|a| a.ids).collect();
        assert_eq!(found, wanted, "{device:?}");
    }
}

#[test]
fn a_step_of_several_is_one_submit_and_one_read_back() {
    for device in requests() {
        let mut session = open("llama", device, 5, 5 * CONTEXT);
        for (prompt, options) in prompts() {
            session.submit(&prompt, options).unwrap();
        }
        // Until all prompts have run, and each has a token.
        let is_token = |e: &RequestEvent| matches!(e, RequestEvent::Token { .. });
        loop {
            let updates = block_on(session.step()).unwrap();
            if updates.len() == 5 && updates.iter().all(|u| is_token(&u.event)) {
                break;
            }
        }
        if session.take_counts().is_none() {
            continue;
        }
        let mut readbacks = 0;
        for _ in 0..5 {
            let updates = block_on(session.step()).unwrap();
            readbacks += usize::from(!updates.is_empty());
            assert_eq!(updates.len(), 5, "{updates:?}");
        }
        let counts = session.take_counts().unwrap();
        assert_eq!(counts.readbacks as usize, readbacks);
        assert!(counts.submits <= 6, "{counts:?}");
        assert_eq!(counts.buffers_created, 0);
    }
}

#[test]
fn recurrent_states_are_of_one_request_at_a_time() {
    let folder = family_folder("lfm2");
    let open = |sequences| {
        let options = OpenOptions {
            device: DeviceRequest::Cpu,
            context: Some(CONTEXT),
            sequences,
            ..OpenOptions::default()
        };
        block_on(Session::open(folder.path(), &options, &mut |_| ())).unwrap()
    };
    let wanted = alone(&mut open(1));
    let mut session = open(4);
    assert_eq!(session.sequences(), 1);
    for (prompt, options) in prompts() {
        session.submit(&prompt, options).unwrap();
    }
    assert_eq!(ids(run(&mut session, |_, _| ())), wanted);
}

/// A LoRA adapter that changes the head too, and a DoRA adapter.
fn adapters() -> [(&'static str, Adapter); 2] {
    ["lora", "dora"].map(|name| {
        let mut adapter = Adapter::open(&fixture(&format!("tiny/llama/{name}/adapter")))
            .unwrap_or_else(|e| panic!("{e}"));
        if name == "lora" {
            let noise = |seed: u32, n: usize| {
                let value = |i: u32| ((i * 2654435761 + seed) >> 16) as f32 / 32768.0 - 1.0;
                (0..n as u32).map(value).collect()
            };
            let r = adapter.config.r;
            adapter.modules.push(AdapterModule {
                name: "lm_head".into(),
                a: noise(1, r * HIDDEN),
                b: noise(2, r * VOCAB),
                m: vec![],
            });
        }
        (name, adapter)
    })
}

#[test]
fn each_request_has_the_adapter_that_it_names() {
    let named = adapters();
    // The second and the fourth prompt begin alike.
    for choice in [
        [Some("lora"), Some("dora"), None, Some("lora"), Some("dora")],
        [None, Some("lora"), Some("dora"), Some("lora"), None],
    ] {
        let mut session = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
        let base = alone(&mut session);
        let mut wanted = vec![];
        for (i, name) in choice.iter().enumerate() {
            let adapter = named.iter().find(|(n, _)| Some(*n) == *name);
            block_on(session.set_adapter(adapter.map(|(_, a)| a.clone()))).unwrap();
            let answer = alone(&mut session).swap_remove(i);
            assert!(adapter.is_none() || answer != base[i], "{choice:?}: {i}");
            wanted.push(answer);
        }
        for device in requests() {
            let what = format!("{device:?} {choice:?}");
            for (sequences, cache) in [(5, 5 * CONTEXT), (3, 80)] {
                let mut session = open("llama", device, sequences, cache);
                let all = named.iter().map(|(n, a)| (n.to_string(), a.clone()));
                block_on(session.set_adapters(all.collect())).unwrap();
                for ((prompt, options), name) in prompts().into_iter().zip(choice) {
                    let adapter = name.map(String::from);
                    let options = GenerateOptions { adapter, ..options };
                    session.submit(&prompt, options).unwrap();
                }
                let answers = run(&mut session, |_, _| ());
                assert_eq!(ids(answers), wanted, "{what}, {sequences} in {cache}");
                session.reset();
                assert_eq!(session.cache_free(), 1.0);
            }
        }
    }
}

/// What an adapter costs, those pay who use it.
#[test]
fn adapters_that_no_request_uses_have_no_dispatches() {
    for device in requests() {
        let mut session = open("llama", device, 2, 2 * CONTEXT);
        let mut dispatches = |adapters: &[(&str, Adapter)], uses: Option<&str>| {
            let all = adapters.iter().map(|(n, a)| (n.to_string(), a.clone()));
            block_on(session.set_adapters(all.collect())).unwrap();
            // DoRA's factors are computed by the first step.
            for n in [1, 4, 5] {
                session.take_counts();
                let options = GenerateOptions {
                    max_tokens: n,
                    ignore_end: true,
                    adapter: uses.map(String::from),
                    ..GenerateOptions::default()
                };
                session.reset();
                session.submit(&[1, 2, 3], options).unwrap();
                run(&mut session, |_, _| ());
            }
            session.take_counts().map(|c| c.dispatches)
        };
        let named = adapters();
        let one = dispatches(&named[..1], None);
        assert_eq!(dispatches(&named, None), one);
        assert_eq!(
            dispatches(&named, Some("lora")),
            dispatches(&named[..1], Some("lora"))
        );
        assert!(one.is_none() || dispatches(&named, Some("dora")) > one);
    }
}

#[test]
fn adapters_that_cannot_be_chosen_are_refused_by_name() {
    let mut session = open("llama", DeviceRequest::Cpu, 2, 2 * CONTEXT);
    let named: Vec<_> = adapters().map(|(n, a)| (n.to_string(), a)).into();
    let submit = |session: &mut Session, adapter: &str| {
        let options = GenerateOptions {
            adapter: Some(adapter.into()),
            ..GenerateOptions::default()
        };
        session.submit(&[1, 2], options).map_err(|e| e.to_string())
    };
    let refused = submit(&mut session, "lora").unwrap_err();
    assert_eq!(refused, "there is no adapter `lora`; the session has none");
    block_on(session.set_adapters(named.clone())).unwrap();
    let refused = submit(&mut session, "other").unwrap_err();
    assert_eq!(refused, "there is no adapter `other`; there are lora, dora");
    let twice = vec![named[0].clone(), named[0].clone()];
    let refused = block_on(session.set_adapters(twice)).unwrap_err();
    assert!(
        refused.to_string().contains("another adapter of this name"),
        "{refused}"
    );
    // A request keeps its adapter, whatever its number is then.
    submit(&mut session, "dora").unwrap();
    block_on(session.step()).unwrap();
    assert!(block_on(session.set_adapters(named[..1].to_vec())).is_err());
    let before = session.n_running() + session.n_waiting();
    assert_eq!(before, 1);
    block_on(session.set_adapters(named[1..].to_vec())).unwrap();
    run(&mut session, |_, _| ());
}

#[test]
fn a_saved_sequence_continues_in_another_session() {
    let prompt: Vec<u32> = (0..37).map(|i| 3 + i * 7 % 300).collect();
    let options = GenerateOptions {
        max_tokens: 6,
        ignore_end: true,
        ..GenerateOptions::default()
    };
    let generate = |session: &mut Session, prompt: &[u32]| {
        let answer = session.generate(prompt, &options, async |_| ControlFlow::Continue(()));
        block_on(answer).unwrap()
    };
    let lfm2 = family_folder("lfm2");
    for device in requests().into_iter().take(2) {
        for (path, types) in [
            (fixture("tiny/llama"), CacheType::F32.into()),
            (fixture("tiny/llama"), CacheTypes::default()),
            // With recurrent states.
            (lfm2.path().into(), CacheType::F32.into()),
        ] {
            let open = |context| {
                let options = OpenOptions {
                    context: Some(context),
                    cache_types: types,
                    precision: Precision::F32,
                    ..OpenOptions::on(device)
                };
                block_on(Session::open(&path, &options, &mut |_| ())).unwrap()
            };
            let mut session = open(CONTEXT);
            let first = generate(&mut session, &prompt);
            let file = block_on(session.save("a note")).unwrap();
            let longer = [&prompt[..], &first.ids, &[9, 8, 7]].concat();
            let wanted = generate(&mut session, &longer);
            let mut other = open(CONTEXT + 20);
            // Its blocks are other ones.
            generate(&mut other, &[5; 20]);
            let restored = block_on(other.restore(&file)).unwrap();
            assert_eq!((restored.tokens, &*restored.note), (42, "a note"));
            let found = generate(&mut other, &longer);
            assert_eq!(found.ids, wanted.ids, "{device:?} {}", path.display());
            assert_eq!(found.cached_tokens, wanted.cached_tokens);
            assert!(found.cached_tokens >= 36);
            // What does not fit is refused, and the session goes on.
            let mut small = open(40);
            let refused = block_on(small.restore(&file)).unwrap_err().to_string();
            assert!(refused.contains("42 tokens"), "{refused}");
            for (damaged, what) in [(&file[..file.len() - 1], "damaged"), (&[], "damaged")] {
                let refused = block_on(other.restore(damaged)).unwrap_err().to_string();
                assert!(refused.contains(what), "{refused}");
            }
            assert_eq!(generate(&mut other, &longer).ids, wanted.ids);
            other.reset();
            assert_eq!(other.cache_free(), 1.0);
        }
    }
}

#[test]
fn a_sequence_of_another_model_is_refused() {
    let refused = |model: &str, file: &[u8], change: &dyn Fn(&mut Session)| {
        let mut session = open(model, DeviceRequest::Cpu, 1, CONTEXT);
        change(&mut session);
        let restored = block_on(session.restore(file));
        restored.unwrap_err().to_string()
    };
    let mut session = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
    let options = GenerateOptions::default();
    let answer = session.generate(&[1, 2], &options, async |_| ControlFlow::Continue(()));
    block_on(answer).unwrap();
    let file = block_on(session.save("")).unwrap();
    let adapt = |session: &mut Session| {
        let [(_, adapter), _] = adapters();
        block_on(session.set_adapter(Some(adapter))).unwrap();
    };
    for refused in [
        refused("qwen2", &file, &|_| ()),
        refused("llama", &file, &adapt),
    ] {
        assert!(
            refused.contains("with another model, adapter or"),
            "{refused}"
        );
    }
    let half = {
        let numbers = [1, CONTEXT, 0];
        let mut session = open_with("llama", DeviceRequest::Cpu, numbers, CacheType::F16.into());
        block_on(session.restore(&file)).unwrap_err().to_string()
    };
    assert!(half.contains("with a KV cache of another type"), "{half}");
    let other = std::fs::read(fixture("tiny/llama/model.safetensors")).unwrap();
    let refused = refused("llama", &other, &|_| ());
    assert!(refused.contains("of something else"), "{refused}");
}

/// Recorded by tests/fixtures/generate_beams.py.
#[test]
fn beams_are_those_of_transformers() {
    let text = std::fs::read_to_string(fixture("tiny/llama/beams.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |v: &serde_json::Value| -> Vec<u32> {
        let ids = v.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let folder = copy_of("tiny/llama");
    let (mut cut, mut ended) = (0, 0);
    for end in [&[0, 2][..], &[0, 2, 12, 43, 118, 285]] {
        let config = serde_json::json!({ "eos_token_id": end }).to_string();
        std::fs::write(folder.path().join("generation_config.json"), config).unwrap();
        for (device, sequences) in requests().into_iter().take(2).zip([1, 3]) {
            let options = OpenOptions {
                context: Some(CONTEXT),
                sequences,
                cache_types: CacheType::F32.into(),
                precision: Precision::F32,
                ..OpenOptions::on(device)
            };
            let mut session =
                block_on(Session::open(folder.path(), &options, &mut |_| ())).unwrap();
            let cases = cases.as_array().unwrap().iter();
            for case in cases.filter(|c| ids(&c["end"]) == end) {
                let options = BeamOptions {
                    beams: case["beams"].as_u64().unwrap() as usize,
                    max_tokens: 14,
                    length_penalty: case["length_penalty"].as_f64().unwrap() as f32,
                };
                let prompt = ids(&case["prompt"]);
                let search = session.beam_search(&prompt, &options, |_| ControlFlow::Continue(()));
                let found = block_on(search).unwrap();
                let wanted = case["answers"].as_array().unwrap();
                assert_eq!(found.len(), wanted.len(), "{case}");
                for (found, wanted) in found.iter().zip(wanted) {
                    assert_eq!(found.ids, ids(&wanted["ids"]), "{device:?} {case}");
                    let score = wanted["score"].as_f64().unwrap() as f32;
                    assert!(
                        (found.score - score).abs() < 1e-3,
                        "{} {score}",
                        found.score
                    );
                    match found.finish_reason {
                        FinishReason::Stop => ended += 1,
                        _ => cut += 1,
                    }
                }
            }
            session.reset();
            assert_eq!(session.cache_free(), 1.0);
        }
    }
    assert!(cut > 20 && ended > 20, "{cut} {ended}");
}
