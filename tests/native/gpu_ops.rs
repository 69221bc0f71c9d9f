//! Each kernel, in each profile of each GPU, against its CPU counterpart. Inputs come by way of an
//! embedding of random values, so that every case is a small graph run on both.

use pollster::block_on;
use siskin_engine::self_test::{
    CONTEXT, Case, ExpertsSpec, certify, first_of_its_kind, recurrent_cases,
};
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, LimitRequest, Profile};
use siskin_graph::{
    Activation, AttentionSpec, BANNED, CacheType, CacheTypes, Capacity, Map, Pairs, Pooling,
    Sampling, Score, StepInput,
};
use siskin_tests::{assert_close, devices, devices_for, most_devices, tolerance};

/// Compares devices, however the tokens come.
fn check(case: &Case, what: &str, op: &str, runs: &[&[usize]]) {
    check_on(most_devices(), case, what, op, runs);
}

fn check_on(devices: Vec<(usize, Profile)>, case: &Case, what: &str, op: &str, runs: &[&[usize]]) {
    for (index, profile) in devices {
        let mut gpu = open(index, profile, LimitRequest::All);
        for steps in runs {
            let tokens = case.tokens(steps.iter().sum());
            let wanted = case.on_cpu(&tokens, steps).unwrap();
            let found = block_on(case.on_gpu(&mut gpu, &tokens, steps)).unwrap();
            let what = format!("{what} {profile} {steps:?}");
            assert_close(&what, &found, &wanted, tolerance(op, profile));
        }
    }
}

fn open(index: usize, profile: Profile, limits: LimitRequest) -> GpuDevice {
    block_on(GpuDevice::open_with(Some(index), Some(profile), limits)).unwrap()
}

/// Types that a GPU keeps alike have the same kernels.
#[test]
fn linear_of_every_kept_type() {
    let types = TensorType::ALL
        .into_iter()
        .filter(|t| first_of_its_kind(*t));
    for (i, ty) in types.enumerate() {
        let case = Case::linear(ty).unwrap();
        let runs: [&[usize]; 3] = [&[1], &[2], &[37]];
        check_on(devices_for(i, 2), &case, ty.name(), "linear", &runs);
    }
}

#[test]
fn embedding_of_every_type() {
    for (i, ty) in TensorType::ALL.into_iter().enumerate() {
        let runs: [&[usize]; 2] = [&[1], &[9]];
        check_on(
            devices_for(i, 2),
            &Case::embed(ty),
            ty.name(),
            "embed",
            &runs,
        );
    }
}

/// A table of 20 rows, and tokens up to 50: those beyond it have its first row.
#[test]
fn an_embedding_of_some_tokens() {
    let mut case = Case::empty(50);
    let table = case.matrix("table", &[(TensorType::F32, 20)], 32);
    let x = case.graph.embed_known(table, 0.5);
    case.graph.output(x);
    let tokens = case.tokens(9);
    let found = case.on_cpu(&tokens, &[9]).unwrap();
    let first = case.on_cpu(&[0], &[1]).unwrap();
    assert!(tokens.iter().any(|t| *t < 20) && tokens.iter().any(|t| *t >= 20));
    for (token, row) in tokens.iter().zip(found.chunks_exact(32)) {
        assert_eq!(row == first, *token == 0 || *token >= 20, "{token}");
    }
    check(&case, "some tokens", "embed", &[&[1], &[9]]);
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
        check(
            &case,
            "norm, bias, residual",
            "linear",
            &[&[1], &[3], &[40]],
        );
    }
}

#[test]
fn ops_with_a_state_in_steps_of_any_length() {
    for (what, case) in recurrent_cases().unwrap() {
        let runs: [&[usize]; 3] = [&[1, 1, 1], &[37], &[2, 30, 1]];
        check(&case, what, "recurrent", &runs);
    }
}

#[test]
fn layer_norms_and_functions_of_values() {
    let (mut case, x) = Case::new(96);
    let (w, b) = (case.vector("norm", 32), case.vector("norm's bias", 32));
    let h = case.graph.layer_norm(x, w, Some(b), 1e-5).unwrap();
    let part = case.graph.slice(h, 32, 64).unwrap();
    let y = case.graph.layer_norm(part, w, None, 1e-5).unwrap();
    let part = case.graph.slice(y, 8, 40).unwrap();
    let mut z = case.graph.map(part, Map::Activation(Activation::Gelu));
    for map in [Map::SoftCap(0.7), Map::ExpExcess, Map::Scale(-1.5)] {
        z = case.graph.map(z, map);
    }
    case.graph.output(z);
    check(&case, "layer_norm, map", "gated", &[&[1], &[7]]);
}

#[test]
fn gated_mlps() {
    let activations = [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::Gelu,
        Activation::Relu,
        Activation::Relu2,
    ];
    for (i, activation) in activations.into_iter().enumerate() {
        for ty in [TensorType::BF16, TensorType::Q4_0] {
            let case = Case::gated(ty, activation).unwrap();
            check_on(devices_for(i, 2), &case, "gated", "gated", &[&[1], &[5]]);
        }
    }
}

#[test]
fn experts_of_many_types() {
    let runs: [&[usize]; 3] = [&[1], &[1, 1, 3], &[20]];
    let types = [
        TensorType::F32,
        TensorType::BF16,
        TensorType::Q8_0,
        TensorType::Q4_K,
        TensorType::Q6_K,
        TensorType::MXFP4,
    ];
    for (i, ty) in types.into_iter().enumerate() {
        let case = Case::experts(ExpertsSpec::of(ty)).unwrap();
        let what = format!("experts {ty}");
        check_on(devices_for(i, 2), &case, &what, "gated", &runs);
    }
    let spec = ExpertsSpec {
        types: [TensorType::Q4_0, TensorType::Q8_0, TensorType::F32],
        score: Score::Sigmoid,
        renormalise: false,
        has_biases: true,
        activation: Activation::ClampedSilu,
    };
    let other = ExpertsSpec {
        types: [TensorType::Q4_0; 3],
        renormalise: true,
        ..spec
    };
    for spec in [spec, other] {
        let case = Case::experts(spec).unwrap();
        check(&case, &format!("{spec:?}"), "gated", &runs);
    }
}

#[test]
fn experts_beyond_the_binding_limit_are_split() {
    // 13 440 bytes of values in the larger matrix: several pieces, some within an expert.
    for ty in [TensorType::F32, TensorType::Q4_0] {
        let case = Case::experts(ExpertsSpec::of(ty)).unwrap();
        for steps in [vec![1, 1], vec![3]] {
            let tokens = case.tokens(steps.iter().sum());
            let wanted = case.on_cpu(&tokens, &steps).unwrap();
            for (index, profile) in most_devices() {
                let mut gpu = open(index, profile, LimitRequest::Binding(16_384));
                let found = block_on(case.on_gpu(&mut gpu, &tokens, &steps)).unwrap();
                let what = format!("split experts {ty} {profile}");
                assert_close(&what, &found, &wanted, tolerance("gated", profile));
            }
        }
    }
}

#[test]
fn streams_of_hidden_states() {
    let case = Case::streams().unwrap();
    let runs: [&[usize]; 3] = [&[1, 1], &[2, 1], &[37]];
    check(&case, "streams", "gated", &runs);
}

/// A norm of some columns is a step of its own: a linear for one token would read others.
#[test]
fn a_linear_of_a_norm_of_some_columns() {
    let (mut case, x) = Case::new(96);
    let w = case.matrix("projection", &[(TensorType::F32, 128)], 96);
    let narrow = case.matrix("narrow", &[(TensorType::F32, 32)], 64);
    let norm = case.vector("norm", 64);
    let h = case.graph.linear(x, w, None).unwrap();
    let part = case.graph.slice(h, 64, 64).unwrap();
    let y = case.graph.rms_norm(part, norm, 1e-5).unwrap();
    let y = case.graph.linear(y, narrow, None).unwrap();
    case.graph.output(y);
    check(&case, "norm of a slice", "linear", &[&[1], &[3]]);
}

#[test]
fn norms_after_a_block_and_plain_adds() {
    let case = Case::norms().unwrap();
    check(&case, "norm and add", "rms_norm", &[&[1], &[6]]);
}

#[test]
fn attention_of_many_shapes() {
    let f32s = [TensorType::F32, TensorType::F32];
    let shapes = [(4, 2, 16), (3, 1, 64), (2, 2, 128), (1, 1, 256), (4, 4, 12)];
    for (i, (n_heads, n_kv_heads, head_dim)) in shapes.into_iter().enumerate() {
        for norms in [false, true] {
            let spec = AttentionSpec {
                n_heads,
                n_kv_heads,
                head_dim,
                scale: 0.2,
                window: (norms == i.is_multiple_of(2)).then_some(7),
                causal: true,
                soft_cap: None,
                sinks: None,
            };
            let case = Case::attention(spec, norms, f32s).unwrap();
            let what = format!("attention {n_heads}/{n_kv_heads} heads of {head_dim}");
            let runs: [&[usize]; 3] = [&[1, 1, 1], &[9, 1, 5], &[100, 30]];
            check_on(devices_for(i, 2), &case, &what, "attention", &runs);
        }
    }
}

#[test]
fn texts_of_many_shapes() {
    for (i, (n_heads, n_kv_heads, head_dim)) in
        [(4, 2, 16), (3, 3, 64), (4, 4, 24)].into_iter().enumerate()
    {
        for (window, causal) in [(None, false), (Some(5), false), (Some(5), true)] {
            let spec = AttentionSpec {
                n_heads,
                n_kv_heads,
                head_dim,
                scale: 0.2,
                window,
                causal,
                soft_cap: None,
                sinks: None,
            };
            let pooling = [Pooling::Mean, Pooling::First, Pooling::Last][i];
            let ty = [TensorType::F32, TensorType::F16, TensorType::Q8_0][i];
            let case = Case::texts(ty, spec, pooling).unwrap();
            // The last is longer than the CPU takes at a time.
            for lengths in [&[1][..], &[80, 1, 3, 12], &[300]] {
                let batch = case.batch(lengths);
                let wanted = case.texts_on_cpu(&batch).unwrap();
                assert_eq!(wanted.len(), lengths.len() * 33);
                for (index, profile) in devices_for(i, 2) {
                    let mut gpu = open(index, profile, LimitRequest::All);
                    let found = block_on(case.texts_on_gpu(&mut gpu, &batch)).unwrap();
                    let what = format!("{spec:?} {pooling:?} {profile} {lengths:?}");
                    assert_close(&what, &found, &wanted, tolerance("attention", profile));
                }
            }
        }
    }
}

#[test]
fn attention_with_a_soft_cap_and_sinks() {
    let f32s = [TensorType::F32, TensorType::F32];
    for (window, soft_cap, has_sinks) in [
        (None, Some(0.3), false),
        (Some(7), None, true),
        (None, Some(0.3), true),
    ] {
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 32,
            scale: 0.2,
            window,
            causal: true,
            soft_cap,
            sinks: None,
        };
        let mut case = Case::attention(spec, false, f32s).unwrap();
        if has_sinks {
            case.add_sinks();
        }
        let what = format!("cap {soft_cap:?}, sinks {has_sinks}, window {window:?}");
        let runs: [&[usize]; 2] = [&[1, 1, 1], &[600, 1, 5]];
        check(&case, &what, "attention", &runs);
    }
}

#[test]
fn rope_partial_and_interleaved() {
    let spec = AttentionSpec {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 32,
        scale: 0.2,
        window: None,
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    for rope in [
        (16, Pairs::Interleaved),
        (5, Pairs::Interleaved),
        (4, Pairs::Halves),
    ] {
        for norms in [false, true] {
            let types = [TensorType::F32, TensorType::F32];
            let case = Case::attention_with(spec, norms, types, rope).unwrap();
            let runs: [&[usize]; 2] = [&[1, 1, 1], &[9, 1, 5]];
            check(&case, &format!("rope {rope:?}"), "attention", &runs);
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
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    let case = Case::attention(spec, false, [TensorType::Q4_1, TensorType::Q8_0]).unwrap();
    check(&case, "mixed types", "attention_f16", &[&[1, 1], &[20, 1]]);
    let mut case = Case::attention(spec, false, [TensorType::F32, TensorType::F32]).unwrap();
    case.cache = CacheType::F16.into();
    check(&case, "f16 cache", "attention_f16", &[&[10, 1, 1]]);
}

/// Each type as keys and as values, by the fused kernels and by those for several tokens; and by an append of its own,
/// where q and k are not rotated in place.
#[test]
fn quantised_caches() {
    use CacheType::{F16, Q4_0, Q8_0};
    let check_cache = |case: Case, runs: &[&[usize]]| {
        let what = format!("cache of {}", case.cache);
        check(&case, &what, "attention_f16", runs);
    };
    for (keys, values) in [(Q8_0, Q4_0), (Q4_0, Q8_0)] {
        let case = Case::cached(CacheTypes { keys, values }).unwrap();
        check_cache(case, &[&[1, 1, 1], &[37, 1, 5]]);
    }
    let (keys, values) = (Q8_0, F16);
    let case = Case::appended(CacheTypes { keys, values }).unwrap();
    check_cache(case, &[&[37, 1, 5]]);
    // Keys divided among workgroups, and two blocks a word of scales.
    let spec = AttentionSpec {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 128,
        scale: 0.1,
        window: None,
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    let mut case = Case::attention(spec, true, [TensorType::F32; 2]).unwrap();
    case.cache = Q8_0.into();
    check(&case, "split", "attention_f16", &[&[600, 1]]);
}

#[test]
fn tensors_beyond_the_binding_limit_are_split() {
    for ty in [TensorType::F32, TensorType::Q4_1] {
        let mut case = Case::empty(2000);
        let table = case.matrix("table", &[(ty, 2000)], 64);
        let x = case.graph.embed(table, 1.0);
        let y = case.graph.linear(x, table, None).unwrap();
        case.graph.output(y);
        for steps in [vec![1, 1], vec![2]] {
            let tokens = case.tokens(steps.iter().sum());
            let wanted = case.on_cpu(&tokens, &steps).unwrap();
            for (index, profile) in most_devices() {
                // 2000 rows of 256 or 32 bytes: several pieces each.
                let mut gpu = open(index, profile, LimitRequest::Binding(32_768));
                let found = block_on(case.on_gpu(&mut gpu, &tokens, &steps)).unwrap();
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
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    let case = Case::attention(spec, true, [TensorType::Q8_0, TensorType::Q8_0]).unwrap();
    let tokens = case.tokens(40);
    let wanted = case.on_cpu(&tokens, &[39, 1]).unwrap();
    for (index, profile) in most_devices() {
        let mut gpu = open(index, profile, LimitRequest::WebGpuDefault);
        let found = block_on(case.on_gpu(&mut gpu, &tokens, &[39, 1])).unwrap();
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
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    let case = Case::attention(spec, false, [TensorType::F32, TensorType::F32]).unwrap();
    let (index, profile) = devices()[0];
    let mut gpu = open(index, profile, LimitRequest::Binding(16_384));
    let error = gpu
        .set_caches(&case.graph, Capacity::alone(CONTEXT), case.cache)
        .unwrap_err()
        .to_string();
    assert!(error.contains("keys") && error.contains("16384"), "{error}");
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
        let mut gpu = open(index, profile, LimitRequest::All);
        case.load(&mut gpu).unwrap();
        gpu.prepare(case.graph.clone(), 4).unwrap();
        let mut cpu = case.cpu();
        let plan = cpu.plan(case.graph.clone(), 4);
        for sampling in &samplings {
            for position in 0..12 {
                let tokens = [position as u32 % 50, (position as u32 * 7 + 3) % 50];
                gpu.set_seen(0, &[1, 200, 40]);
                cpu.set_seen(0, &[1, 200, 40]);
                let mut step = StepInput::alone(&tokens, position, Some(*sampling));
                // More, and more than there was room for before.
                if position % 2 == 1 {
                    let ids = (0..320).filter(|id| id % (12 - position as u32) == 0);
                    let value = |id| [2.5, -1.5, BANNED][id as usize % 3];
                    step.sequences[0].added = vec![ids.map(|id| (id, value(id))).collect()];
                }
                gpu.step(&step).unwrap();
                cpu.run(&plan, &step).unwrap();
                let (found, _) = block_on(gpu.take(false)).unwrap();
                assert_eq!(found, cpu.chosen(), "{profile} {sampling:?} at {position}");
            }
        }
    }
}

#[test]
fn the_self_test_of_a_page_passes() {
    for profile in [None, Some(Profile::BASE)] {
        let mut results = vec![];
        block_on(certify(None, profile, &mut |r| results.push(r))).unwrap();
        assert!(results.len() > 30, "only {} kernels", results.len());
        let failed: Vec<_> = results.iter().filter(|r| !r.passed).collect();
        assert!(failed.is_empty(), "{profile:?}: {failed:?}");
    }
}
