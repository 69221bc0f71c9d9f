//! Runs all cases on a GPU, and says how far each is from the CPU.

use serde::Serialize;
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, Product, Profile};
use siskin_graph::{Activation, AttentionSpec, MomentType, Pairs, Pooling};
use web_time::Instant;

use super::{Case, Learning, LearningSpec, cases};
use crate::Result;

/// The result of one kernel.
#[derive(Debug, Clone, Serialize)]
pub struct KernelResult {
    /// The kernel and what it was run on, for display.
    pub kernel: String,
    /// Largest error relative to the largest value.
    pub error: f32,
    /// The largest error that is accepted.
    pub tolerance: f32,
    /// Whether the error is within the tolerance.
    pub passed: bool,
    /// What its steps take once it is compiled, with what is uploaded before and read after, in milliseconds.
    pub milliseconds: f64,
}

impl KernelResult {
    fn new(kernel: String, (error, milliseconds): (f32, f64), op: &str, profile: Profile) -> Self {
        let tolerance = tolerance(op, profile);
        Self {
            kernel,
            error,
            tolerance,
            passed: error <= tolerance,
            milliseconds,
        }
    }
}

/// Largest error of a value relative to the largest value, by what is computed and how.
pub fn tolerance(op: &str, profile: Profile) -> f32 {
    let integer = profile.product == Product::Dot4;
    match op {
        // Sums of some hundred products; integer activations have 15 bits.
        "linear" if integer => 1e-4,
        // exp and tanh differ between drivers.
        "gated" | "attention" | "recurrent" => 1e-4,
        // Gradients pass through all of these.
        "training" => 1e-3,
        // Keys and values in f16, or with scales in f16.
        "attention_f16" => 2e-3,
        _ => 1e-5,
    }
}

/// Runs every kernel on the `index`-th GPU, or the most capable one, and on the CPU; each result is reported as it comes.
///
/// # Errors
/// If there is no GPU, or it fails.
pub async fn certify(
    index: Option<usize>,
    profile: Option<Profile>,
    on_result: &mut dyn FnMut(KernelResult),
) -> Result<()> {
    let mut gpu = GpuDevice::open(index, profile).await?;
    let profile = gpu.profile();
    for test in cases().map_err(siskin_models::Error::from)? {
        let (mut error, mut milliseconds) = (0f32, 0.0);
        for steps in test.runs {
            let tokens = test.case.tokens(steps.iter().sum());
            let wanted = test.case.on_cpu(&tokens, steps)?;
            let mut start = Instant::now();
            for _ in 0..2 {
                start = Instant::now();
                let found = test.case.on_gpu(&mut gpu, &tokens, steps).await?;
                error = error.max(largest_error(&found, &wanted));
            }
            milliseconds += start.elapsed().as_secs_f64() * 1e3;
        }
        let measured = (error, milliseconds);
        on_result(KernelResult::new(test.kernel, measured, test.op, profile));
    }
    for (what, pooling, window) in [
        ("mean", Pooling::Mean, None),
        ("last row, window 4", Pooling::Last, Some(4)),
    ] {
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 4,
            head_dim: 16,
            scale: 0.3,
            window,
            causal: false,
            soft_cap: None,
            sinks: None,
        };
        let case = Case::texts(TensorType::F32, spec, pooling);
        let case = case.map_err(siskin_models::Error::from)?;
        let batch = case.batch(&[20, 1, 9]);
        let wanted = case.texts_on_cpu(&batch)?;
        let (mut error, mut start) = (0f32, Instant::now());
        for _ in 0..2 {
            start = Instant::now();
            let found = case.texts_on_gpu(&mut gpu, &batch).await?;
            error = error.max(largest_error(&found, &wanted));
        }
        let measured = (error, start.elapsed().as_secs_f64() * 1e3);
        let kernel = format!("attention both ways, {what} of each text");
        on_result(KernelResult::new(kernel, measured, "attention", profile));
    }
    for (ty, window, activation, use_dora) in [
        (TensorType::Q4_1, None, Activation::Silu, false),
        (TensorType::F16, Some(5), Activation::GeluTanh, true),
    ] {
        let case = Learning::block(LearningSpec {
            types: [ty, TensorType::F32],
            window,
            activation,
            pairs: Pairs::Halves,
            rows: 40,
            use_dora,
            causal: true,
            has_layer_norm: false,
            has_experts: false,
            moments: MomentType::F32,
        });
        let case = case.map_err(siskin_models::Error::from)?;
        let (wanted, _) = case.on_cpu()?;
        let (mut error, mut start) = (0f32, Instant::now());
        for _ in 0..2 {
            start = Instant::now();
            let (found, _) = case.on_gpu(&mut gpu).await?;
            error = error.max(largest_error(&found.grads, &wanted.grads));
        }
        let measured = (error, start.elapsed().as_secs_f64() * 1e3);
        let kind = if use_dora { "DoRA" } else { "LoRA" };
        let kernel = format!("training step, {}, {kind}", ty.name());
        on_result(KernelResult::new(kernel, measured, "training", profile));
    }
    Ok(())
}

/// Relative to the largest value; infinite for a value that is not a number.
fn largest_error(found: &[f32], wanted: &[f32]) -> f32 {
    let size = wanted.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let errors = found.iter().zip(wanted).map(|(a, b)| (a - b).abs() / size);
    errors.fold(0.0, |most, e| {
        if e.is_nan() {
            f32::INFINITY
        } else {
            most.max(e)
        }
    })
}
