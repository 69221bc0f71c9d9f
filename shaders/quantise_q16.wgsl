// Quantises activations: x [T, K] → q, 64 bytes per block of 32, coarse then fine, and the
// block's (d, s, 0) in s.
// Dispatch: one thread per block of 32.
// @use lib/step
// @use lib/q16
override K: u32;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> q: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> s: array<vec4<f32>>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let b = id.x;
    if b >= step.rows * (K / 32u) {
        return;
    }
    let i = 8u * b;
    let block = quantise(Values(
        mat4x4<f32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]),
        mat4x4<f32>(x[i + 4u], x[i + 5u], x[i + 6u], x[i + 7u]),
    ));
    q[4u * b] = block.coarse_lo;
    q[4u * b + 1u] = block.coarse_hi;
    q[4u * b + 2u] = block.fine_lo;
    q[4u * b + 3u] = block.fine_hi;
    s[b] = vec4<f32>(block.d, block.s, 0.0);
}
