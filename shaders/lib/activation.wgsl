fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}

// The argument is bounded: tanh overflows on some drivers.
fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.7978846 * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + tanh(clamp(inner, -12.0, 12.0)));
}
