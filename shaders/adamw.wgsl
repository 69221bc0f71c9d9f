// One step of AdamW after clipping by the global norm, which is left in norm[0]; nothing is changed if the
// norm is not finite. The gradients are 0 afterwards. As torch.optim.AdamW and clip_grad_norm_.
// Shapes: grads, params [N], moments [N] of first and second, partial [256] of square_sum.wgsl.
// Dispatch: one thread a parameter, in workgroups of 256.
// @use reduce
override N: u32;
struct Optimiser {
    // Learning rate over the first moment's correction.
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
@group(0) @binding(4) var<storage, read_write> moments: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> params: array<f32>;
@group(0) @binding(6) var<storage, read_write> partial_sums: array<f32>;
@group(0) @binding(7) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    var squares = 0.0;
    for (var i = t; i < 256u; i += WG) {
        squares += partial_sums[i];
    }
    let total = sqrt(reduce_sum(vec4<f32>(squares), t).x);
    let group = wid.y * groups.x + wid.x;
    if group == 0u && t == 0u {
        norm[0] = total;
    }
    let i = group * WG + t;
    if i >= N {
        return;
    }
    let is_finite = (bitcast<u32>(total) & 0x7f800000u) != 0x7f800000u;
    if is_finite {
        let g = grads[i] * min(o.max_norm / (total + 1e-6), 1.0);
        var m = moments[i];
        m.x += (1.0 - o.beta1) * (g - m.x);
        m.y = o.beta2 * m.y + (1.0 - o.beta2) * g * g;
        moments[i] = m;
        params[i] = params[i] * o.decay - o.rate * m.x / (sqrt(m.y) / o.root + o.eps);
    }
    grads[i] = 0.0;
}
