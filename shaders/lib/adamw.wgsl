// One step of AdamW after clipping by the global norm, as torch.optim.AdamW and clip_grad_norm_; if the norm
// is not finite, nothing must be changed. Shapes: grads, params [N], partial [256] of square_sum.wgsl.
// @use reduce
override N: u32;
struct Optimiser {
    // The learning rate divided by the first moment's correction.
    rate: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    // 1 − learning rate · weight decay.
    decay: f32,
    max_norm: f32,
    // The root of the second moment's correction.
    root: f32,
}
@group(0) @binding(0) var<uniform> o: Optimiser;
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;
@group(0) @binding(5) var<storage, read_write> params: array<f32>;
@group(0) @binding(6) var<storage, read_write> partial_sums: array<f32>;
@group(0) @binding(7) var<storage, read_write> norm: array<f32>;

// The norm of all gradients; the first workgroup writes it to norm[0].
fn global_norm(group: u32, t: u32) -> f32 {
    var squares = 0.0;
    for (var i = t; i < 256u; i += WG) {
        squares += partial_sums[i];
    }
    let total = sqrt(reduce_sum(vec4<f32>(squares), t).x);
    if group == 0u && t == 0u {
        norm[0] = total;
    }
    return total;
}

fn is_finite(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
}

fn clip(total: f32) -> f32 {
    return min(o.max_norm / (total + 1e-6), 1.0);
}

// First and second moment after a gradient.
fn next_moments(m: vec2<f32>, g: f32) -> vec2<f32> {
    return vec2<f32>(m.x + (1.0 - o.beta1) * (g - m.x), o.beta2 * m.y + (1.0 - o.beta2) * g * g);
}

fn next_param(p: f32, m: vec2<f32>) -> f32 {
    return p * o.decay - o.rate * m.x / (sqrt(m.y) / o.root + o.eps);
}
