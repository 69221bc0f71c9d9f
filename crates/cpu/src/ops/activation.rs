use siskin_graph::{Activation, Map};

/// Bound and steepness of gpt-oss's activation (`swiglu_limit` and `swiglu_alpha` of transformers' GptOssConfig).
const CLAMP: f32 = 7.0;
const STEEPNESS: f32 = 1.702;

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// `act(x)`, as PyTorch has it.
pub fn activation(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
        Activation::Gelu => x * normal(x),
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0) * x.max(0.0),
        Activation::ClampedSilu => {
            let c = x.min(CLAMP);
            c / (1.0 + (-STEEPNESS * c).exp())
        }
        Activation::Sigmoid => sigmoid(x),
        Activation::Identity => x,
    }
}

/// `d act / dx`.
pub fn activation_grad(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            s * (1.0 + x * (1.0 - s))
        }
        Activation::GeluTanh => {
            let t = gelu_inner(x).tanh();
            let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope
        }
        Activation::Gelu => {
            const INV_SQRT_2PI: f32 = 0.398_942_3;
            normal(x) + x * INV_SQRT_2PI * (-0.5 * x * x).exp()
        }
        Activation::Relu => f32::from(u8::from(x > 0.0)),
        Activation::Relu2 => 2.0 * x.max(0.0),
        Activation::ClampedSilu if x >= CLAMP => 0.0,
        Activation::ClampedSilu => {
            let s = 1.0 / (1.0 + (-STEEPNESS * x).exp());
            s * (1.0 + STEEPNESS * x * (1.0 - s))
        }
        Activation::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
        Activation::Identity => 1.0,
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_inner(x: f32) -> f32 {
    SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)
}

/// The normal distribution's Φ, by Abramowitz and Stegun 7.1.26, whose error is below 1e-7.
fn normal(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let tail = 0.5 * poly * (-z * z).exp();
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// A function of each value.
pub fn map(map: Map, x: &[f32], out: &mut [f32]) {
    let values = out.iter_mut().zip(x);
    match map {
        Map::Scale(by) => values.for_each(|(out, x)| *out = by * x),
        Map::SoftCap(cap) => values.for_each(|(out, x)| *out = cap * (x / cap).tanh()),
        Map::ExpExcess => values.for_each(|(out, x)| *out = x.min(0.0).exp_m1() - x.min(0.0)),
        Map::Activation(act) => values.for_each(|(out, x)| *out = activation(act, *x)),
    }
}

/// The gradient of x.
pub fn map_grad(map: Map, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let values = dx.iter_mut().zip(x).zip(dy);
    match map {
        Map::Scale(by) => values.for_each(|((dx, _), dy)| *dx = by * dy),
        Map::SoftCap(cap) => values.for_each(|((dx, x), dy)| {
            let t = (x / cap).tanh();
            *dx = dy * (1.0 - t * t);
        }),
        Map::ExpExcess => values.for_each(|((dx, x), dy)| *dx = dy * x.min(0.0).exp_m1()),
        Map::Activation(act) => {
            values.for_each(|((dx, x), dy)| *dx = dy * activation_grad(act, *x))
        }
    }
}

/// What the activated gate is multiplied by.
fn factor(act: Activation, up: f32) -> f32 {
    match act {
        Activation::ClampedSilu => up.clamp(-CLAMP, CLAMP) + 1.0,
        _ => up,
    }
}

fn factor_grad(act: Activation, up: f32) -> f32 {
    match act {
        Activation::ClampedSilu if up.abs() >= CLAMP => 0.0,
        _ => 1.0,
    }
}

/// `out = act(gate) · up`.
pub fn gated(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = activation(act, *gate) * factor(act, *up);
    }
}

/// The gradients of gate and up, side by side: `dy · up · act'(gate)` and `dy · act(gate)`.
pub fn gated_grad(act: Activation, gate: &[f32], up: &[f32], dy: &[f32], out: &mut [f32]) {
    let (d_gate, d_up) = out.split_at_mut(gate.len());
    for ((((d_gate, d_up), gate), up), dy) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(dy)
    {
        *d_gate = dy * factor(act, *up) * activation_grad(act, *gate);
        *d_up = dy * factor_grad(act, *up) * activation(act, *gate);
    }
}

/// `out = x · sigmoid(g)`.
pub fn row_gate(x: &[f32], g: f32, out: &mut [f32]) {
    let by = 1.0 / (1.0 + (-g).exp());
    out.iter_mut().zip(x).for_each(|(out, x)| *out = by * x);
}

/// The gradient of g.
pub fn row_gate_grad(x: &[f32], g: f32, dy: &[f32]) -> f32 {
    let s = 1.0 / (1.0 + (-g).exp());
    s * (1.0 - s) * x.iter().zip(dy).map(|(x, d)| x * d).sum::<f32>()
}
