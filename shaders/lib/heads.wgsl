// Heads of q, k and v in the stacked projection x [T, STRIDE], and the caches of k and v.
// @use lib/blocks
// @use reduce
override N_HEADS: u32;
override STRIDE: u32;
override Q_START: u32 = 0u;
override K_START: u32 = 0u;
override V_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

fn x4(i: u32) -> vec4<f32> {
    return vec4<f32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]);
}
