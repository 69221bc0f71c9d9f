// out = max(x − (mean(x) + DEVIATIONS · std(x)), 0) over each row. Shapes: x [T, STRIDE · 4] from START · 4 on; out [T, K].
// Dispatch: one workgroup per token (y).
// @use lib/moments
override DEVIATIONS: f32;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let at = wid.y * STRIDE + START;
    let m = mean_and_variance(at, t);
    let cutoff = m.x + DEVIATIONS * sqrt(m.y);
    for (var i = t; i < K / 4u; i += WG) {
        out[wid.y * (K / 4u) + i] = max(x[at + i] - cutoff, vec4<f32>(0.0));
    }
}
