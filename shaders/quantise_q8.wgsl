// Makes activations 8-bit: x [T, K] → q, 32 bytes a block, and s, (d, d · Σq of each half, 0).
// Dispatch: one thread a block of 32.
// @use lib/step
// @use lib/q8
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
    q[2u * b] = block.lo;
    q[2u * b + 1u] = block.hi;
    s[b] = vec4<f32>(block.d, block.s, 0.0);
}
