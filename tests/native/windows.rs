//! Caches of layers with a window hold little more than it, and answers are those of caches that hold everything.

use std::ops::ControlFlow;
use std::path::Path;

use pollster::block_on;
use serde_json::json;
use siskin_engine::{
    Answer, BeamOptions, CacheType, DeviceRequest, GenerateOptions, MemoryFigure, ModelFiles,
    OpenOptions, Precision, Sampling, ScoredText, Session,
};
use siskin_gpu::{GpuDevice, LimitRequest};
use siskin_graph::Capacity;
use siskin_tests::{copy_of, devices, family_folder};
use tempfile::TempDir;

use crate::sequences::{ids, requests, run};

const CONTEXT: usize = 512;

/// With a longer context than its windows of 8 tokens and the rows of a step together.
fn long(folder: TempDir, context: usize) -> TempDir {
    let file = folder.path().join("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["max_position_embeddings"] = json!(context);
    std::fs::write(&file, config.to_string()).unwrap();
    folder
}

/// `sequences` with `cache_tokens` in all. Many for few tokens have windows as long as all.
fn open(path: &Path, device: DeviceRequest, numbers: [usize; 3]) -> Session {
    let [sequences, cache_tokens, guesses] = numbers;
    let options = OpenOptions {
        context: Some(CONTEXT),
        sequences,
        cache_tokens: Some(cache_tokens),
        guesses,
        cache_types: CacheType::F32.into(),
        precision: Precision::F32,
        ..OpenOptions::on(device)
    };
    block_on(Session::open(path, &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

/// One that gives back nothing.
fn open_whole(path: &Path) -> Session {
    open(path, DeviceRequest::Cpu, [8, CONTEXT, 0])
}

fn tokens(n: u32, from: u32) -> Vec<u32> {
    (0..n)
        .map(|i| 3 + (from + i * i * 7 + i * 5) % 27)
        .collect()
}

fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        ignore_end: true,
        ..GenerateOptions::default()
    }
}

fn generate(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Answer {
    let go_on = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
    block_on(session.generate(prompt, options, go_on)).unwrap()
}

/// Of which most begin alike, and some together are longer than a context.
fn prompts() -> Vec<(Vec<u32>, GenerateOptions)> {
    let shared = tokens(200, 1);
    let with = |n, from| [&shared[..], &tokens(n, from)].concat();
    let drawn = GenerateOptions {
        sampling: Sampling {
            temperature: 1.0,
            seed: 7,
            ..Sampling::default()
        },
        ..options(24)
    };
    vec![
        (with(83, 5), options(18)),
        (with(85, 9), drawn.clone()),
        (tokens(400, 3), options(8)),
        (with(3, 2), options(40)),
        (with(230, 8), drawn),
    ]
}

#[test]
fn answers_in_windows_are_those_of_whole_caches() {
    for (n_devices, folder) in [
        (usize::MAX, copy_of("tiny/gemma3")),
        (1, copy_of("tiny/mistral")),
        (1, family_folder("gemma3n")),
    ] {
        let folder = long(folder, CONTEXT);
        let path = folder.path();
        let mut whole = open_whole(path);
        let answers = prompts().into_iter().map(|(prompt, options)| {
            whole.reset();
            generate(&mut whole, &prompt, &options).ids
        });
        let wanted: Vec<Vec<u32>> = answers.collect();
        for (i, device) in requests().into_iter().take(n_devices).enumerate() {
            // Room for all; so little that some begin again; one after another. Less on devices that are slow.
            let all = [[3, 3 * CONTEXT, 3], [3, CONTEXT, 0], [1, CONTEXT, 0]];
            let (n_numbers, n_prompts) = if i == 0 { (3, 5) } else { (1, 3) };
            for numbers in &all[..n_numbers] {
                let what = format!("{} {device:?} {numbers:?}", path.display());
                let mut session = open(path, device, *numbers);
                for (prompt, options) in prompts().into_iter().take(n_prompts) {
                    session.submit(&prompt, options).unwrap();
                }
                let found = ids(run(&mut session, |_, _| ()));
                assert_eq!(found, wanted[..n_prompts], "{what}");
                session.reset();
                assert_eq!(session.cache_free(), 1.0, "{what}: blocks are lost");
            }
        }
    }
}

#[test]
fn a_chat_goes_on_where_it_was_left() {
    let folder = long(copy_of("tiny/gemma3"), CONTEXT);
    let path = folder.path();
    for device in requests().into_iter().take(2) {
        let mut session = open(path, device, [1, CONTEXT, 0]);
        let mut whole = open_whole(path);
        let mut ask = |prompt: &[u32], max_tokens| {
            let answer = generate(&mut session, prompt, &options(max_tokens));
            let wanted = generate(&mut whole, prompt, &options(max_tokens));
            assert_eq!(answer.ids, wanted.ids, "{device:?}");
            answer
        };
        let prompt = tokens(300, 1);
        let first = ask(&prompt, 130);
        // Another answer, although the windows have left the prompt's end; and what follows the answer.
        let again = ask(&prompt, 130);
        assert_eq!(again.cached_tokens, prompt.len() - 1, "{device:?}");
        let next = [&prompt[..], &first.ids, &tokens(20, 4)].concat();
        let answer = ask(&next, 12);
        assert_eq!(answer.cached_tokens, prompt.len() + 129, "{device:?}");
        // Nothing is left of what the middle of the prompt saw.
        let other = [&prompt[..100], &tokens(60, 9)].concat();
        assert_eq!(ask(&other, 12).cached_tokens, 0, "{device:?}");
        // A full context slides.
        let keep = GenerateOptions {
            keep: Some(20),
            ..options(30)
        };
        let full = tokens(CONTEXT as u32 - 9, 2);
        let [answer, wanted] = [&mut session, &mut whole].map(|s| generate(s, &full, &keep).ids);
        assert_eq!(answer, wanted, "{device:?}");
    }
}

#[test]
fn beams_scores_and_saved_sequences_in_windows() {
    let folder = long(copy_of("tiny/gemma3"), CONTEXT);
    let path = folder.path();
    let prompt = tokens(430, 1);
    let text = |n| ScoredText {
        tokens: [&prompt[..], &tokens(60, n)].concat(),
        from: 440,
    };
    let texts = [text(1), text(2), text(3)];
    let beams = BeamOptions {
        beams: 3,
        max_tokens: 5,
        ..BeamOptions::default()
    };
    let search = |session: &mut Session| {
        let found = session.beam_search(&prompt, &beams, |_| ControlFlow::Continue(()));
        let found = block_on(found).unwrap().into_iter();
        found.map(|beam| beam.ids).collect::<Vec<_>>()
    };
    let mut whole = open_whole(path);
    let wanted = search(&mut whole);
    let scores = block_on(whole.score(&texts)).unwrap();
    for device in requests().into_iter().take(2) {
        let mut session = open(path, device, [3, 2 * CONTEXT, 0]);
        assert_eq!(search(&mut session), wanted, "{device:?}");
        let found = block_on(session.score(&texts)).unwrap();
        for (found, wanted) in found.iter().flatten().zip(scores.iter().flatten()) {
            let difference = (found.logprob - wanted.logprob).abs();
            assert!(difference < 1e-3, "{device:?}: {found:?} {wanted:?}");
        }
        let first = generate(&mut session, &prompt, &options(30));
        let file = block_on(session.save("")).unwrap();
        // 459 tokens, 2 heads of 32 in f32: keys and values of the global layer in 29 blocks, of two others in one each.
        let kept = (29 + 2) * 16 * 2 * 2 * 32 * 4;
        assert!(
            file.len() > kept && file.len() < kept + 4096,
            "{}",
            file.len()
        );
        let longer = [&prompt[..], &first.ids, &[9, 8, 7]].concat();
        let wanted = generate(&mut whole, &longer, &options(20)).ids;
        let mut other = open(path, device, [1, CONTEXT, 0]);
        generate(&mut other, &[5; 20], &options(3));
        block_on(other.restore(&file)).unwrap();
        let found = generate(&mut other, &longer, &options(20));
        assert_eq!(
            (found.cached_tokens, found.ids),
            (459, wanted),
            "{device:?}"
        );
    }
}

#[test]
fn a_long_context_costs_memory_for_global_layers_only() {
    let figure = |name: &str, context| {
        let folder = long(copy_of(name), 32_768);
        let ModelFiles { model, weights, .. } = ModelFiles::open(folder.path()).unwrap();
        let types = CacheType::F16.into();
        MemoryFigure::of(&model, &weights.checkpoint, context, types, true)
            .unwrap()
            .kv_cache
    };
    // One global layer and two with a window of 8: keys and values of 2 heads of 32. Of a window there are twice the block
    // that holds it and 3 more, and 256 rows of a step.
    let token = 2 * 2 * 32 * 2;
    let windows = 2 * (1 + 3) * 16 + 256;
    assert_eq!(
        figure("tiny/gemma3", 32_768),
        (32_768 + 2 * windows) * token
    );
    assert_eq!(figure("tiny/gemma3", 100), 3 * 100 * token);
    assert_eq!(figure("tiny/llama", 32_768), 2 * 32_768 * token / 2);
    // The buffers are as large: f32 keys of 8192 tokens do not fit in 600 KiB, unless they are of windows.
    let folder = long(copy_of("tiny/mistral"), 8192);
    let model = ModelFiles::open(folder.path()).unwrap().model;
    let graph = model.graph(model.head()).unwrap();
    let (index, profile) = devices()[0];
    let limits = LimitRequest::Binding(600 << 10);
    let mut gpu = block_on(GpuDevice::open_with(Some(index), Some(profile), limits)).unwrap();
    let mut fits = |capacity| gpu.set_caches(&graph, capacity, CacheType::F32.into());
    let whole = Capacity::alone(8192);
    assert!(fits(whole).is_err());
    fits(whole.with_windows(&graph, 256)).unwrap();
}
