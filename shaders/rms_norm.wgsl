// out = x / sqrt(mean(x²) + eps) · w over each of the RUNS runs of K columns, or added to out (ADD).
// Shapes: x [T, STRIDE · 4] from START · 4 on; w [K]; out [T, RUNS · K].
// Dispatch: one workgroup per run (x) and token (y).
// @use reduce
override K: u32;
override RUNS: u32 = 1u;
override STRIDE: u32;
override START: u32 = 0u;
override EPS: f32;
override ADD: bool = false;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let at = wid.y * STRIDE + START + wid.x * (K / 4u);
    let to = (wid.y * RUNS + wid.x) * (K / 4u);
    var squares = 0.0;
    for (var i = t; i < K / 4u; i += WG) {
        let v = x[at + i];
        squares += dot(v, v);
    }
    let mean = reduce_sum(vec4<f32>(squares), t).x / f32(K);
    let scale = 1.0 / sqrt(mean + EPS);
    for (var i = t; i < K / 4u; i += WG) {
        let y = x[at + i] * scale * weight[i];
        if ADD {
            out[to + i] += y;
        } else {
            out[to + i] = y;
        }
    }
}
