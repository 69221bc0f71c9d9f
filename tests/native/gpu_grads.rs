//! A step of training through a block of every op, in each profile of each GPU, against the CPU: loss,
//! all gradients, their norm and the parameters after the step.

use pollster::block_on;
use siskin_engine::self_test::{Learning, LearningSpec, first_of_its_kind};
use siskin_formats::TensorType;
use siskin_gpu::GpuDevice;
use siskin_graph::{Activation, MomentType, Pairs};
use siskin_tests::{assert_close, devices_for, tolerance};

fn check(what: &str, i: usize, case: &Learning) {
    let (wanted, wanted_plain) = case.on_cpu().unwrap();
    for (index, profile) in devices_for(i, 1) {
        let what = format!("{what} gpu:{index} {profile}");
        let mut gpu = block_on(GpuDevice::open(Some(index), Some(profile))).unwrap();
        let (found, plain) = block_on(case.on_gpu(&mut gpu)).unwrap();
        let bound = tolerance("training", profile);
        assert_close(
            &format!("{what}: loss"),
            &[found.loss],
            &[wanted.loss],
            bound,
        );
        assert_close(
            &format!("{what}: no dropout"),
            &[plain],
            &[wanted_plain],
            bound,
        );
        assert!(
            (found.loss - plain).abs() > 1e-6,
            "{what}: nothing was dropped"
        );
        assert_close(
            &format!("{what}: gradients"),
            &found.grads,
            &wanted.grads,
            bound,
        );
        assert_close(
            &format!("{what}: norm"),
            &[found.norm],
            &[wanted.norm],
            bound,
        );
        // The first step of AdamW moves by the gradient's sign alone: tiny ones may differ. So may those whose
        // 8-bit moments lie between two codes.
        let apart = found.params.iter().zip(&wanted.params);
        let apart = apart.filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
        assert!(
            apart * 100 < found.params.len(),
            "{what}: {apart} parameters"
        );
        assert!(
            wanted
                .params
                .iter()
                .zip(&wanted.grads)
                .all(|(p, g)| p.is_finite() && g.is_finite())
        );
    }
}

/// Types that a GPU keeps alike have the same kernels.
#[test]
fn through_weights_of_every_kept_type() {
    let types = TensorType::ALL
        .into_iter()
        .filter(|t| first_of_its_kind(*t));
    for (i, ty) in types.enumerate() {
        let (window, activation) = match i % 2 {
            0 => (None, Activation::Silu),
            _ => (Some(5), Activation::GeluTanh),
        };
        // Lengths that are no multiple of a tile, and of more than one.
        let rows = [19, 40, 70][i % 3];
        let spec = LearningSpec {
            types: [ty, TensorType::F32],
            window,
            causal: true,
            activation,
            pairs: [Pairs::Halves, Pairs::Interleaved][i % 4 / 2],
            rows,
            use_dora: i % 2 == 1,
            has_layer_norm: false,
            has_experts: false,
            moments: if i % 4 < 2 {
                MomentType::Int8
            } else {
                MomentType::F32
            },
        };
        let case = Learning::block(spec).unwrap();
        check(ty.name(), i, &case);
    }
}

#[test]
fn through_layer_norms_and_functions_of_values() {
    // Attention both ways, too, as far as the text and within a window.
    for (i, (window, causal)) in [(None, true), (None, false), (Some(3), false)]
        .into_iter()
        .enumerate()
    {
        let spec = LearningSpec {
            types: [TensorType::F32; 2],
            window,
            causal,
            activation: Activation::Relu2,
            pairs: Pairs::Halves,
            rows: 19,
            use_dora: false,
            has_layer_norm: true,
            has_experts: false,
            moments: MomentType::F32,
        };
        check("layer norms", i, &Learning::block(spec).unwrap());
    }
}

#[test]
fn through_experts() {
    let cases = [
        (Activation::Silu, TensorType::F32),
        (Activation::GeluTanh, TensorType::Q4_K),
    ];
    for (i, (activation, ty)) in cases.into_iter().enumerate() {
        let spec = LearningSpec {
            types: [ty, TensorType::F32],
            window: None,
            causal: true,
            activation,
            pairs: Pairs::Halves,
            rows: 19,
            use_dora: false,
            has_layer_norm: false,
            has_experts: true,
            moments: MomentType::F32,
        };
        let case = Learning::block(spec).unwrap();
        check(&format!("experts {ty} {activation:?}"), i, &case);
    }
}
