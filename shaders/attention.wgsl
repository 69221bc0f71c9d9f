// out = softmax(SCALE · q Kᵀ) V, causal, over the last WINDOW positions (0: all); q rows are
// STRIDE apart from Q_START on. Shapes: cache [N_KV_HEADS, CONTEXT, HEAD_DIM], out [T, n_heads ·
// HEAD_DIM]. Dispatch: one workgroup a head of q (x) and a token (y).
// Keys come WG at a time, one a thread, with a running maximum (online softmax, M. Milakov and
// N. Gimelshein 2018); then the threads share the values: HEAD_DIM / 4 columns by PARTS keys.
// @use lib/step
// @use kv
// @use reduce
override HEAD_DIM: u32;
override N_HEADS: u32;
override N_KV_HEADS: u32;
override CONTEXT: u32;
override STRIDE: u32;
override Q_START: u32 = 0u;
override SCALE: f32;
override WINDOW: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> q: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> weights: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let head = wid.x;
    let token = wid.y;
    let d4 = HEAD_DIM / 4u;
    let parts = WG / d4;
    let at = token * STRIDE + Q_START + head * HEAD_DIM;
    for (var i = t; i < d4; i += WG) {
        q[i] = SCALE * vec4<f32>(x[at + 4u * i], x[at + 4u * i + 1u], x[at + 4u * i + 2u], x[at + 4u * i + 3u]);
    }
    workgroupBarrier();
    let end = step.position + token + 1u;
    var first = 0u;
    if WINDOW > 0u && end > WINDOW {
        first = end - WINDOW;
    }
    let base = (head / (N_HEADS / N_KV_HEADS)) * CONTEXT;
    let column = t % d4;
    let part = t / d4;
    var peak = -1e30;
    var total = 0.0;
    var acc = vec4<f32>(0.0);
    for (var tile = first; tile < end; tile += WG) {
        let key = tile + t;
        var score = -1e30;
        if key < end {
            let k = (base + key) * d4;
            var s = vec4<f32>(0.0);
            for (var i = 0u; i < d4; i++) {
                s += q[i] * key4(k + i);
            }
            score = s.x + s.y + s.z + s.w;
        }
        let new_peak = max(peak, reduce_max(score, t));
        let shrink = exp(peak - new_peak);
        peak = new_peak;
        let weight = select(0.0, exp(score - peak), key < end);
        weights[t] = weight;
        total = total * shrink + weight;
        acc *= shrink;
        workgroupBarrier();
        if part < parts {
            let n = min(WG, end - tile);
            for (var j = part; j < n; j += parts) {
                acc += weights[j] * value4((base + tile + j) * d4 + column);
            }
        }
        workgroupBarrier();
    }
    let denominator = reduce_sum(vec4<f32>(total), t).x;
    sums[t] = acc;
    workgroupBarrier();
    if t < d4 {
        var v = sums[t];
        for (var p = 1u; p < parts; p++) {
            v += sums[p * d4 + t];
        }
        out[(token * N_HEADS + head) * d4 + t] = v / denominator;
    }
}
