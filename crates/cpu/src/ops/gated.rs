use siskin_graph::Activation;

fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, PyTorch's `gelu(approximate="tanh")`.
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh())
}

/// `d silu / dx`.
fn silu_grad(x: f32) -> f32 {
    let s = 1.0 / (1.0 + (-x).exp());
    s * (1.0 + x * (1.0 - s))
}

fn gelu_tanh_grad(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let t = (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh();
    let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope
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

/// The gradients of gate and up, side by side: `dy · up · act'(gate)` and `dy · act(gate)`.
pub fn gated_grad(activation: Activation, gate: &[f32], up: &[f32], dy: &[f32], out: &mut [f32]) {
    type Pair = (fn(f32) -> f32, fn(f32) -> f32);
    let (act, slope): Pair = match activation {
        Activation::Silu => (silu, silu_grad),
        Activation::GeluTanh => (gelu_tanh, gelu_tanh_grad),
    };
    let (d_gate, d_up) = out.split_at_mut(gate.len());
    for ((((d_gate, d_up), gate), up), dy) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(dy)
    {
        *d_gate = dy * up * slope(*gate);
        *d_up = dy * act(*gate);
    }
}
