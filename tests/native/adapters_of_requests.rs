//! Adapters that requests choose.

use pollster::block_on;
use siskin_engine::{Adapter, AdapterModule, DeviceRequest, GenerateOptions, Session};
use siskin_tests::fixture;

use crate::sequences::{CONTEXT, alone, ids, open, prompts, requests, run};

/// Of the tiny Llama.
const HIDDEN: usize = 64;
const VOCAB: usize = 320;

/// A LoRA adapter that changes the head too, and a DoRA adapter.
pub fn adapters() -> [(&'static str, Adapter); 2] {
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
        // All devices with one choice; with the other, some.
        let most = if choice[0].is_some() { usize::MAX } else { 2 };
        for device in requests().into_iter().take(most) {
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
