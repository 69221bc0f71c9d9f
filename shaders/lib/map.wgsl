// A function of each value. MAP: 0 the activation, 1 BY · x, 2 BY · tanh(x / BY), 3 exp(m) − 1 − m with
// m = min(x, 0).
// @use lib/activation
override N: u32;
override MAP: u32;
override BY: f32 = 1.0;
// Of x: values from one row to the next, and the first.
override STRIDE: u32;
override START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

// exp(m) − 1 for m ≤ 0; by its series where the difference would cancel.
fn exp_m1(m: f32) -> f32 {
    return select(exp(m) - 1.0, m * (1.0 + m * (0.5 + m * (1.0 / 6.0 + m / 24.0))), m > -0.1);
}

fn soft_cap(x: f32) -> f32 {
    return tanh(clamp(x / BY, -12.0, 12.0));
}
