//! Each op against PyTorch's recorded values.

use siskin_cpu::ops::{
    activation::gated,
    attention::attention,
    experts::{Matrices, expert_down, expert_up},
    gaussian_top_k::gaussian_top_k,
    gemm::Mat,
    linear::linear,
    mix::{Coefficients, mix},
    rescale::rescale,
    rms_norm::rms_norm,
    rope::{Turn, rope},
    route::route,
};
use siskin_cpu::{CpuPart, KvCache, Precision};
use siskin_formats::{TensorType, decode, encode};
use siskin_graph::{
    Activation, AttentionSpec, Cache, CacheType, CacheTypes, Graph, MixSpec, Pairs, RopeSpec,
    RouteSpec, Sampling, Score, SequenceRows, StepInput,
};
use siskin_tests::{Tensors, assert_close, values};

fn recorded() -> Tensors {
    Tensors::open("ops.safetensors")
}

#[test]
fn rms_norm_is_pytorch_s() {
    let t = recorded();
    let (x, wanted) = (t.f32("rms_norm.x"), t.f32("rms_norm.out"));
    let mut out = vec![0.0; x.len()];
    rms_norm(&x, &t.f32("rms_norm.w"), 1e-5, &mut out);
    assert_close("rms_norm", &out, &wanted, 1e-6);
}

#[test]
fn mixes_of_streams_are_pytorch_s() {
    let t = recorded();
    let [x, m, constants, w] = ["x", "m", "constants", "w"].map(|n| t.f32(&format!("mix.{n}")));
    let wanted = t.f32("mix.out");
    let mut out = vec![0.0; wanted.len()];
    for (r, out) in out.chunks_exact_mut(16).enumerate() {
        let c = Coefficients {
            n_in: 3,
            constants: &constants,
            of_token: Some((&w, &m[r * 4..][..4])),
        };
        mix(c, &x[r * 24..][..24], out);
    }
    assert_close("mix", &out, &wanted, 1e-6);
    let (target, wanted) = (t.f32("rescale.x"), t.f32("rescale.out"));
    let mut rescaled = vec![0.0; wanted.len()];
    let rows = out.chunks_exact(16).zip(target.chunks_exact(8));
    for ((y, x), out) in rows.zip(rescaled.chunks_exact_mut(16)) {
        rescale(y, x, 1e-5, out);
    }
    assert_close("rescale", &rescaled, &wanted, 1e-6);
}

#[test]
fn a_stream_of_zeros_stays_one() {
    let mut out = [1.0; 4];
    rescale(&[0.0; 4], &[1.0; 4], 1e-5, &mut out);
    assert_eq!(out, [0.0; 4]);
}

#[test]
fn gaussian_top_k_is_pytorch_s() {
    let t = recorded();
    let (x, wanted) = (t.f32("gaussian_top_k.x"), t.f32("gaussian_top_k.out"));
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(40).zip(out.chunks_exact_mut(40)) {
        gaussian_top_k(x, 0.84, out);
    }
    assert_close("gaussian_top_k", &out, &wanted, 1e-6);
    // Where all values are alike, none is above the others.
    gaussian_top_k(&[2.0; 8], 0.5, &mut out[..8]);
    assert_eq!(out[..8], [0.0; 8]);
}

#[test]
fn graphs_refuse_streams_that_do_not_fit() {
    let mut g = Graph::default();
    let table = g.matrix("table", &[("table", 8)], 24);
    let x = g.embed(table, 1.0);
    let m = g.slice(x, 0, 4).unwrap();
    let constants = g.constant("constants", vec![0.0; 6]);
    let weights = g.constant("weights", vec![0.0; 24]);
    let spec = MixSpec {
        n_in: 3,
        n_out: 2,
        constants,
        weights: Some(weights),
    };
    assert!(g.mix(x, Some(m), spec).is_ok());
    let one = MixSpec { n_out: 1, ..spec };
    let five = MixSpec { n_in: 5, ..spec };
    let alone = MixSpec {
        weights: None,
        ..spec
    };
    for (m, spec) in [
        (Some(m), one),
        (Some(m), five),
        (Some(x), spec),
        (None, spec),
        (Some(m), alone),
    ] {
        let error = g.mix(x, m, spec).unwrap_err().to_string();
        assert!(error.contains("mix"), "{error}");
    }
    let other = g.slice(x, 0, 9).unwrap();
    assert!(g.rescale(x, other, 1e-5).is_err());
}

#[test]
fn gated_is_pytorch_s() {
    let t = recorded();
    for (activation, name) in [
        (Activation::Silu, "silu"),
        (Activation::GeluTanh, "gelu_tanh"),
    ] {
        let wanted = t.f32(&format!("gated.{name}"));
        let mut out = vec![0.0; wanted.len()];
        gated(
            activation,
            &t.f32("gated.gate"),
            &t.f32("gated.up"),
            &mut out,
        );
        assert_close(name, &out, &wanted, 1e-6);
    }
}

#[test]
fn linear_is_pytorch_s_for_few_rows_and_many() {
    let t = recorded();
    let (x, bias, wanted) = (t.f32("linear.x"), t.f32("linear.b"), t.f32("linear.out"));
    let bytes = encode(TensorType::F32, &t.f32("linear.w")).unwrap();
    // In two parts, as stacked projections are.
    let (top, bottom) = bytes.split_at(20 * 64 * 4);
    let part = |rows, bytes: &[u8]| CpuPart {
        ty: TensorType::F32,
        rows,
        bytes: bytes.to_vec(),
    };
    let parts = [part(20, top), part(28, bottom)];
    for precision in [Precision::F32, Precision::Fast] {
        for rows in 1..=5 {
            let mut out = vec![0.0; rows * 48];
            linear(
                &parts,
                Some(&bias),
                &x[..rows * 64],
                64,
                precision,
                &mut out,
            );
            assert_close("linear", &out, &wanted[..rows * 48], 1e-6);
        }
    }
}

/// Blocks of rows, whose products are of matrices, against one row at a time.
#[test]
fn attention_of_many_rows_is_that_of_each() {
    let (shape, rows, before) = (
        Cache {
            n_kv_heads: 2,
            head_dim: 16,
        },
        75,
        37,
    );
    let scores = [0.3, -1.0, 9.0, 0.0];
    for (window, soft_cap, sinks) in [
        (None, None, None),
        (Some(20), None, None),
        (None, Some(1.5), Some(&scores[..])),
    ] {
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            scale: 0.9,
            window,
            causal: true,
            soft_cap,
            sinks: None,
        };
        // Blocks in disorder.
        let blocks: Vec<u32> = (0..8).map(|b| (b * 5 + 2) % 8).collect();
        let of = |position, rows| SequenceRows {
            rows,
            position,
            slot: 0,
            blocks: blocks.clone(),
            windowed: vec![],
            choices: 0,
            sampling: Sampling::default(),
            allowed: None,
            added: vec![],
            adapter: None,
        };
        let mut cache = KvCache::new(shape, 8, CacheType::F32.into());
        let (k, v) = (values(1, 112 * 32), values(2, 112 * 32));
        for r in 0..before + rows {
            cache.write(&blocks, r, &k[r * 32..][..32], &v[r * 32..][..32]);
        }
        let q = values(3, rows * 64);
        let q = Mat::dense(&q, 64);
        let (mut all, mut each) = (vec![0.0; rows * 64], vec![0.0; rows * 64]);
        let mut scratch = vec![];
        let sequence = [of(before, rows)];
        attention(&spec, sinks, q, &cache, &sequence, &mut scratch, &mut all);
        for (r, out) in each.chunks_mut(64).enumerate() {
            let q = q.rows(r, 1);
            let sequence = [of(before + r, 1)];
            attention(&spec, sinks, q, &cache, &sequence, &mut scratch, out);
        }
        assert_close(&format!("{spec:?}"), &all, &each, 1e-5);
    }
}

#[test]
fn integer_linear_is_close_to_f32_for_every_type() {
    for ty in TensorType::ALL.into_iter().filter(|t| t.is_integer()) {
        let number = ty.ggml().unwrap_or(99);
        let (n, k) = (130, 512);
        let part = CpuPart {
            ty,
            rows: n,
            bytes: siskin_tests::weights(ty, number, n * k),
        };
        // Both sides of each number of rows at which the way changes.
        for rows in (1..=9).chain([16, 127, 128]) {
            let x = values(9, rows * k);
            let (mut fast, mut exact) = (vec![0.0; rows * n], vec![0.0; rows * n]);
            linear(
                std::slice::from_ref(&part),
                None,
                &x,
                k,
                Precision::Fast,
                &mut fast,
            );
            linear(
                std::slice::from_ref(&part),
                None,
                &x,
                k,
                Precision::F32,
                &mut exact,
            );
            assert_close(ty.name(), &fast, &exact, 3e-5);
        }
    }
}

/// Columns that fill no vector, and rows that fill no group of those that are multiplied at a time.
#[test]
fn linear_of_any_shape_is_a_product() {
    for (n, k) in [(1, 1), (5, 37), (100, 48)] {
        let w = values(3, n * k);
        let part = CpuPart {
            ty: TensorType::F32,
            rows: n,
            bytes: w.iter().flat_map(|w| w.to_le_bytes()).collect(),
        };
        for rows in 1..=17 {
            let x = values(9, rows * k);
            let mut out = vec![0.0; 2 * rows * n];
            let parts = [part.clone(), part.clone()];
            linear(&parts, None, &x, k, Precision::F32, &mut out);
            let product = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum();
            let wanted: Vec<f32> = (x.chunks(k))
                .flat_map(|x| w.chunks(k).chain(w.chunks(k)).map(move |w| product(x, w)))
                .collect();
            assert_close(&format!("{rows} × {n} × {k}"), &out, &wanted, 1e-5);
        }
    }
}

#[test]
fn rope_is_transformers() {
    let t = recorded();
    let (x, freqs, wanted) = (t.f32("rope.x"), t.f32("rope.inv_freq"), t.f32("rope.out"));
    let mut out = vec![0.0; x.len()];
    let cols = x.len() / 4;
    for (r, (x, out)) in x.chunks(cols).zip(out.chunks_mut(cols)).enumerate() {
        rope(x, Turn::whole(&freqs), 7 + r, out);
    }
    assert_close("rope", &out, &wanted, 1e-6);
}

/// Heads of 6 of which 4 dimensions are rotated, by halves and by neighbours: the same as whole heads of those 4 in
/// the order of halves, and the other two as they are.
#[test]
fn rope_takes_part_of_a_head() {
    let (x, freqs) = (values(3, 12), [1.0, 0.3]);
    for (pairs, order) in [
        (Pairs::Halves, [0, 1, 2, 3]),
        (Pairs::Interleaved, [0, 2, 1, 3]),
    ] {
        let turn = Turn {
            head_dim: 6,
            pairs,
            ..Turn::whole(&freqs)
        };
        let (mut out, mut back) = (vec![0.0; 12], vec![0.0; 12]);
        rope(&x, turn, 5, &mut out);
        for (x, out) in x.chunks(6).zip(out.chunks(6)) {
            let whole = order.map(|i| x[i]);
            let mut wanted = [0.0; 4];
            rope(&whole, Turn::whole(&freqs), 5, &mut wanted);
            assert_eq!(order.map(|i| out[i]), wanted, "{pairs:?}");
            assert_eq!(out[4..], x[4..], "{pairs:?}");
        }
        rope(&out, Turn { back: true, ..turn }, 5, &mut back);
        assert_close("rope and back", &back, &x, 1e-6);
    }
}

#[test]
fn graphs_refuse_rope_that_does_not_fit() {
    let mut g = Graph::default();
    let table = g.matrix("table", &[("table", 8)], 12);
    let x = g.embed(table, 1.0);
    let freqs = g.constant("inv_freq", vec![1.0, 0.3]);
    assert!(g.rope(x, freqs, 6).is_err());
    let spec = |head_dim| RopeSpec {
        inv_freq: freqs,
        head_dim,
        pairs: Pairs::Interleaved,
        scale: 1.0,
    };
    assert!(g.rope_of(x, spec(6)).is_ok());
    assert!(g.rope_of(x, spec(5)).is_err());
    assert!(g.rope_of(x, spec(2)).is_err());
    assert!(g.rope(x, freqs, 4).is_ok());
}

#[test]
fn attention_is_pytorch_s_however_the_rows_come() {
    let t = recorded();
    for (name, window) in [("full", None), ("window", Some(5))] {
        let get = |what: &str| t.f32(&format!("attention.{name}.{what}"));
        let (q, k, v, wanted) = (get("q"), get("k"), get("v"), get("out"));
        let shape = Cache {
            n_kv_heads: 2,
            head_dim: 16,
        };
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            scale: 0.3,
            window,
            causal: true,
            soft_cap: None,
            sinks: None,
        };
        for (ty, tolerance) in [(CacheType::F32, 1e-6), (CacheType::F16, 1e-3)] {
            for chunk in [1, 4, 9] {
                let mut cache = KvCache::new(shape, 1, ty.into());
                let mut out = vec![0.0; q.len()];
                let mut scratch = vec![];
                for (i, out) in out.chunks_mut(chunk * 64).enumerate() {
                    let (at, rows) = (i * chunk, out.len() / 64);
                    for r in at..at + rows {
                        cache.write(&[0], r, &k[r * 32..][..32], &v[r * 32..][..32]);
                    }
                    let q = Mat::dense(&q[at * 64..][..rows * 64], 64);
                    let step = StepInput::alone(&vec![0; rows], at, None);
                    attention(&spec, None, q, &cache, &step.sequences, &mut scratch, out);
                }
                assert_close(name, &out, &wanted, tolerance);
            }
        }
    }
}

/// What a cache gives back is what its type's codec makes of each row, wherever the row is.
#[test]
fn caches_round_as_their_types_do() {
    use CacheType::{F16, F32, Q4_0, Q8_0};
    let random = values;
    let rounded = |ty: CacheType, row: &[f32]| -> Vec<f32> {
        let ty = match ty {
            F32 => TensorType::F32,
            F16 => TensorType::F16,
            Q8_0 => TensorType::Q8_0,
            Q4_0 => TensorType::Q4_0,
        };
        let mut out = vec![0.0; row.len()];
        decode(ty, &encode(ty, row).unwrap(), &mut out);
        out
    };
    // Two scales, and three, of which the last has a word of its own.
    for head_dim in [64, 96] {
        let shape = Cache {
            n_kv_heads: 2,
            head_dim,
        };
        for (keys, values) in [(Q8_0, Q4_0), (Q4_0, Q8_0), (F16, Q8_0), (Q4_0, F32)] {
            let types = CacheTypes { keys, values };
            let mut cache = KvCache::new(shape, 4, types);
            let n = 2 * head_dim;
            let (k, v) = (random(1, 40 * n), random(2, 40 * n));
            for (at, (k, v)) in k.chunks(n).zip(v.chunks(n)).enumerate() {
                cache.write(&[2, 0, 3], at, k, v);
            }
            cache.copy_block(0, 1);
            for head in 0..2 {
                let (mut found_k, mut found_v) =
                    (vec![0.0; 30 * head_dim], vec![0.0; 30 * head_dim]);
                cache.keys(&[2, 1, 3], head, 7, &mut found_k);
                cache.values(&[2, 1, 3], head, 7, &mut found_v);
                for i in 0..30 {
                    let from = ((7 + i) * 2 + head) * head_dim..;
                    let row = i * head_dim..(i + 1) * head_dim;
                    let (k, v) = (&k[from.clone()][..head_dim], &v[from][..head_dim]);
                    assert_eq!(found_k[row.clone()], rounded(keys, k), "{types} {head_dim}");
                    assert_eq!(found_v[row], rounded(values, v), "{types} {head_dim}");
                }
            }
        }
    }
}

#[test]
fn attention_over_a_quantised_cache_is_close_to_that_over_f32() {
    let shape = Cache {
        n_kv_heads: 2,
        head_dim: 64,
    };
    let spec = AttentionSpec {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 64,
        scale: 0.125,
        window: None,
        causal: true,
        soft_cap: None,
        sinks: None,
    };
    let (q, k, v) = (
        values(1, 70 * 256),
        values(2, 70 * 128),
        values(3, 70 * 128),
    );
    let attended = |types: CacheTypes| {
        let mut cache = KvCache::new(shape, 5, types);
        for r in 0..70 {
            cache.write(
                &[4, 3, 2, 1, 0],
                r,
                &k[r * 128..][..128],
                &v[r * 128..][..128],
            );
        }
        let mut step = StepInput::alone(&[0; 70], 0, None);
        step.sequences[0].blocks = vec![4, 3, 2, 1, 0];
        let mut out = vec![0.0; q.len()];
        let q = Mat::dense(&q, 256);
        attention(
            &spec,
            None,
            q,
            &cache,
            &step.sequences,
            &mut vec![],
            &mut out,
        );
        out
    };
    let wanted = attended(CacheType::F32.into());
    // Half a step of the codes; 4 bits have none for the greatest magnitude with the other sign, which is a whole step off.
    for (ty, tolerance) in [(CacheType::Q8_0, 5e-3), (CacheType::Q4_0, 0.13)] {
        assert_close(ty.name(), &attended(ty.into()), &wanted, tolerance);
    }
}

#[test]
fn routes_take_the_highest_scores() {
    let logits = [0.5, -1.0, 2.0, 0.5, 1.0];
    let exp: Vec<f32> = logits.iter().map(|l| f32::exp(*l)).collect();
    let total: f32 = exp.iter().sum();
    let spec = RouteSpec {
        n_used: 3,
        score: Score::Softmax,
        bias: None,
        expert_scales: None,
        renormalise: false,
        eps: 0.0,
        scale: 2.0,
    };
    let mut out = [0.0; 6];
    // Of the two equal ones the first.
    route(&spec, [None, None], &logits, &mut out);
    let p = |e: usize| 2.0 * exp[e] / total;
    assert_close("softmax", &out, &[2.0, 4.0, 0.0, p(2), p(4), p(0)], 1e-6);

    let renormalise = true;
    let all = RouteSpec {
        renormalise,
        ..spec
    };
    route(&all, [None, None], &logits, &mut out);
    let sum = exp[2] + exp[4] + exp[0];
    let q = |e: usize| 2.0 * exp[e] / sum;
    assert_close(
        "renormalised",
        &out,
        &[2.0, 4.0, 0.0, q(2), q(4), q(0)],
        1e-6,
    );

    // A bias changes the choice, not the weights.
    let score = Score::Sigmoid;
    let sigmoids = RouteSpec { score, ..spec };
    let bias = [0.0, 1.0, 0.0, 0.0, 0.0];
    route(&sigmoids, [Some(&bias), None], &logits, &mut out);
    let mut scaled = out;
    let scales: Vec<f32> = (0..logits.len()).map(|e| 2.0 + e as f32).collect();
    route(
        &sigmoids,
        [Some(&bias), Some(&scales)],
        &logits,
        &mut scaled,
    );
    let (indices, weights) = out.split_at(out.len() / 2);
    for (slot, (e, weight)) in indices.iter().zip(weights).enumerate() {
        assert_eq!(scaled[indices.len() + slot], weight * (2.0 + e));
    }
    let s = |e: usize| 2.0 / (1.0 + f32::exp(-logits[e]));
    assert_close("sigmoid", &out, &[1.0, 2.0, 4.0, s(1), s(2), s(4)], 1e-6);
}

/// Of logits 2, 1, 0.5, …, with all within 60 % of the highest close to it.
#[test]
fn sparse_mixers_weigh_what_is_close() {
    let logits = [0.5, -1.0, 2.0, 0.9, 1.0];
    let spec = RouteSpec {
        n_used: 2,
        score: Score::SparseMixer { jitter: 0.3 },
        bias: None,
        expert_scales: None,
        renormalise: false,
        eps: 0.0,
        scale: 1.0,
    };
    let mut out = [0.0; 4];
    route(&spec, [None, None], &logits, &mut out);
    let exp = |x: f32| x.exp();
    let first = exp(2.0) / (exp(2.0) + exp(1.0) + exp(0.9));
    let second = exp(1.0) / (exp(1.0) + exp(0.9) + exp(0.5));
    assert_close("mixer", &out, &[2.0, 4.0, first, second], 1e-6);
}

/// Experts one at a time and row by row, from their decoded weights.
#[test]
fn experts_are_those_of_the_route() {
    let (n_experts, n_used, n, k) = (5, 2, 100, 64);
    for ty in [TensorType::F32, TensorType::Q4_1] {
        let bytes = siskin_tests::weights(ty, 5, n_experts * n * k);
        let mut w = vec![0.0; n_experts * n * k];
        decode(ty, &bytes, &mut w);
        let bias = values(8, n_experts * n);
        // In parts that end within an expert.
        let (top, bottom) = bytes.split_at(ty.bytes_of(130 * k).unwrap());
        let part = |rows, bytes: &[u8]| CpuPart {
            ty,
            rows,
            bytes: bytes.to_vec(),
        };
        let parts = [part(130, top), part(n_experts * n - 130, bottom)];
        let m = Matrices {
            parts: &parts,
            bias: Some(&bias),
            n,
            k,
            n_experts,
        };
        let row = |e: usize, r: usize, x: &[f32]| -> f32 {
            let w = &w[(e * n + r) * k..][..k];
            bias[e * n + r] + w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()
        };
        let routes = [
            [3.0, 0.0, 0.7, 0.3],
            [1.0, 3.0, 0.5, 0.1],
            [4.0, 2.0, 0.2, 0.9],
        ];
        for rows in [1, 3] {
            let route: Vec<f32> = routes[..rows].concat();
            let (x, h) = (values(1, rows * k), values(2, rows * n_used * k));
            let route_of = Mat::dense(&route, 2 * n_used);
            let chosen = |t: usize, slot: usize| routes[t][slot] as usize;
            let mut up = vec![0.0; rows * n_used * n];
            let precision = Precision::F32;
            expert_up(m, 2, Mat::dense(&x, k), route_of, precision, &mut up);
            let half = n / 2;
            let wanted: Vec<f32> = (0..up.len())
                .map(|i| {
                    let (t, at) = (i / (n_used * n), i % (n_used * n));
                    let (projection, slot) = (at / (n_used * half), at / half % n_used);
                    let x = &x[t * k..][..k];
                    row(chosen(t, slot), projection * half + at % half, x)
                })
                .collect();
            assert_close(&format!("up {ty} {rows}"), &up, &wanted, 1e-5);

            let mut down = vec![0.0; rows * n];
            expert_down(
                m,
                Mat::dense(&h, n_used * k),
                route_of,
                precision,
                &mut down,
            );
            let wanted: Vec<f32> = (0..down.len())
                .map(|i| {
                    let t = i / n;
                    let of = |slot: usize| {
                        let h = &h[(t * n_used + slot) * k..][..k];
                        routes[t][n_used + slot] * row(chosen(t, slot), i % n, h)
                    };
                    of(0) + of(1)
                })
                .collect();
            assert_close(&format!("down {ty} {rows}"), &down, &wanted, 1e-5);
        }
    }
}
