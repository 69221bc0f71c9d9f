// out = y · sqrt(mean(x²) / max(mean(y²), LEAST)) over each of the RUNS runs of K columns. Shapes: y and out [T, RUNS · K];
// x [T, STRIDE · 4] from START · 4 on, K columns.
// Dispatch: one workgroup per run (x) and token (y).
// @use reduce
override K: u32;
override RUNS: u32;
override STRIDE: u32;
override START: u32 = 0u;
override LEAST: f32;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let at = (wid.y * RUNS + wid.x) * (K / 4u);
    let like = wid.y * STRIDE + START;
    var squares = vec2<f32>(0.0);
    for (var i = t; i < K / 4u; i += WG) {
        let a = y[at + i];
        let b = x[like + i];
        squares += vec2<f32>(dot(a, a), dot(b, b));
    }
    let means = reduce_sum(vec4<f32>(squares, 0.0, 0.0), t) / f32(K);
    let by = sqrt(means.y / max(means.x, LEAST));
    for (var i = t; i < K / 4u; i += WG) {
        out[at + i] = by * y[at + i];
    }
}
