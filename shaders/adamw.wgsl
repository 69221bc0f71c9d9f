// A step of the optimiser with moments in f32; the gradients are 0 afterwards.
// Shapes: moments [N] of first and second. Dispatch: one thread per parameter, in workgroups of 256.
// @use lib/adamw
@group(0) @binding(4) var<storage, read_write> moments: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let group = wid.y * groups.x + wid.x;
    let total = global_norm(group, t);
    let i = group * WG + t;
    if i >= N {
        return;
    }
    if is_finite(total) {
        let m = next_moments(moments[i], grads[i] * clip(total));
        moments[i] = m;
        params[i] = next_param(params[i], m);
    }
    grads[i] = 0.0;
}
