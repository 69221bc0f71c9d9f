//! Many sequences over one model: each is answered as if it were alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use pollster::block_on;
use siskin_engine::{
    Answer, CacheType, CacheTypes, DeviceRequest, Event, FinishReason, GenerateOptions,
    OpenOptions, Precision, RequestEvent, RequestId, Sampling, Session,
};
use siskin_tests::{family_folder, fixture, most_devices};

pub const CONTEXT: usize = 64;

pub fn open(model: &str, device: DeviceRequest, sequences: usize, cache_tokens: usize) -> Session {
    open_guessing(model, device, [sequences, cache_tokens, 0])
}

pub fn open_guessing(model: &str, device: DeviceRequest, numbers: [usize; 3]) -> Session {
    open_with(model, device, numbers, CacheType::F32.into())
}

pub fn open_with(
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
        scores: 0,
        cache_types,
        precision: Precision::F32,
    };
    let path = fixture(&format!("tiny/{model}"));
    block_on(Session::open(&path, &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

pub fn requests() -> Vec<DeviceRequest> {
    let gpu = |(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    };
    let gpus = most_devices().into_iter().map(gpu);
    std::iter::once(DeviceRequest::Cpu).chain(gpus).collect()
}

/// Prompts of several lengths, of which some begin alike, each with a sampling of its own.
pub fn prompts() -> Vec<(Vec<u32>, GenerateOptions)> {
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

pub fn alone(session: &mut Session) -> Vec<Vec<u32>> {
    let answer = |(prompt, options): (Vec<u32>, GenerateOptions)| {
        session.reset();
        let answer = session.generate(&prompt, &options, async |_| ControlFlow::Continue(()));
        block_on(answer).unwrap().ids
    };
    prompts().into_iter().map(answer).collect()
}

/// Steps until all are answered; `on_step` may do something before each step.
pub fn run(
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

pub fn ids(answers: BTreeMap<RequestId, Answer>) -> Vec<Vec<u32>> {
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
