//! Models with recurrent states: what is in the cache is reused only where states can be cut back to.

use std::ops::ControlFlow;

use pollster::block_on;
use siskin_engine::{CacheType, DeviceRequest, GenerateOptions, OpenOptions, Precision, Session};
use siskin_gpu::Profile;
use siskin_tests::{assert_close, devices, family_folder, is_first_driver, tolerance};

fn open(family: &str, device: DeviceRequest) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::default()
    };
    let dir = family_folder(family);
    block_on(Session::open(dir.path(), &options, &mut |_| ())).unwrap()
}

fn answer(session: &mut Session, prompt: &[u32], max_tokens: usize) -> (Vec<u32>, usize) {
    let options = GenerateOptions {
        max_tokens,
        ignore_end: true,
        ..GenerateOptions::default()
    };
    let on_event = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
    let answer = block_on(session.generate(prompt, &options, on_event)).unwrap();
    (answer.ids, answer.cached_tokens)
}

fn requests() -> Vec<(DeviceRequest, Profile)> {
    let gpus = devices().into_iter().filter_map(|(index, profile)| {
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        is_first_driver(index).then_some((device, profile))
    });
    let cpu = (DeviceRequest::Cpu, Profile::BASE);
    std::iter::once(cpu).chain(gpus).collect()
}

#[test]
fn prompts_continue_or_cut_back_a_conversation() {
    let prompt: Vec<u32> = (3..40).collect();
    for family in ["lfm2", "qwen3_5", "mamba2"] {
        for (device, profile) in requests() {
            let mut session = open(family, device);
            let (first, _) = answer(&mut session, &prompt, 6);
            let next = [&prompt[..], &first, &[7, 8, 9]].concat();
            let edited = [&prompt[..20], &[250, 251, 252]].concat();
            // Again; with the answer and a question after it; changed before the copy that was kept; and as at first.
            for tokens in [&prompt, &next, &edited, &prompt] {
                let found = block_on(session.next_logits(tokens)).unwrap();
                let mut fresh = open(family, device);
                let wanted = block_on(fresh.next_logits(tokens)).unwrap();
                let what = format!("{family} {device:?}, {} tokens", tokens.len());
                assert_close(&what, &found, &wanted, tolerance("model", profile));
            }
            let (again, cached) = answer(&mut session, &prompt, 6);
            assert_eq!(again, first, "{family} {device:?}");
            assert_eq!(
                cached,
                prompt.len() - 1,
                "all but the last token are reused"
            );
        }
    }
}

#[test]
fn an_edit_before_the_kept_states_begins_again() {
    let mut session = open("lfm2", DeviceRequest::Cpu);
    let prompt: Vec<u32> = (3..40).collect();
    answer(&mut session, &prompt, 4);
    let (_, cached) = answer(&mut session, &[&prompt[..20], &[250]].concat(), 4);
    assert_eq!(cached, 0);
}
