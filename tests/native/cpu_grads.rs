//! Each gradient on the CPU against finite differences of its op.

use siskin_cpu::CpuPart;
use siskin_cpu::ops::gemm::Mat;
use siskin_cpu::ops::{
    activation, adamw, cross_entropy, dora, experts, layer_norm, linear, lora, rms_norm, rope,
    route, self_attention,
};
use siskin_formats::{TensorType, decode, encode};
use siskin_graph::{
    Activation, AdamW, AttentionSpec, Batch, Dora, Lora, MOMENT_BLOCK, Map, MomentType, Moments,
    Pairs, RouteSpec, Score, Span, WeightId, dropout_factor,
};
use siskin_tests::values;

/// `dx[i] = Σ dy · ∂f/∂x[i]` by central differences, for each i.
fn check(what: &str, x: &[f32], dy: &[f32], dx: &[f32], mut f: impl FnMut(&[f32]) -> Vec<f32>) {
    const H: f32 = 1e-2;
    assert_eq!(x.len(), dx.len(), "{what}");
    let size = dx.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    assert!(size > 1e-2, "{what}: all gradients are 0");
    let mut at = |i: usize, by: f32| -> f64 {
        let mut x = x.to_vec();
        x[i] += by;
        let y = f(&x);
        assert_eq!(y.len(), dy.len(), "{what}");
        y.iter()
            .zip(dy)
            .map(|(y, dy)| f64::from(*y) * f64::from(*dy))
            .sum()
    };
    for (i, dx) in dx.iter().enumerate() {
        let wanted = ((at(i, H) - at(i, -H)) / f64::from(2.0 * H)) as f32;
        let ok = (dx - wanted).abs() <= 1e-2 * size;
        assert!(ok, "{what}: at {i}: {dx} is not {wanted} (of {size})");
    }
}

/// Values of about 1.
fn noise(seed: u32, n: usize) -> Vec<f32> {
    values(seed, n)
}

fn part(ty: TensorType, rows: usize, w: &[f32]) -> CpuPart {
    CpuPart {
        ty,
        rows,
        bytes: encode(ty, w).unwrap(),
    }
}

#[test]
fn linear_through_quantised_weights() {
    let (t, k) = (3, 64);
    for ty in [TensorType::F32, TensorType::Q4_1, TensorType::Q8_0] {
        let parts = [
            part(ty, 20, &noise(1, 20 * k)),
            part(TensorType::F32, 5, &noise(2, 5 * k)),
        ];
        let (x, dy) = (noise(3, t * k), noise(4, t * 25));
        let mut dx = vec![0.0; t * k];
        linear::linear_grad(&parts, Mat::dense(&dy, 25), k, &mut dx);
        check(&format!("linear {ty:?}"), &x, &dy, &dx, |x| {
            let mut y = vec![0.0; t * 25];
            linear::linear(&parts, None, x, k, siskin_cpu::Precision::F32, &mut y);
            y
        });
    }
}

/// Blocks of 256 are cut between columns, too.
#[test]
fn linear_through_every_type() {
    let (t, n, k) = (5, 70, 768);
    for ty in TensorType::ALL {
        let number = ty.ggml().unwrap_or(99);
        let bytes = siskin_tests::weights(ty, number, n * k);
        let mut w = vec![0.0; n * k];
        decode(ty, &bytes, &mut w);
        let dy = noise(5, t * n);
        let mut dx = vec![0.0; t * k];
        let parts = [CpuPart { ty, rows: n, bytes }];
        linear::linear_grad(&parts, Mat::dense(&dy, n), k, &mut dx);
        let wanted: Vec<f32> = (0..t * k)
            .map(|i| (0..n).map(|j| dy[i / k * n + j] * w[j * k + i % k]).sum())
            .collect();
        siskin_tests::assert_close(&format!("{ty:?}"), &dx, &wanted, 1e-5);
    }
}

#[test]
fn rms_norm_of_rows_and_heads() {
    let (x, w, dy) = (noise(1, 96), noise(2, 32), noise(3, 96));
    let mut dx = vec![0.0; 96];
    rms_norm::rms_norm_grad(&x, &w, 1e-5, &dy, &mut dx);
    check("rms_norm", &x, &dy, &dx, |x| {
        let mut y = vec![0.0; 96];
        rms_norm::rms_norm(x, &w, 1e-5, &mut y);
        y
    });
}

#[test]
fn rope_turns_back() {
    let (x, dy) = (noise(1, 40), noise(2, 40));
    let freqs = [1.0, 0.3, 0.1, 0.03];
    let whole = rope::Turn::whole(&freqs);
    let part = rope::Turn {
        head_dim: 10,
        ..whole
    };
    let neighbours = rope::Turn {
        pairs: Pairs::Interleaved,
        ..part
    };
    for (what, turn) in [("whole", whole), ("part", part), ("pairs", neighbours)] {
        let mut dx = vec![0.0; 40];
        rope::rope(&dy, rope::Turn { back: true, ..turn }, 5, &mut dx);
        check(what, &x, &dy, &dx, |x| {
            let mut y = vec![0.0; 40];
            rope::rope(x, turn, 5, &mut y);
            y
        });
    }
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::Gelu,
    Activation::Relu,
    Activation::Relu2,
    Activation::ClampedSilu,
];

#[test]
fn layer_norm_over_runs() {
    let (x, w, dy) = (noise(1, 96), noise(2, 32), noise(3, 96));
    let b = noise(4, 32);
    let mut dx = vec![0.0; 96];
    layer_norm::layer_norm_grad(&x, &w, 1e-5, &dy, &mut dx);
    check("layer_norm", &x, &dy, &dx, |x| {
        let mut y = vec![0.0; 96];
        layer_norm::layer_norm(x, &w, Some(&b), 1e-5, &mut y);
        y
    });
}

#[test]
fn functions_of_each_value() {
    let (x, dy) = (noise(1, 40), noise(2, 40));
    let maps = ACTIVATIONS.map(Map::Activation).into_iter();
    for map in maps.chain([Map::Scale(0.3), Map::SoftCap(1.5), Map::ExpExcess]) {
        let mut dx = vec![0.0; 40];
        activation::map_grad(map, &x, &dy, &mut dx);
        check(&format!("{map:?}"), &x, &dy, &dx, |x| {
            let mut y = vec![0.0; 40];
            activation::map(map, x, &mut y);
            y
        });
    }
}

#[test]
fn gated_by_every_activation() {
    for act in ACTIVATIONS {
        let (x, dy) = (noise(1, 40), noise(2, 20));
        let mut dx = vec![0.0; 40];
        activation::gated_grad(act, &x[..20], &x[20..], &dy, &mut dx);
        check(&format!("{act:?}"), &x, &dy, &dx, |x| {
            let mut y = vec![0.0; 20];
            activation::gated(act, &x[..20], &x[20..], &mut y);
            y
        });
    }
}

/// Beyond the bounds, where neither value changes anything.
#[test]
fn clamped_gates() {
    let (x, dy) = ([8.0, -9.0, 1.0, 2.0, 9.0, -8.0], [0.3, -0.5, 0.7]);
    let mut dx = [0.0; 6];
    activation::gated_grad(Activation::ClampedSilu, &x[..3], &x[3..], &dy, &mut dx);
    check("clamped", &x, &dy, &dx, |x| {
        let mut y = vec![0.0; 3];
        activation::gated(Activation::ClampedSilu, &x[..3], &x[3..], &mut y);
        y
    });
}

#[test]
fn gates_of_rows() {
    let (x, dy) = (noise(1, 8), noise(2, 8));
    let mut dx = vec![0.0; 9];
    activation::row_gate(&dy, 0.4, &mut dx[..8]);
    dx[8] = activation::row_gate_grad(&x, 0.4, &dy);
    check("row gate", &[&x[..], &[0.4]].concat(), &dy, &dx, |x| {
        let mut y = vec![0.0; 8];
        activation::row_gate(&x[..8], x[8], &mut y);
        y
    });
}

/// Logits so far apart that differences do not change the choice.
#[test]
fn routes_by_every_score() {
    let logits = [0.4, -0.3, 0.9, -1.0, 0.1];
    for score in [Score::Softmax, Score::Sigmoid] {
        for renormalise in [false, true] {
            let spec = RouteSpec {
                n_used: 3,
                score,
                bias: None,
                expert_scales: None,
                renormalise,
                eps: 0.1,
                scale: 1.7,
            };
            let forward = |x: &[f32]| {
                let mut out = vec![0.0; 6];
                route::route(&spec, [None, None], x, &mut out);
                out
            };
            let (dy, mut dx) = (noise(2, 6), vec![0.0; 5]);
            route::route_grad(&spec, &logits, &forward(&logits), &dy, &mut dx);
            check(&format!("{spec:?}"), &logits, &dy, &dx, forward);
        }
    }
}

#[test]
fn experts_through_quantised_weights() {
    let (t, n_experts, n_used, n, k) = (3, 4, 2, 10, 32);
    let bias = noise(5, n_experts * n);
    let route = [
        [3.0, 0.0, 0.7, 0.3],
        [1.0, 3.0, 0.5, 0.1],
        [2.0, 1.0, 0.2, 0.9],
    ]
    .concat();
    for ty in [TensorType::F32, TensorType::Q8_0] {
        let parts = [
            part(ty, 15, &noise(1, 15 * k)),
            part(TensorType::F32, 25, &noise(2, 25 * k)),
        ];
        let m = experts::Matrices {
            parts: &parts,
            bias: Some(&bias),
            n,
            k,
            n_experts,
        };
        let at = Mat::dense(&route, 2 * n_used);
        let precision = siskin_cpu::Precision::F32;
        let (x, dy) = (noise(3, t * k), noise(4, t * n_used * n));
        let mut dx = vec![0.0; t * k];
        experts::expert_up_grad(m, 2, at, Mat::dense(&dy, n_used * n), &mut dx);
        check(&format!("up {ty}"), &x, &dy, &dx, |x| {
            let mut y = vec![0.0; t * n_used * n];
            experts::expert_up(m, 2, Mat::dense(x, k), at, precision, &mut y);
            y
        });

        // h and the weights of the route, side by side in each row.
        let (nh, nr) = (n_used * k, 2 * n_used);
        let (h, dy) = (noise(6, t * nh), noise(7, t * n));
        let rows = h.chunks(nh).zip(route.chunks(nr));
        let x: Vec<f32> = rows.flat_map(|(h, r)| [h, r].concat()).collect();
        let mut dx = vec![0.0; t * (nh + nr)];
        let h = Mat::dense(&h, nh);
        experts::expert_down_grad(m, h, at, Mat::dense(&dy, n), &mut dx);
        check(&format!("down {ty}"), &x, &dy, &dx, |x| {
            let x = Mat::dense(x, nh + nr);
            // Indices are constant.
            let mut route = route.clone();
            for (t, route) in route.chunks_mut(nr).enumerate() {
                route[n_used..].copy_from_slice(&x.row(t)[nh + n_used..]);
            }
            let mut y = vec![0.0; t * n];
            let route = Mat::dense(&route, nr);
            experts::expert_down(m, x.cols(0, nh), route, precision, &mut y);
            y
        });
    }
}

#[test]
fn attention_with_windows_and_segments() {
    let (t, d) = (9, 4);
    let segments = [0..5, 5..6, 6..9];
    let sinks = [0.3, -1.0, 2.0, 0.0];
    for (window, causal, soft_cap, sinks) in [
        (None, true, None, None),
        (Some(2), true, None, None),
        (None, true, Some(0.5), None),
        (Some(2), true, Some(0.8), Some(&sinks[..])),
        (None, false, None, None),
        (Some(2), false, None, None),
        (Some(3), false, Some(0.8), Some(&sinks[..])),
    ] {
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: d,
            scale: 0.4,
            window,
            causal,
            soft_cap,
            sinks: None,
        };
        // q, k and v side by side, as their gradients are.
        let (n, nq, nkv) = (8 * d, 4 * d, 2 * d);
        let (x, dy) = (noise(1, t * n), noise(2, t * nq));
        let mut scratch = vec![];
        let mut forward = |x: &[f32]| {
            let x = Mat::dense(x, n);
            let qkv = [x.cols(0, nq), x.cols(nq, nkv), x.cols(nq + nkv, nkv)];
            let mut y = vec![0.0; t * nq];
            self_attention::self_attention(&spec, sinks, &segments, qkv, &mut scratch, &mut y);
            y
        };
        let y = forward(&x);
        let m = Mat::dense(&x, n);
        let five = [
            m.cols(0, nq),
            m.cols(nq, nkv),
            m.cols(nq + nkv, nkv),
            Mat::dense(&y, nq),
            Mat::dense(&dy, nq),
        ];
        let (mut dx, mut scratch) = (vec![0.0; t * n], vec![]);
        self_attention::self_attention_grad(&spec, sinks, &segments, five, &mut scratch, &mut dx);
        check(&format!("{spec:?} {sinks:?}"), &x, &dy, &dx, forward);
    }
}

#[test]
fn cross_entropy_in_tiles_of_the_vocabulary() {
    let (t, d, vocab) = (4, 32, 300);
    let parts = [
        part(TensorType::Q8_0, 290, &noise(1, 290 * d)),
        part(TensorType::F32, 10, &noise(2, 10 * d)),
    ];
    let batch = Batch {
        tokens: vec![0; t],
        positions: (0..t as u32).collect(),
        targets: vec![295, 1, 150, 7],
        weights: vec![0.5, 0.0, 1.0, 0.25],
        ..Batch::default()
    };
    let x: Vec<f32> = noise(3, t * d).iter().map(|v| v * 0.3).collect();
    for soft_cap in [None, Some(0.7)] {
        let parts = &parts[..];
        let head = cross_entropy::Head { parts, d, soft_cap };
        let forward = |x: &[f32]| {
            let mut out = vec![0.0; t * 2];
            cross_entropy::cross_entropy(head, Mat::dense(x, d), &batch, &mut out);
            out
        };
        let stats = forward(&x);
        let mut logits = vec![0.0; t * vocab];
        linear::linear(parts, None, &x, d, siskin_cpu::Precision::F32, &mut logits);
        if let Some(cap) = soft_cap {
            logits.iter_mut().for_each(|l| *l = cap * (*l / cap).tanh());
        }
        for (i, l) in logits.chunks_exact(vocab).enumerate() {
            let lse = l.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
            let loss = lse - f64::from(l[batch.targets[i] as usize]);
            let wanted = f64::from(batch.weights[i]) * loss;
            assert!((f64::from(stats[2 * i]) - wanted).abs() < 1e-4, "row {i}");
        }
        let mut dx = vec![0.0; t * d];
        let (xm, sm) = (Mat::dense(&x, d), Mat::dense(&stats, 2));
        cross_entropy::cross_entropy_grad(head, xm, sm, &batch, &mut dx);
        // Of the losses, not of the sums of exponentials beside them.
        let dy: Vec<f32> = (0..t * 2)
            .map(|i| if i % 2 == 0 { 1.0 } else { 0.0 })
            .collect();
        check(
            &format!("cross_entropy {soft_cap:?}"),
            &x,
            &dy,
            &dx,
            forward,
        );
    }
}

#[test]
fn adapters_of_some_spans() {
    let (t, k, n) = (3, 16, 20);
    let span = |start, len| Span {
        module: String::new(),
        start,
        len,
    };
    let lora = Lora {
        rank: 2,
        scale: 0.7,
        k,
        spans: vec![span(0, 6), span(11, 9)],
        a: 0,
        b: 64,
        dora: None,
        adapter: None,
    };
    let (x, dy) = (noise(1, t * k), noise(2, t * n));
    let mut params = noise(3, 128);
    let forward = |x: &[f32], params: &[f32]| {
        let mut u = vec![0.0; t * 4];
        lora::lora_down(&lora, params, Mat::dense(x, k), &mut u);
        let mut y = vec![0.0; t * n];
        lora::lora_up(&lora, params, Mat::dense(&u, 4), n, &mut y);
        (u, y)
    };
    let (u, y) = forward(&x, &params);
    assert!(
        y.chunks_exact(n)
            .all(|y| y[6..11].iter().all(|v| *v == 0.0))
    );
    let dy_mat = Mat::dense(&dy, n);
    let mut du = vec![0.0; t * 4];
    lora::lora_up_grad(&lora, &params, dy_mat, &mut du);
    let mut dx = vec![0.0; t * k];
    lora::lora_down_grad(&lora, &params, Mat::dense(&du, 4), &mut dx);
    check("x", &x, &dy, &dx, |x| forward(x, &params).1);
    let mut grads = vec![0.0; 128];
    lora::lora_grad_a(&lora, Mat::dense(&x, k), Mat::dense(&du, 4), &mut grads);
    lora::lora_grad_b(&lora, Mat::dense(&u, 4), dy_mat, &mut grads);
    params.truncate(128);
    check("A and B", &params, &dy, &grads, |p| forward(&x, p).1);
}

/// The norms count as constants, as the paper has it; the factors are checked against their definition.
#[test]
fn magnitudes_of_some_spans() {
    let (t, k, n) = (3, 32, 90);
    let span = |start, len| Span {
        module: String::new(),
        start,
        len,
    };
    let dora = Dora {
        weight: WeightId(0),
        m: 512,
        factors: 0,
        n,
    };
    let lora = Lora {
        rank: 2,
        scale: 0.7,
        k,
        spans: vec![span(0, 40), span(60, 30)],
        a: 0,
        b: 256,
        dora: Some(dora.clone()),
        adapter: None,
    };
    let values: Vec<Vec<f32>> = [(1, 40), (2, 20), (3, 30)]
        .map(|(seed, rows)| noise(seed, rows * k))
        .into();
    let parts = [
        part(TensorType::F32, 40, &values[0]),
        part(TensorType::F32, 20, &values[1]),
        part(TensorType::F32, 30, &values[2]),
    ];
    let mut params = noise(4, 768);
    params[512..582].iter_mut().for_each(|m| *m += 2.0);
    let mut factors = vec![0.0; n];
    dora::factors(&lora, &dora, &params, &parts, &mut factors);
    let w = values.concat();
    for (row, factor) in factors.iter().enumerate() {
        let (s, b_row) = match row {
            0..40 => (0, row),
            60.. => (1, row - 20),
            _ => {
                assert_eq!(*factor, 1.0);
                continue;
            }
        };
        let changed = (0..k).map(|c| {
            let low = (0..2).map(|r| params[256 + b_row * 2 + r] * params[(s * 2 + r) * k + c]);
            w[row * k + c] + 0.7 * low.sum::<f32>()
        });
        let norm = changed.map(|v| v * v).sum::<f32>().sqrt();
        let wanted = params[512 + b_row] / norm;
        assert!((factor - wanted).abs() < 1e-5 * wanted.abs(), "{row}");
    }
    for bias in [None, Some(noise(5, n))] {
        let bias = bias.as_deref();
        let (x, dy) = (noise(6, t * n), noise(7, t * n));
        let mut dx = vec![0.0; t * n];
        dora::dora_grad(&factors, Mat::dense(&dy, n), &mut dx);
        let forward = |factors: &[f32], x: &[f32]| {
            let mut y = x.to_vec();
            dora::dora(factors, bias, &mut y);
            y
        };
        check("x", &x, &dy, &dx, |x| forward(&factors, x));
        let y = forward(&factors, &x);
        let mut grads = vec![0.0; 768];
        let both = [&y, &dy].map(|v| Mat::dense(v, n));
        dora::dora_grad_m(&lora, &dora, bias, &params, both, &mut grads);
        assert!(grads[..512].iter().all(|g| *g == 0.0));
        check("m", &params[512..582], &dy, &grads[512..582], |m| {
            let mut p = params.clone();
            p[512..582].copy_from_slice(m);
            let mut factors = vec![0.0; n];
            dora::factors(&lora, &dora, &p, &parts, &mut factors);
            forward(&factors, &x)
        });
    }
}

#[test]
fn dropout_drops_as_often_as_asked_and_differently_each_time() {
    let n = 20_000;
    let draw = |seed, salt| (0..n).map(move |i| dropout_factor(0.25, seed, salt, i));
    let dropped = draw(1, 2).filter(|f| *f == 0.0).count();
    assert!((dropped as f32 / n as f32 - 0.25).abs() < 0.01, "{dropped}");
    assert!(draw(1, 2).all(|f| f == 0.0 || (f - 4.0 / 3.0).abs() < 1e-6));
    for other in [draw(2, 2), draw(1, 3)] {
        let same = draw(1, 2).zip(other).filter(|(a, b)| a == b).count();
        assert!((same as f32 / n as f32 - 0.625).abs() < 0.02, "{same}");
    }
}

#[test]
fn adamw_clips_and_decays() {
    let o = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.5,
        max_grad_norm: 1.0,
        step: 1,
    };
    let (mut params, mut moments) = ([2.0, -1.0], Moments::zero(MomentType::F32, 2));
    let norm = adamw::global_norm(&[3.0, 4.0]);
    assert_eq!(norm, 5.0);
    adamw::adamw(&o, norm, &[3.0, 4.0], &mut moments, &mut params);
    // The first step moves by the learning rate, whatever the gradient's size.
    siskin_tests::assert_close("params", &params, &[2.0 * 0.95 - 0.1, -0.95 - 0.1], 1e-5);
    let Moments::F32(moments) = moments else {
        panic!("other moments")
    };
    let first = [moments[0][0], moments[1][0]];
    siskin_tests::assert_close("first", &first, &[0.06, 0.08], 1e-5);
}

/// Over gradients that differ in size by a thousand times, parameters go nearly where f32 moments bring them.
#[test]
fn moments_of_eight_bits_lead_to_the_same_place() {
    let n = 2 * MOMENT_BLOCK;
    let mut ways =
        [MomentType::F32, MomentType::Int8].map(|ty| (Moments::zero(ty, n), vec![0f32; n]));
    for step in 1..=50 {
        let o = AdamW {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: f32::INFINITY,
            step,
        };
        let drift = noise(9, n);
        let grads: Vec<f32> = noise(step, n)
            .iter()
            .zip(&drift)
            .enumerate()
            .map(|(i, (g, d))| (g + d) * 10f32.powi(-(i as i32 % 4)))
            .collect();
        let norm = adamw::global_norm(&grads);
        for (moments, params) in &mut ways {
            adamw::adamw(&o, norm, &grads, moments, params);
        }
    }
    let [(_, exact), (moments, rounded)] = &ways;
    assert!(moments.fit(MomentType::Int8, n) && !moments.fit(MomentType::F32, n));
    let size = exact.iter().map(|v| v * v).sum::<f32>().sqrt();
    let apart = exact.iter().zip(rounded).map(|(a, b)| (a - b) * (a - b));
    let apart = apart.sum::<f32>().sqrt();
    assert!(size > 1.0 && apart < 0.08 * size, "{apart} of {size}");
}
