//! Tiny random models of every family, on every device, against transformers' recorded logits.

use std::path::Path;

use pollster::block_on;
use siskin_engine::{
    CacheType, DeviceRequest, GenerateOptions, LookOptions, OpenOptions, Precision, Sampling,
    Session,
};
use siskin_gpu::Profile;
use siskin_tests::{Tensors, assert_close, fixture, most_devices, tolerance};
use std::ops::ControlFlow;

const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gemma3"];

fn open(
    path: &Path,
    device: DeviceRequest,
    precision: Precision,
    cache_type: CacheType,
) -> Session {
    let options = OpenOptions {
        device,
        context: Some(64),
        cache_types: cache_type.into(),
        precision,
        ..OpenOptions::default()
    };
    block_on(Session::open(path, &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

fn expected(family: &str) -> (Vec<u32>, Vec<f32>) {
    let t = Tensors::open(&format!("tiny/{family}/expected.safetensors"));
    (t.u32("ids"), t.f32("logits"))
}

/// The folder, and the GGUF file where there is one.
fn files(family: &str) -> Vec<std::path::PathBuf> {
    let folder = fixture(&format!("tiny/{family}"));
    let gguf = folder.join("model.gguf");
    if gguf.exists() {
        vec![folder, gguf]
    } else {
        vec![folder]
    }
}

fn requests() -> Vec<(DeviceRequest, Profile)> {
    let gpu = |(i, p)| {
        (
            DeviceRequest::Gpu {
                index: Some(i),
                profile: Some(p),
            },
            p,
        )
    };
    let cpu = (DeviceRequest::Cpu, Profile::BASE);
    std::iter::once(cpu)
        .chain(most_devices().into_iter().map(gpu))
        .collect()
}

fn check_logits(family: &str) {
    let (ids, wanted) = expected(family);
    for file in files(family) {
        for (device, profile) in requests() {
            let mut session = open(&file, device, Precision::F32, CacheType::F32);
            let logits = block_on(session.logits(&ids)).unwrap();
            let what = format!("{family} {} {device:?}", file.display());
            assert_close(&what, &logits, &wanted, tolerance("model", profile));
        }
    }
}

#[test]
fn logits_of_llama() {
    check_logits("llama");
}

#[test]
fn logits_of_the_other_families() {
    // And a model that bitsandbytes quantised.
    for family in FAMILIES.into_iter().chain(["nf4"]) {
        if family != "llama" {
            check_logits(family);
        }
    }
}

#[test]
fn traced_hidden_states_are_those_of_transformers() {
    for family in FAMILIES {
        let t = Tensors::open(&format!("tiny/{family}/expected.safetensors"));
        let ids = t.u32("ids");
        for (device, profile) in requests() {
            let folder = fixture(&format!("tiny/{family}"));
            let mut session = open(&folder, device, Precision::F32, CacheType::F32);
            let layers = session.model.dims().n_layers;
            let mut names = vec!["embed".to_string()];
            names.extend((0..layers - 1).map(|i| format!("model.layers.{i}.hidden")));
            names.push("model.norm".into());
            let traced = block_on(session.trace(&ids, &names, 16)).unwrap();
            assert_eq!(traced.len(), layers + 2, "logits, embedding, layers");
            for (i, traced) in traced[1..].iter().enumerate() {
                let what = format!("{family} {device:?} {}", traced.name);
                let wanted = t.f32(&format!("hidden.{i}"));
                assert_close(&what, &traced.values, &wanted, tolerance("model", profile));
            }
        }
    }
    let folder = fixture("tiny/llama");
    let mut session = open(&folder, DeviceRequest::Cpu, Precision::F32, CacheType::F32);
    let error = block_on(session.trace(&[1], &["nonsense".into()], 1))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`nonsense`") && error.contains("model.layers.1.hidden"),
        "{error}"
    );
}

/// `look` computes attention's weights from traced q and k: with the traced values they must give what
/// the kernels gave.
#[test]
fn attention_weights_are_those_that_the_kernels_used() {
    for family in FAMILIES {
        let (ids, _) = expected(family);
        for (device, profile) in requests() {
            let folder = fixture(&format!("tiny/{family}"));
            let mut session = open(&folder, device, Precision::F32, CacheType::F32);
            let dims = session.model.dims().clone();
            let names = ["v", "attention"].map(|x| format!("model.layers.1.{x}"));
            let traced = block_on(session.trace(&ids, &names, 16)).unwrap();
            let options = LookOptions {
                attention: true,
                ..LookOptions::default()
            };
            let look = block_on(session.look(&ids, &options)).unwrap();
            assert_eq!(look.attention.len(), dims.n_layers);
            let (v, t) = (&traced[1].values, ids.len());
            let group = dims.n_heads / dims.n_kv_heads;
            let mut mixed = vec![0.0; t * dims.n_heads * dims.head_dim];
            for (i, out) in mixed.iter_mut().enumerate() {
                let (row, col) = (
                    i / (dims.n_heads * dims.head_dim),
                    i % (dims.n_heads * dims.head_dim),
                );
                let (head, d) = (col / dims.head_dim, col % dims.head_dim);
                let weights = &look.attention[1][(head * t + row) * t..][..t];
                let value =
                    |at: usize| v[(at * dims.n_kv_heads + head / group) * dims.head_dim + d];
                *out = weights
                    .iter()
                    .enumerate()
                    .map(|(at, w)| w * value(at))
                    .sum();
            }
            let what = format!("{family} {device:?}");
            let tolerance = tolerance("model", profile);
            assert_close(&what, &mixed, &traced[2].values, tolerance);
        }
    }
}

fn greedy(session: &mut Session, prompt: &[u32], n: usize, sampling: Sampling) -> Vec<u32> {
    let options = GenerateOptions {
        max_tokens: n,
        ignore_end: true,
        sampling,
        ..Default::default()
    };
    block_on(session.generate(prompt, &options, async |_| ControlFlow::Continue(())))
        .unwrap()
        .ids
}

#[test]
fn prefill_decode_and_cache_reuse_agree_with_the_logits() {
    for family in FAMILIES {
        let (ids, wanted) = expected(family);
        let vocab = wanted.len() / ids.len();
        let best = |t: usize| {
            let row = &wanted[t * vocab..][..vocab];
            (0..vocab)
                .max_by(|a, b| row[*a].total_cmp(&row[*b]))
                .unwrap() as u32
        };
        for (device, _) in requests() {
            let what = format!("{family} {device:?}");
            let folder = fixture(&format!("tiny/{family}"));
            let mut session = open(&folder, device, Precision::Fast, CacheType::F32);
            // Each prefix's next token: a prefill, then one token at a time over a cache that
            // keeps what came before.
            for n in [1, 12, 13, 14, 30] {
                let token = greedy(&mut session, &ids[..n], 1, Sampling::default());
                assert_eq!(token, [best(n - 1)], "{what}: {n} tokens");
            }
            // Going back: the cache is cut.
            assert_eq!(
                greedy(&mut session, &ids[..5], 1, Sampling::default()),
                [best(4)],
                "{what}"
            );
        }
    }
}

#[test]
fn the_same_seed_draws_the_same_tokens_on_every_device() {
    let sampling = Sampling {
        temperature: 0.9,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.01,
        repeat_penalty: 1.2,
        seed: 1 << 40 | 12_345,
    };
    for family in ["llama", "gemma3"] {
        let (ids, _) = expected(family);
        let folder = fixture(&format!("tiny/{family}"));
        let mut first: Option<Vec<u32>> = None;
        for (device, _) in requests() {
            let mut session = open(&folder, device, Precision::F32, CacheType::F32);
            let tokens = greedy(&mut session, &ids[..9], 30, sampling);
            let again = greedy(&mut session, &ids[..9], 30, sampling);
            assert_eq!(tokens, again, "{family} {device:?}: the same seed again");
            let first = first.get_or_insert(tokens.clone());
            assert_eq!(&tokens, first, "{family} {device:?}");
        }
        let mut session = open(&folder, DeviceRequest::Cpu, Precision::F32, CacheType::F32);
        let other = greedy(
            &mut session,
            &ids[..9],
            30,
            Sampling {
                seed: 1,
                ..sampling
            },
        );
        assert_ne!(Some(other), first, "another seed");
    }
}

#[test]
fn a_decode_step_creates_nothing() {
    for family in FAMILIES {
        let (ids, _) = expected(family);
        for (index, profile) in most_devices() {
            let device = DeviceRequest::Gpu {
                index: Some(index),
                profile: Some(profile),
            };
            let folder = fixture(&format!("tiny/{family}"));
            // The type of the cache changes no count.
            let cache = match family {
                "qwen3" => CacheType::Q8_0,
                _ => CacheType::F16,
            };
            let mut session = open(&folder, device, Precision::Fast, cache);
            greedy(&mut session, &ids[..9], 2, Sampling::default());
            let position = session.tokens().len();
            let counts = block_on(session.decode_counts(position)).unwrap().unwrap();
            let layers = session.model.dims().n_layers as u64;
            let norms = if family == "gemma3" { 2 } else { 0 };
            // On a CPU rope and attention are two kernels.
            let a_layer = norms + if profile == Profile::CPU { 6 } else { 5 };
            assert_eq!(
                counts.dispatches,
                a_layer * layers + 3,
                "{family} {profile}"
            );
            assert_eq!(
                (counts.submits, counts.readbacks),
                (1, 1),
                "{family} {profile}"
            );
            assert_eq!((counts.buffers_created, counts.bind_groups_created), (0, 0));
        }
    }
}

#[test]
fn stops_cancels_and_goes_on() {
    let (ids, _) = expected("llama");
    let folder = fixture("tiny/llama");
    for (device, _) in requests() {
        let mut session = open(&folder, device, Precision::Fast, CacheType::F16);
        let options = GenerateOptions {
            max_tokens: 20,
            ignore_end: true,
            ..Default::default()
        };
        let whole = greedy(&mut session, &ids[..8], 20, Sampling::default());
        let mut seen = 0;
        let answer = block_on(session.generate(&ids[..8], &options, async |event| {
            if let siskin_engine::Event::Token { .. } = event {
                seen += 1;
            }
            if seen == 5 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }))
        .unwrap();
        assert_eq!(answer.finish_reason, siskin_engine::FinishReason::Cancelled);
        assert_eq!(answer.ids, whole[..5]);
        // What was broken off can be gone on with.
        let more: Vec<u32> = ids[..8].iter().chain(&answer.ids).copied().collect();
        assert_eq!(
            greedy(&mut session, &more, 15, Sampling::default()),
            whole[5..]
        );
        // The context ends an answer.
        let long = GenerateOptions {
            max_tokens: 1000,
            ignore_end: true,
            ..Default::default()
        };
        let go_on = async |_: siskin_engine::Event<'_>| ControlFlow::Continue(());
        let answer = block_on(session.generate(&ids[..8], &long, go_on)).unwrap();
        assert_eq!(answer.ids.len(), 64 - 8 + 1);
        assert_eq!(answer.finish_reason, siskin_engine::FinishReason::Length);
        let prompt: Vec<u32> = (0..65).map(|i| 3 + i % 50).collect();
        let error = block_on(session.generate(&prompt, &long, go_on))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("65 tokens") && error.contains("context holds 64"),
            "{error}"
        );
    }
}
