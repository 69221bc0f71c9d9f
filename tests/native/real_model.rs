//! SmolLM2-135M-Instruct Q4_1 against transformers' recorded f32 logits of the same weights, and
//! the answer that the README promises. `cargo xtask test` fetches the model first.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pollster::block_on;
use siskin_engine::{
    CacheType, CacheTypes, DeviceRequest, GenerateOptions, OpenOptions, Precision, Session,
};
use siskin_gpu::{Product, Profile};
use siskin_tests::{Tensors, devices, gpus, is_first_driver};
use siskin_text::Message;

fn model() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("models/smollm2-135m-instruct.gguf");
    assert!(
        path.exists(),
        "the real model is missing; run `cargo xtask test`, which fetches it"
    );
    path
}

fn open(device: DeviceRequest, precision: Precision, cache: impl Into<CacheTypes>) -> Session {
    let options = OpenOptions {
        device,
        context: Some(512),
        cache_types: cache.into(),
        precision,
        ..OpenOptions::default()
    };
    block_on(Session::open(&model(), &options, &mut |_| ())).unwrap_or_else(|e| panic!("{e}"))
}

/// Every profile of the first GPU; of each further one, the profile that it would be given.
fn devices_for_the_real_model() -> Vec<(usize, Profile)> {
    let gpus = gpus();
    let mut found = devices();
    found.retain(|(index, profile)| is_first_driver(*index) || gpus[*index].profile == *profile);
    found
}

struct Parity {
    max: f32,
    /// Over the 32 likeliest tokens and the rest as one.
    mean_kl: f64,
    top1: f64,
}

fn parity(logits: &[f32], t: &Tensors, n: usize) -> Parity {
    let (lse, top_ids, top) = (t.f32("lse"), t.u32("top_ids"), t.f32("top"));
    let (other_ids, others) = (t.u32("other_ids"), t.f32("others"));
    let vocab = logits.len() / n;
    let mut p = Parity {
        max: 0.0,
        mean_kl: 0.0,
        top1: 0.0,
    };
    let mut agreed = 0u32;
    for i in 0..n {
        let row = &logits[i * vocab..][..vocab];
        let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = row.iter().map(|l| f64::from(l - peak).exp()).sum();
        let own_lse = f64::from(peak) + total.ln();
        let (mut rest_p, mut rest_q, mut kl) = (1f64, 1f64, 0f64);
        for j in 0..32 {
            let (id, wanted) = (top_ids[i * 32 + j] as usize, top[i * 32 + j]);
            p.max = p.max.max((row[id] - wanted).abs());
            let log_p = f64::from(wanted) - f64::from(lse[i]);
            let log_q = f64::from(row[id]) - own_lse;
            kl += log_p.exp() * (log_p - log_q);
            rest_p -= log_p.exp();
            rest_q -= log_q.exp();
            p.max = p
                .max
                .max((row[other_ids[j] as usize] - others[i * 32 + j]).abs());
        }
        if rest_p > 1e-6 && rest_q > 1e-6 {
            kl += rest_p * (rest_p / rest_q).ln();
        }
        p.mean_kl += kl / n as f64;
        let best = row.iter().position(|l| *l == peak).unwrap_or(0);
        agreed += u32::from(best as u32 == top_ids[i * 32]);
    }
    p.top1 = f64::from(agreed) / n as f64;
    p
}

/// Logits of the first `n` tokens, `rows` at once, within the bounds of how they are computed.
fn check(what: &str, session: &mut Session, n: usize, rows: usize, integer: bool) {
    let t = Tensors::open("real/expected.safetensors");
    let ids = t.u32("ids");
    let traced = block_on(session.trace(&ids[..n], &[], rows)).unwrap();
    let p = parity(&traced[0].values, &t, n);
    println!(
        "{what}: max |Δ| {:.1e}, mean KL {:.1e}, top-1 {:.4}",
        p.max, p.mean_kl, p.top1
    );
    assert!(p.mean_kl.abs() <= 2e-3 && p.top1 >= 0.98, "{what}");
    if !integer {
        assert!(p.max <= 5e-3 && p.top1 == 1.0, "{what}: {}", p.max);
    }
}

/// The prefill's kernels over the first `tokens`, then the decode step's over the first `decoded`.
fn check_both(
    what: &str,
    mut open: impl FnMut() -> Session,
    [tokens, decoded]: [usize; 2],
    integer: bool,
) {
    check(&format!("{what} prefill"), &mut open(), tokens, 32, integer);
    check(&format!("{what} decode"), &mut open(), decoded, 1, integer);
}

#[test]
fn logits_are_those_of_transformers() {
    let cpu = |precision, cache| move || open(DeviceRequest::Cpu, precision, cache);
    check_both(
        "cpu f32",
        cpu(Precision::F32, CacheType::F32),
        [256, 32],
        false,
    );
    check_both(
        "cpu fast",
        cpu(Precision::Fast, CacheType::F16),
        [256, 64],
        true,
    );
    for (index, profile) in devices_for_the_real_model() {
        let device = DeviceRequest::Gpu {
            index: Some(index),
            profile: Some(profile),
        };
        let integer = profile.product == Product::Dot4;
        let cache = if integer {
            CacheType::F16
        } else {
            CacheType::F32
        };
        let gpu = || open(device, Precision::F32, cache);
        // On a CPU a GPU's kernels take a second per token; tiny models say the same of their arithmetic. What
        // the sizes of a real model add are long rows and many tiles: some tokens show that.
        let tokens = match (is_first_driver(index), profile) {
            (true, Profile::CPU) => [64, 16],
            (true, _) => [16, 4],
            _ => [8, 2],
        };
        check_both(&format!("gpu:{index} {profile}"), gpu, tokens, integer);
    }
}

/// The mean KL divergence of the next token's distributions, and how often the likeliest token is the same.
fn divergence(wanted: &[f32], found: &[f32], vocab: usize) -> (f64, f64) {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = row.iter().map(|l| f64::from(l - peak).exp()).sum();
        let shift = f64::from(peak) + total.ln();
        row.iter().map(|l| f64::from(*l) - shift).collect()
    };
    let best = |row: &[f32]| {
        row.iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|b| b.0)
    };
    let rows = wanted.chunks_exact(vocab).zip(found.chunks_exact(vocab));
    let n = rows.len() as f64;
    rows.fold((0.0, 0.0), |(kl, same), (wanted, found)| {
        let (p, q) = (log_softmax(wanted), log_softmax(found));
        let row: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        let is_same = f64::from(u8::from(best(wanted) == best(found)));
        (kl + row / n, same + is_same / n)
    })
}

#[test]
fn quantised_caches_change_little() {
    use CacheType::{F16, Q4_0, Q8_0};
    let ids = Tensors::open("real/expected.safetensors").u32("ids");
    let ids = &ids[..256];
    let logits = |keys, values| {
        let cache = CacheTypes { keys, values };
        let mut session = open(DeviceRequest::Cpu, Precision::Fast, cache);
        let traced = block_on(session.trace(ids, &[], 32)).unwrap();
        traced.into_iter().next().unwrap().values
    };
    let wanted = logits(F16, F16);
    for (keys, values, most) in [(Q8_0, Q8_0, 1e-3), (Q8_0, Q4_0, 2e-2), (Q4_0, Q4_0, 0.5)] {
        let (kl, same) = divergence(&wanted, &logits(keys, values), wanted.len() / ids.len());
        println!("cache of {keys} and {values}: mean KL {kl:.1e}, top-1 {same:.3}");
        assert!((0.0..=most).contains(&kl), "{keys} {values}: {kl}");
    }
}

#[test]
fn the_capital_of_france() {
    let cpu = (DeviceRequest::Cpu, "cpu".to_string());
    // A whole answer by the first GPU's fastest kernels only: of the others' arithmetic, the logits tell.
    let gpus = devices()
        .into_iter()
        .filter(|(i, p)| is_first_driver(*i) && *p == Profile::CPU)
        .map(|(i, p)| {
            (
                DeviceRequest::Gpu {
                    index: Some(i),
                    profile: Some(p),
                },
                format!("gpu:{i} {p}"),
            )
        });
    for (device, what) in std::iter::once(cpu).chain(gpus) {
        let mut session = open(device, Precision::Fast, CacheType::F16);
        let prompt = [Message::new("user", "What is the capital of France?")];
        let ids = session.text.prompt(&prompt, false).unwrap();
        assert_eq!(ids.len(), 37);
        assert_eq!(
            ids[20..32],
            [198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2]
        );
        let options = GenerateOptions::default();
        let answer =
            block_on(session.generate(&ids, &options, async |_| ControlFlow::Continue(())))
                .unwrap();
        assert_eq!(answer.text, "The capital of France is Paris.", "{what}");
        assert_eq!(answer.ids.last(), Some(&2), "{what}");
    }
}

#[test]
fn decoding_agrees_with_the_prefill() {
    // The fast path's decode step and its prefill are different arithmetic: both must find the
    // same tokens.
    let t = Tensors::open("real/expected.safetensors");
    let ids = t.u32("ids");
    let top = t.u32("top_ids");
    let mut session = open(DeviceRequest::Cpu, Precision::Fast, CacheType::F16);
    let options = GenerateOptions {
        max_tokens: 1,
        ignore_end: true,
        ..Default::default()
    };
    let mut same = 0;
    for n in 1..=64 {
        let prompt = &ids[..n];
        let answer =
            block_on(session.generate(prompt, &options, async |_| ControlFlow::Continue(())))
                .unwrap();
        assert_eq!(answer.cached_tokens, n - 1);
        same += usize::from(answer.ids == [top[(n - 1) * 32]]);
    }
    assert!(same >= 63, "{same} of 64");
}
