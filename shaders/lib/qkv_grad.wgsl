// What the gradients of q, k and v read and write: dy [T, N_HEADS · HEAD_DIM]; stats [T, N_HEADS] of
// self_attention_stats.wgsl; out [T, OUT_STRIDE · 4], the three gradients side by side.
// @use lib/qkv
// @use lib/scores
override OUT_STRIDE: u32;
@group(0) @binding(6) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read_write> out: array<vec4<f32>>;
