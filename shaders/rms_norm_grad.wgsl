// dx = r · (w dy − x · r² / K · Σ(w dy x)) with r = 1 / sqrt(mean(x²) + eps), over each of RUNS runs.
// Shapes: x [T, STRIDE · 4] from START · 4 on; w [K]; dy and dx [T, RUNS · K].
// Dispatch: one workgroup per run (x) and token (y).
// @use reduce
override K: u32;
override RUNS: u32 = 1u;
override STRIDE: u32;
override START: u32 = 0u;
override EPS: f32;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let at = wid.y * STRIDE + START + wid.x * (K / 4u);
    let to = (wid.y * RUNS + wid.x) * (K / 4u);
    var own = vec4<f32>(0.0);
    for (var i = t; i < K / 4u; i += WG) {
        let v = x[at + i];
        own.x += dot(v, v);
        own.y += dot(v * weight[i], dy[to + i]);
    }
    let sums = reduce_sum(own, t);
    let r = 1.0 / sqrt(sums.x / f32(K) + EPS);
    let back = sums.y * r * r / f32(K);
    for (var i = t; i < K / 4u; i += WG) {
        dx[to + i] = r * (weight[i] * dy[to + i] - x[at + i] * back);
    }
}
