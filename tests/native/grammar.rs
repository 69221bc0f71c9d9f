//! Answers of a tiny random model, which says anything, follow what is asked of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use pollster::block_on;
use serde_json::{Value, json};
use siskin_engine::{
    Answer, CacheType, DeviceRequest, FinishReason, GenerateOptions, Grammar, OpenOptions,
    Precision, RequestEvent, Sampling, Session,
};
use siskin_grammar::{Grammars, Shape};
use siskin_tests::{fixture, most_devices};

fn open(device: DeviceRequest, sequences: usize) -> Session {
    let options = OpenOptions {
        context: Some(128),
        sequences,
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::on(device)
    };
    block_on(Session::open(&fixture("tiny/llama"), &options, &mut |_| ())).unwrap()
}

/// The CPU and the first GPU.
fn devices() -> Vec<DeviceRequest> {
    let gpus = most_devices().into_iter().take(1);
    let gpus = gpus.map(|(index, profile)| DeviceRequest::Gpu {
        index: Some(index),
        profile: Some(profile),
    });
    std::iter::once(DeviceRequest::Cpu).chain(gpus).collect()
}

fn options(grammar: Arc<dyn Grammar>, seed: u64) -> GenerateOptions {
    GenerateOptions {
        sampling: Sampling {
            temperature: 1.5,
            top_k: 50,
            top_p: 0.95,
            seed,
            ..Sampling::default()
        },
        max_tokens: 100,
        grammar: Some(grammar),
        ..GenerateOptions::default()
    }
}

/// Side by side, each with another seed.
fn answers(session: &mut Session, grammar: &Arc<dyn Grammar>, n: u64) -> Vec<Answer> {
    for seed in 0..n {
        let options = options(grammar.clone(), seed);
        session.submit(&[1, 9, 30, 4], options).unwrap();
    }
    let mut answers = vec![];
    while !session.is_idle() {
        for update in block_on(session.step()).unwrap() {
            match update.event {
                RequestEvent::Done(answer) => answers.push(*answer),
                RequestEvent::Failed(e) => panic!("{e}"),
                _ => {}
            }
        }
    }
    answers
}

fn is_person(value: &Value) -> bool {
    let Some(object) = value.as_object() else {
        return false;
    };
    let known = ["name", "age", "tags"];
    let age = object.get("age").and_then(Value::as_i64);
    let name = object.get("name").and_then(Value::as_str);
    let is_tag = |tag: &Value| tag == "red" || tag == "green";
    object.keys().all(|k| known.contains(&k.as_str()))
        && age.is_some_and(|age| (0..=150).contains(&age))
        && name.is_some_and(|name| name.chars().count() <= 5)
        && (object.get("tags")).is_none_or(|t| t.as_array().is_some_and(|t| t.iter().all(is_tag)))
}

type Check = fn(&str) -> bool;

#[test]
fn answers_follow_their_shape() {
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let shapes: [(Shape, Check, usize); 5] = [
        (
            Shape::JsonSchema(person),
            |text| serde_json::from_str(text).is_ok_and(|v| is_person(&v)),
            6,
        ),
        (
            Shape::JsonObject,
            |text| serde_json::from_str::<Value>(text).is_ok_and(|v| v.is_object()),
            1,
        ),
        (
            Shape::Regex("[0-9]{2}[0-9]\\/[a-f]+ü?".into()),
            |text| {
                let (number, rest) = text.split_once('/').unwrap_or_default();
                let rest = rest.trim_end_matches('ü');
                number.len() == 3
                    && number.bytes().all(|b| b.is_ascii_digit())
                    && !rest.is_empty()
                    && rest.bytes().all(|b| (b'a'..=b'f').contains(&b))
            },
            4,
        ),
        (
            Shape::Grammar("start: (\"ab\" | \"c\")+ \"!\"".into()),
            |text| {
                let body = text.strip_suffix('!').unwrap_or_default();
                !body.is_empty() && body.replace("ab", "").replace('c', "").is_empty()
            },
            6,
        ),
        (
            Shape::Choice(vec!["yes, \"sure\"".into(), "no".into()]),
            |text| ["yes, \"sure\"", "no"].contains(&text),
            8,
        ),
    ];
    for device in devices() {
        let mut session = open(device, 4);
        let grammars = Grammars::new(session.text.clone()).unwrap();
        for (shape, is_right, least) in &shapes {
            let grammar = grammars.compile(shape).unwrap();
            let mut finished = 0;
            for answer in answers(&mut session, &grammar, 8) {
                // One that is cut has no end.
                if answer.finish_reason == FinishReason::Stop {
                    assert!(
                        is_right(&answer.text),
                        "{device:?} {shape:?}: {}",
                        answer.text
                    );
                    finished += 1;
                }
            }
            assert!(
                finished >= *least,
                "{device:?} {shape:?}: {finished} finished"
            );
        }
    }
}

#[test]
fn a_grammar_disturbs_no_other_request_and_forced_tokens_take_no_steps() {
    for device in devices() {
        let mut session = open(device, 3);
        let plain = GenerateOptions {
            max_tokens: 20,
            ignore_end: true,
            ..GenerateOptions::default()
        };
        let generate = session.generate(&[5, 6, 7], &plain, async |_| ControlFlow::Continue(()));
        let wanted = block_on(generate).unwrap().ids;
        let grammars = Grammars::new(session.text.clone()).unwrap();
        let long = "the same as it ever was";
        let grammar = grammars.compile(&Shape::Choice(vec![long.into()])).unwrap();
        let forced = session
            .submit(&[9, 8], options(grammar.clone(), 1))
            .unwrap();
        let other = session.submit(&[5, 6, 7], plain).unwrap();
        let with_logprobs = GenerateOptions {
            logprobs: Some(2),
            ..options(grammar, 1)
        };
        let told = session.submit(&[9, 8], with_logprobs).unwrap();
        let mut steps = std::collections::HashMap::new();
        let mut step = 0;
        while !session.is_idle() {
            step += 1;
            for update in block_on(session.step()).unwrap() {
                let RequestEvent::Done(answer) = update.event else {
                    continue;
                };
                steps.insert(update.request, step);
                if update.request == other {
                    assert_eq!(answer.ids, wanted, "{device:?}");
                } else {
                    assert_eq!(
                        (&*answer.text, answer.finish_reason),
                        (long, FinishReason::Stop)
                    );
                }
                if update.request == told {
                    // All were chosen, so that each has a probability.
                    assert_eq!(answer.logprobs.len(), answer.ids.len());
                }
            }
        }
        assert!(steps[&forced] + 3 < steps[&told], "{device:?} {steps:?}");
    }
}

#[test]
fn shapes_that_cannot_be_used_are_refused_with_the_reason() {
    let session = open(DeviceRequest::Cpu, 1);
    let grammars = Grammars::new(session.text.clone()).unwrap();
    for (shape, what) in [
        (
            Shape::Regex("(".into()),
            "the regular expression cannot be used: ",
        ),
        (Shape::Grammar("start: nothing".into()), "nothing"),
        (Shape::JsonSchema(json!({"type": "nope"})), "nope"),
        (
            Shape::JsonSchema(json!({"unevaluatedProperties": false})),
            "unevaluatedProperties",
        ),
        (Shape::Choice(vec![]), "texts that are not empty"),
    ] {
        let refused = grammars.compile(&shape).unwrap_err().to_string();
        assert!(
            refused.contains(what) && !refused.contains('\n'),
            "{refused}"
        );
    }
}
