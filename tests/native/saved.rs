//! Sequences that are saved and restored.

use std::ops::ControlFlow;

use pollster::block_on;
use siskin_engine::{
    CacheType, CacheTypes, DeviceRequest, GenerateOptions, OpenOptions, Precision, Session,
};
use siskin_tests::{family_folder, fixture};

use crate::adapters_of_requests::adapters;
use crate::sequences::{CONTEXT, open, open_with, requests};

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
