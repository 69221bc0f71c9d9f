//! Penalties of tokens that an answer has, and biases of tokens.

use std::ops::ControlFlow;

use pollster::block_on;
use siskin_engine::{DeviceRequest, GenerateOptions, Sampling, Session};
use siskin_grammar::{Grammars, Shape};

use crate::sequences::{CONTEXT, ids, open, open_guessing, requests, run};

fn prompt() -> Vec<u32> {
    (0..11).map(|i| 3 + i * 7 % 50).collect()
}

fn plain() -> GenerateOptions {
    GenerateOptions {
        max_tokens: 16,
        ignore_end: true,
        ..GenerateOptions::default()
    }
}

/// Each by itself, all together, and none.
fn all_options(likeliest: u32) -> Vec<GenerateOptions> {
    let frequency = GenerateOptions {
        frequency_penalty: 1.5,
        ..plain()
    };
    let presence = GenerateOptions {
        presence_penalty: 2.0,
        ..plain()
    };
    let bias = GenerateOptions {
        logit_bias: [(likeliest, -100.0), (17, 1.0), (40, 2.5)].into(),
        ..plain()
    };
    let together = GenerateOptions {
        sampling: Sampling {
            repeat_penalty: 1.3,
            ..Sampling::default()
        },
        frequency_penalty: -0.5,
        presence_penalty: 1.2,
        ..bias.clone()
    };
    vec![frequency, presence, bias, together, plain()]
}

fn generate(session: &mut Session, options: &GenerateOptions) -> siskin_engine::Answer {
    let go_on = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
    block_on(session.generate(&prompt(), options, go_on)).unwrap()
}

/// The likeliest token by OpenAI's definition, then the repeat penalty's.
fn by_hand(logits: &[f32], answer: &[u32], options: &GenerateOptions) -> u32 {
    let context = [&prompt()[..], answer].concat();
    let value = |id: u32| {
        let count = answer.iter().filter(|t| **t == id).count() as f32;
        let bias = options.logit_bias.get(&id).copied().unwrap_or(0.0);
        if bias == -100.0 {
            return f32::NEG_INFINITY;
        }
        let present = if count > 0.0 { 1.0 } else { 0.0 };
        let logit = logits[id as usize] + bias
            - options.presence_penalty * present
            - options.frequency_penalty * count;
        let penalty = options.sampling.repeat_penalty;
        match (context.contains(&id), logit > 0.0) {
            (false, _) => logit,
            (true, true) => logit / penalty,
            (true, false) => logit * penalty,
        }
    };
    let ids = 0..logits.len() as u32;
    ids.max_by(|a, b| value(*a).total_cmp(&value(*b))).unwrap()
}

fn answer_by_hand(session: &mut Session, options: &GenerateOptions) -> Vec<u32> {
    let mut answer = vec![];
    while answer.len() < options.max_tokens {
        let tokens = [&prompt()[..], &answer].concat();
        let logits = block_on(session.next_logits(&tokens)).unwrap();
        answer.push(by_hand(&logits, &answer, options));
    }
    answer
}

#[test]
fn penalties_and_biases_are_as_defined_on_every_device_and_in_batches() {
    let mut cpu = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
    let likeliest = generate(&mut cpu, &plain()).ids[0];
    let all = all_options(likeliest);
    let wanted: Vec<Vec<u32>> = all.iter().map(|o| answer_by_hand(&mut cpu, o)).collect();
    let unlike = wanted[..4].iter().filter(|w| **w != wanted[4]).count();
    assert_eq!(unlike, 4, "{wanted:?}");
    assert!(wanted[2].iter().all(|id| *id != likeliest));
    for device in requests() {
        let mut session = open("llama", device, 5, 5 * CONTEXT);
        for (options, wanted) in all.iter().zip(&wanted) {
            assert_eq!(generate(&mut session, options).ids, *wanted, "{device:?}");
        }
        for options in &all {
            session.submit(&prompt(), options.clone()).unwrap();
        }
        assert_eq!(ids(run(&mut session, |_, _| ())), wanted, "{device:?}");
    }
}

/// A penalty below zero makes an answer repeat itself, so that guesses are often right.
#[test]
fn guesses_change_no_answer() {
    let often = GenerateOptions {
        frequency_penalty: -2.0,
        max_tokens: 40,
        ..plain()
    };
    let rarely = GenerateOptions {
        sampling: Sampling {
            temperature: 1.0,
            seed: 3,
            ..Sampling::default()
        },
        frequency_penalty: 0.3,
        presence_penalty: 0.5,
        ..often.clone()
    };
    let banned = GenerateOptions {
        logit_bias: (20..120).map(|id| (id, -100.0)).collect(),
        ..rarely.clone()
    };
    let all = [often, rarely, banned];
    let mut cpu = open("gemma3", DeviceRequest::Cpu, 1, CONTEXT);
    let wanted = all.each_ref().map(|o| generate(&mut cpu, o).ids);
    assert!(wanted[2].iter().all(|id| !(20..120).contains(id)));
    for device in requests() {
        let mut session = open_guessing("gemma3", device, [3, 3 * CONTEXT, 6]);
        for options in &all {
            session.submit(&prompt(), options.clone()).unwrap();
        }
        let answers = run(&mut session, |_, _| ());
        let right: usize = answers.values().map(|a| a.right_guesses).sum();
        assert!(right > 0, "{device:?}");
        assert_eq!(ids(answers), wanted, "{device:?}");
    }
}

#[test]
fn log_probabilities_are_those_without() {
    for device in requests() {
        let mut session = open("llama", device, 1, CONTEXT);
        let logits = block_on(session.next_logits(&prompt())).unwrap();
        let options = GenerateOptions {
            logit_bias: [(40, 100.0)].into(),
            logprobs: Some(1),
            max_tokens: 1,
            ..plain()
        };
        let answer = generate(&mut session, &options);
        assert_eq!(answer.ids, [40]);
        let total: f32 = logits.iter().map(|l| l.exp()).sum();
        let logprob = answer.logprobs[0].logprob;
        let wanted = logits[40] - total.ln();
        assert!((logprob - wanted).abs() < 1e-4, "{logprob} {wanted}");
        assert_ne!(answer.logprobs[0].top[0].id, 40);
    }
}

#[test]
fn steps_without_them_are_what_they_were() {
    for device in requests() {
        let mut session = open("llama", device, 1, CONTEXT);
        let mut counted = |options: &GenerateOptions| {
            session.reset();
            session.take_counts();
            generate(&mut session, options);
            session.take_counts()
        };
        let Some(before) = counted(&plain()) else {
            continue;
        };
        let biased = counted(&GenerateOptions {
            logit_bias: [(5, 2.0)].into(),
            ..plain()
        });
        // Biases are known before the answer, so that steps need not wait for one another.
        let biased = biased.unwrap();
        assert_eq!(
            [biased.dispatches, biased.submits, biased.readbacks],
            [before.dispatches, before.submits, before.readbacks]
        );
        let penalised = counted(&GenerateOptions {
            presence_penalty: 1.0,
            ..plain()
        });
        assert_eq!(penalised.unwrap().submits, 16);
        assert_eq!(counted(&plain()), Some(before));
        assert_eq!([before.buffers_created, before.bind_groups_created], [0, 0]);
    }
}

#[test]
fn what_is_out_of_range_is_refused_by_name() {
    let mut session = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
    let bias = |id, bias| GenerateOptions {
        logit_bias: [(id, bias)].into(),
        ..plain()
    };
    let frequency = GenerateOptions {
        frequency_penalty: f32::NAN,
        ..plain()
    };
    let presence = GenerateOptions {
        presence_penalty: 2.1,
        ..plain()
    };
    let all_banned = GenerateOptions {
        logit_bias: (0..320).map(|id| (id, -100.0)).collect(),
        ..plain()
    };
    for (options, wanted) in [
        (frequency, "frequency_penalty is NaN"),
        (
            presence,
            "presence_penalty is 2.1, which is out of range; it must be from -2 to 2",
        ),
        (
            bias(320, 1.0),
            "logit_bias: token 320 is not in the vocabulary of 320",
        ),
        (
            bias(3, 100.5),
            "logit_bias: the bias of token 3 is 100.5; it must be from -100 to 100",
        ),
        (all_banned, "logit_bias: all tokens are banned"),
    ] {
        let refused = session.submit(&prompt(), options).unwrap_err().to_string();
        assert!(refused.contains(wanted), "{refused}");
    }
}

#[test]
fn a_grammar_whose_tokens_are_banned_is_refused() {
    let mut session = open("llama", DeviceRequest::Cpu, 1, CONTEXT);
    let grammars = Grammars::new(session.text.clone()).unwrap();
    let grammar = grammars.compile(&Shape::Regex("[ab]".into())).unwrap();
    let [a, b] = ["a", "b"].map(|text| session.text.encode(text).unwrap()[0].id);
    let mut with = |logit_bias| {
        let options = GenerateOptions {
            grammar: Some(grammar.clone()),
            logit_bias,
            ..GenerateOptions::default()
        };
        let go_on = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
        block_on(session.generate(&prompt(), &options, go_on))
    };
    let free = with([].into()).unwrap();
    assert!(free.text == "a" || free.text == "b", "{}", free.text);
    assert_eq!(with([(a, -100.0)].into()).unwrap().text, "b");
    assert_eq!(with([(b, -100.0)].into()).unwrap().text, "a");
    let refused = with([(a, -100.0), (b, -100.0)].into()).unwrap_err();
    assert!(
        refused.to_string().contains("logit_bias bans all tokens"),
        "{refused}"
    );
}
