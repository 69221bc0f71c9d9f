use siskin_graph::Activation;

fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, PyTorch's `gelu(approximate="tanh")`.
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh())
}

/// `out = act(gate) · up`.
pub fn gated(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let act = match activation {
        Activation::Silu => silu,
        Activation::GeluTanh => gelu_tanh,
    };
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = act(*gate) * up;
    }
}
