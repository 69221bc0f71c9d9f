// partial[i] = the sum of the squares of the i-th share of all gradients. Shapes: grads [N], partial [256].
// Dispatch: 256 workgroups.
// @use reduce
override N: u32;
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;
@group(0) @binding(6) var<storage, read_write> partial_sums: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    var sum = 0.0;
    for (var i = wid.x * WG + t; i < N; i += 256u * WG) {
        sum += grads[i] * grads[i];
    }
    let total = reduce_sum(vec4<f32>(sum), t).x;
    if t == 0u {
        partial_sums[wid.x] = total;
    }
}
