// out = (x − mean(x)) / sqrt(var(x) + eps) · w + b over each of the RUNS runs of K columns.
// Shapes: x [T, STRIDE · 4] from START · 4 on; w and b (HAS_BIAS) [K]; out [T, RUNS · K].
// Dispatch: one workgroup per run (x) and token (y).
// @use lib/layer_norm
override HAS_BIAS: bool = false;
@group(0) @binding(5) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let at = wid.y * STRIDE + START + wid.x * (K / 4u);
    let to = (wid.y * RUNS + wid.x) * (K / 4u);
    let m = moments(at, t);
    for (var i = t; i < K / 4u; i += WG) {
        var y = (x[at + i] - m.x) * m.y * weight[i];
        if HAS_BIAS {
            y += bias[i];
        }
        out[to + i] = y;
    }
}
