// dg = s (1 − s) Σ x dy with s = sigmoid(g). Shapes: x and dy [T, N], g and dg [T, 1].
// Dispatch: one workgroup per token (y).
// @use reduce
override N: u32;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dg: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    var sum = 0.0;
    for (var i = t; i < N; i += WG) {
        sum += x[wid.y * N + i] * dy[wid.y * N + i];
    }
    let total = reduce_sum(vec4<f32>(sum), t).x;
    if t == 0u {
        let s = 1.0 / (1.0 + exp(-g[wid.y]));
        dg[wid.y] = s * (1.0 - s) * total;
    }
}
