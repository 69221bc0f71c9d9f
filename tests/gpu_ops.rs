//! Each kernel, in each profile of each adapter, against its CPU twin. Inputs come by way of an
//! embedding of random values, so that every case is a small graph run on both.

use std::collections::HashMap;

use pollster::block_on;
use siskin_cpu::{CacheType, CpuDevice, CpuPart, CpuWeight, Precision};
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, LimitRequest, Profile};
use siskin_graph::{Activation, AttentionSpec, Fusion, Graph, NodeId, Plan, Sampling, WeightKind};
use siskin_tests::{assert_close, devices, tolerance, values, weights};

/// Long enough for a token's attention to be shared among workgroups.
const CONTEXT: usize = 1200;

/// A graph under construction, with the weights it names.
struct Case {
    graph: Graph,
    weights: HashMap<String, CpuWeight>,
    vocab: usize,
}

impl Case {
    /// Begins with an embedding `[T, cols]` of random values.
    fn new(cols: usize) -> (Self, NodeId) {
        let mut case = Self {
            graph: Graph::default(),
            weights: HashMap::new(),
            vocab: 50,
        };
        let table = case.matrix("table", &[(TensorType::F32, 50)], cols);
        let x = case.graph.embed(table, 1.5);
        (case, x)
    }

    fn matrix(
        &mut self,
        name: &str,
        parts: &[(TensorType, usize)],
        cols: usize,
    ) -> siskin_graph::WeightId {
        let parts: Vec<CpuPart> = parts
            .iter()
            .enumerate()
            .map(|(i, (ty, rows))| {
                let seed = 100 * name.len() as u32 + i as u32 + ty.ggml();
                CpuPart {
                    ty: *ty,
                    rows: *rows,
                    bytes: weights(*ty, seed, rows * cols),
                }
            })
            .collect();
        let named: Vec<_> = parts.iter().map(|p| (name, p.rows)).collect();
        let id = self.graph.matrix(name, &named, cols);
        self.weights
            .insert(name.into(), CpuWeight::Matrix { parts, cols });
        id
    }

    fn vector(&mut self, name: &str, n: usize) -> siskin_graph::WeightId {
        let id = self.graph.vector(name, &[(name, n)]);
        self.weights
            .insert(name.into(), CpuWeight::Vector(values(name.len() as u32, n)));
        id
    }

    /// The output's values after running `tokens` from position 0 in steps of these sizes.
    fn on_cpu(&self, tokens: &[u32], steps: &[usize]) -> Vec<f32> {
        let mut cpu = CpuDevice::new(Precision::F32);
        self.weights
            .iter()
            .for_each(|(name, w)| cpu.add_weight(name, w.clone()));
        cpu.set_context(&self.graph, CONTEXT, CacheType::F32);
        let (mut at, mut out) = (0, vec![]);
        for n in steps {
            let plan = Plan::new(self.graph.clone(), *n, Fusion::NONE, |_| false);
            cpu.run(&plan, &tokens[at..at + n], at, &Sampling::default(), true)
                .unwrap();
            out.extend(cpu.read(&plan, self.graph.outputs[0], *n));
            at += n;
        }
        out
    }

    fn load(&self, gpu: &mut GpuDevice, kv_f32: bool) {
        for weight in &self.graph.weights {
            match (&weight.kind, self.weights.get(&weight.name)) {
                (WeightKind::Constant(v), _) => gpu.add_vector(&weight.name, v).unwrap(),
                (_, Some(CpuWeight::Vector(v))) => gpu.add_vector(&weight.name, v).unwrap(),
                (_, Some(CpuWeight::Matrix { parts, cols })) => {
                    let types: Vec<_> = parts.iter().map(|p| (p.ty, p.rows)).collect();
                    let mut upload = gpu.matrix(&weight.name, &types, *cols).unwrap();
                    parts.iter().for_each(|p| upload.part(&p.bytes).unwrap());
                    upload.finish().unwrap();
                }
                _ => panic!("{} has no values", weight.name),
            }
        }
        gpu.set_context(&self.graph, CONTEXT, kv_f32).unwrap();
    }

    fn on_gpu(
        &self,
        gpu: &mut GpuDevice,
        kv_f32: bool,
        tokens: &[u32],
        steps: &[usize],
    ) -> Vec<f32> {
        self.load(gpu, kv_f32);
        let (mut at, mut out) = (0, vec![]);
        for n in steps {
            out.extend(
                block_on(gpu.evaluate(&self.graph, &tokens[at..at + n], at))
                    .unwrap()
                    .swap_remove(0),
            );
            at += n;
        }
        out
    }

    fn tokens(&self, n: usize) -> Vec<u32> {
        values(77, n)
            .iter()
            .map(|v| ((v + 1.0) * 0.5 * self.vocab as f32) as u32)
            .collect()
    }

    /// Compares every device, however the tokens come.
    fn check(&self, what: &str, op: &str, runs: &[&[usize]]) {
        for (index, profile) in devices() {
            let mut gpu = open(index, profile, LimitRequest::Adapter);
            for steps in runs {
                let tokens = self.tokens(steps.iter().sum());
                let wanted = self.on_cpu(&tokens, steps);
                let found = self.on_gpu(&mut gpu, true, &tokens, steps);
                let what = format!("{what} {profile} {steps:?}");
                assert_close(&what, &found, &wanted, tolerance(op, profile));
            }
        }
    }
}

fn open(index: usize, profile: Profile, limits: LimitRequest) -> GpuDevice {
    block_on(GpuDevice::open_with(Some(index), Some(profile), limits)).unwrap()
}

#[test]
fn linear_of_every_type() {
    for (ty, _, name) in TensorType::ALL {
        let k = if ty.block_len() == 256 { 512 } else { 160 };
        let (mut case, x) = Case::new(k);
        let w = case.matrix("projection", &[(ty, 75)], k);
        let y = case.graph.linear(x, w, None).unwrap();
        case.graph.output(y);
        // Types that are kept rounded are compared more loosely.
        let op = if matches!(ty, TensorType::Q2_K | TensorType::Q5_K) {
            "attention_f16"
        } else {
            "linear"
        };
        case.check(name, op, &[&[1], &[2], &[37]]);
    }
}

#[test]
fn embedding_of_every_type() {
    for (ty, _, name) in TensorType::ALL {
        let mut case = Case {
            graph: Graph::default(),
            weights: HashMap::new(),
            vocab: 50,
        };
        let table = case.matrix("table", &[(ty, 50)], 256);
        let x = case.graph.embed(table, 0.5);
        case.graph.output(x);
        let op = if matches!(ty, TensorType::Q2_K | TensorType::Q5_K) {
            "attention_f16"
        } else {
            "embed"
        };
        case.check(name, op, &[&[1], &[9]]);
    }
}

#[test]
fn norm_bias_and_residual_in_a_linear() {
    for ty in [TensorType::F32, TensorType::Q4_1, TensorType::Q8_0] {
        let (mut case, x) = Case::new(96);
        let norm = case.vector("norm", 96);
        let w = case.matrix("projection", &[(ty, 96)], 96);
        let bias = case.vector("bias", 96);
        let h = case.graph.rms_norm(x, norm, 1e-5).unwrap();
        let h = case.graph.linear(h, w, Some(bias)).unwrap();
        // The residual is x itself, then another linear's output.
        let y = case.graph.add(x, h).unwrap();
        let z = case.graph.linear(y, w, None).unwrap();
        let z = case.graph.add(y, z).unwrap();
        case.graph.output(z);
        case.check("norm, bias, residual", "linear", &[&[1], &[3], &[40]]);
    }
}

#[test]
fn gated_mlps() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for ty in [TensorType::BF16, TensorType::Q4_0] {
            let (mut case, x) = Case::new(64);
            let norm = case.vector("norm", 64);
            let w = case.matrix("gate and up", &[(ty, 70), (ty, 70)], 64);
            let h = case.graph.rms_norm(x, norm, 1e-6).unwrap();
            let both = case.graph.linear(h, w, None).unwrap();
            let gate = case.graph.slice(both, 0, 70).unwrap();
            let up = case.graph.slice(both, 70, 70).unwrap();
            let y = case.graph.gated(gate, up, activation).unwrap();
            case.graph.output(y);
            case.check("gated", "gated", &[&[1], &[5]]);
        }
    }
}

#[test]
fn norms_after_a_block_and_plain_adds() {
    let (mut case, x) = Case::new(160);
    let norm = case.vector("norm", 160);
    let h = case.graph.rms_norm(x, norm, 1e-5).unwrap();
    let y = case.graph.add(x, h).unwrap();
    // An add of two norms: not one of them is older than the other's step.
    let a = case.graph.rms_norm(y, norm, 1e-5).unwrap();
    let b = case.graph.rms_norm(a, norm, 1e-5).unwrap();
    let z = case.graph.add(b, y).unwrap();
    let z = case.graph.add(z, a).unwrap();
    case.graph.output(z);
    case.check("norm and add", "rms_norm", &[&[1], &[6]]);
}

/// q, k, v of mixed types, head norms, rope, cache and attention.
fn attention_case(spec: AttentionSpec, norms: bool, types: [TensorType; 2]) -> Case {
    let AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = spec;
    let (nq, nkv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let (mut case, x) = Case::new(64);
    let w = case.matrix(
        "qkv",
        &[(types[0], nq), (types[0], nkv), (types[1], nkv)],
        64,
    );
    let qkv = case.graph.linear(x, w, None).unwrap();
    let mut q = case.graph.slice(qkv, 0, nq).unwrap();
    let mut k = case.graph.slice(qkv, nq, nkv).unwrap();
    let v = case.graph.slice(qkv, nq + nkv, nkv).unwrap();
    if norms {
        let (qn, kn) = (
            case.vector("q norm", head_dim),
            case.vector("k_norm!", head_dim),
        );
        q = case.graph.rms_norm(q, qn, 1e-6).unwrap();
        k = case.graph.rms_norm(k, kn, 1e-6).unwrap();
    }
    let half = head_dim / 2;
    let freqs = (0..half)
        .map(|i| 10_000f32.powf(-(i as f32) / half as f32))
        .collect();
    let inv_freq = case.graph.constant("inv_freq", freqs);
    let q = case.graph.rope(q, inv_freq, head_dim).unwrap();
    let k = case.graph.rope(k, inv_freq, head_dim).unwrap();
    let cache = case.graph.cache(n_kv_heads, head_dim);
    case.graph.kv_append(k, v, cache).unwrap();
    let y = case.graph.attention(q, cache, spec).unwrap();
    case.graph.output(y);
    case
}

#[test]
fn attention_of_many_shapes() {
    let f32s = [TensorType::F32, TensorType::F32];
    for (n_heads, n_kv_heads, head_dim) in
        [(4, 2, 16), (3, 1, 64), (2, 2, 128), (1, 1, 256), (4, 4, 12)]
    {
        for window in [None, Some(7)] {
            for norms in [false, true] {
                let spec = AttentionSpec {
                    n_heads,
                    n_kv_heads,
                    head_dim,
                    scale: 0.2,
                    window,
                };
                let case = attention_case(spec, norms, f32s);
                let what = format!("attention {n_heads}/{n_kv_heads} heads of {head_dim}");
                case.check(&what, "attention", &[&[1, 1, 1], &[9, 1, 5], &[100, 30]]);
            }
        }
    }
}

#[test]
fn projections_of_mixed_types_and_a_cache_in_f16() {
    let spec = AttentionSpec {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        scale: 0.25,
        window: None,
    };
    let case = attention_case(spec, false, [TensorType::Q4_1, TensorType::Q8_0]);
    case.check("mixed types", "attention_f16", &[&[1, 1], &[20, 1]]);
    let case = attention_case(spec, false, [TensorType::F32, TensorType::F32]);
    let steps = [10, 1, 1];
    let tokens = case.tokens(12);
    let wanted = case.on_cpu(&tokens, &steps);
    for (index, profile) in devices() {
        let mut gpu = open(index, profile, LimitRequest::Adapter);
        let found = case.on_gpu(&mut gpu, false, &tokens, &steps);
        assert_close(
            "f16 cache",
            &found,
            &wanted,
            tolerance("attention_f16", profile),
        );
    }
}

#[test]
fn tensors_beyond_the_binding_limit_are_split() {
    for ty in [TensorType::F32, TensorType::Q4_1] {
        let mut case = Case {
            graph: Graph::default(),
            weights: HashMap::new(),
            vocab: 2000,
        };
        let table = case.matrix("table", &[(ty, 2000)], 64);
        let x = case.graph.embed(table, 1.0);
        let y = case.graph.linear(x, table, None).unwrap();
        case.graph.output(y);
        for steps in [vec![1, 1], vec![2]] {
            let tokens = case.tokens(steps.iter().sum());
            let wanted = case.on_cpu(&tokens, &steps);
            for (index, profile) in devices() {
                // 2000 rows of 256 or 32 bytes: several pieces each.
                let mut gpu = open(index, profile, LimitRequest::Binding(32_768));
                let found = case.on_gpu(&mut gpu, true, &tokens, &steps);
                let what = format!("split {ty} {profile}");
                assert_close(&what, &found, &wanted, tolerance("linear", profile));
            }
        }
    }
}

#[test]
fn runs_within_webgpu_s_default_limits() {
    let spec = AttentionSpec {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 256,
        scale: 0.1,
        window: None,
    };
    let case = attention_case(spec, true, [TensorType::Q8_0, TensorType::Q8_0]);
    let tokens = case.tokens(40);
    let wanted = case.on_cpu(&tokens, &[39, 1]);
    for (index, profile) in devices() {
        let mut gpu = open(index, profile, LimitRequest::WebGpuDefault);
        let found = case.on_gpu(&mut gpu, true, &tokens, &[39, 1]);
        assert_close("default limits", &found, &wanted, 1e-3);
    }
}

#[test]
fn what_is_too_large_is_an_error() {
    let spec = AttentionSpec {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 64,
        scale: 0.1,
        window: None,
    };
    let case = attention_case(spec, false, [TensorType::F32, TensorType::F32]);
    let (index, profile) = devices()[0];
    let mut gpu = open(index, profile, LimitRequest::Binding(16_384));
    let error = gpu
        .set_context(&case.graph, CONTEXT, true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("keys") && error.contains("--ctx"), "{error}");
    let error = gpu
        .matrix("odd", &[(TensorType::F32, 4)], 50)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("multiple of 32"), "{error}");
}

#[test]
fn the_gpu_chooses_what_the_cpu_chooses() {
    let (mut case, x) = Case::new(320);
    let last = case.graph.last_row(x);
    case.graph.output(last);
    case.graph.choose(last);
    let warm = Sampling {
        temperature: 0.8,
        seed: 99,
        ..Sampling::default()
    };
    let samplings = [
        Sampling::default(),
        Sampling {
            repeat_penalty: 3.0,
            ..Sampling::default()
        },
        warm,
        Sampling { top_k: 5, ..warm },
        Sampling { top_p: 0.5, ..warm },
        Sampling { min_p: 0.3, ..warm },
        Sampling {
            top_k: 50,
            top_p: 0.9,
            min_p: 0.05,
            repeat_penalty: 1.3,
            seed: u64::MAX,
            ..warm
        },
    ];
    for (index, profile) in devices() {
        let mut gpu = open(index, profile, LimitRequest::Adapter);
        case.load(&mut gpu, true);
        gpu.prepare(case.graph.clone(), 4).unwrap();
        let mut cpu = CpuDevice::new(Precision::F32);
        case.weights
            .iter()
            .for_each(|(name, w)| cpu.add_weight(name, w.clone()));
        let plan = Plan::new(case.graph.clone(), 4, Fusion::NONE, |_| false);
        for sampling in &samplings {
            for position in 0..12 {
                let tokens = [position as u32 % 50, (position as u32 * 7 + 3) % 50];
                gpu.set_seen(&[1, 200, 40]);
                cpu.set_seen(&[1, 200, 40]);
                gpu.prefill(&tokens, position, sampling, true).unwrap();
                cpu.run(&plan, &tokens, position, sampling, true).unwrap();
                let (found, _) = block_on(gpu.take(false)).unwrap();
                assert_eq!(found, cpu.chosen(), "{profile} {sampling:?} at {position}");
            }
        }
    }
}
