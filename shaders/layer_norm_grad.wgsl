// dx = r · (g − mean(g) − z · mean(g z)) with g = w dy, z = (x − mean(x)) · r and r = 1 / sqrt(var(x) + eps), over each of
// RUNS runs. Shapes: x [T, STRIDE · 4] from START · 4 on; w [K]; dy and dx [T, RUNS · K].
// Dispatch: one workgroup per run (x) and token (y).
// @use lib/layer_norm
@group(0) @binding(5) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let at = wid.y * STRIDE + START + wid.x * (K / 4u);
    let to = (wid.y * RUNS + wid.x) * (K / 4u);
    let m = moments(at, t);
    var own = vec4<f32>(0.0);
    for (var i = t; i < K / 4u; i += WG) {
        let g = weight[i] * dy[to + i];
        own.x += g.x + g.y + g.z + g.w;
        own.y += dot(g, (x[at + i] - m.x) * m.y);
    }
    let sums = reduce_sum(own, t) / f32(K);
    for (var i = t; i < K / 4u; i += WG) {
        let z = (x[at + i] - m.x) * m.y;
        dx[to + i] = m.y * (weight[i] * dy[to + i] - sums.x - z * sums.y);
    }
}
