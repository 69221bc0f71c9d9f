// What the gradients of attention need for each query: the log-sum-exp of its scores, and y · dy.
// Shapes: lib/qkv, where v is the result y; dy as y; stats [T, N_HEADS]. Dispatch: one workgroup per head of
// q (x) and token (y).
// @use lib/qkv
// @use lib/scores
override HAS_SINKS: bool = false;
@group(0) @binding(8) var<storage, read> sinks: array<f32>;
@group(0) @binding(6) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    let head = wid.x;
    let row = wid.y;
    let kv_head = head / (N_HEADS / N_KV_HEADS);
    let at = q_at(row, head);
    let end = end_key(row);
    var peak = -1e30;
    var total = 0.0;
    for (var key = first_key(row) + t; key < end; key += WG) {
        let begin = k_at(key, kv_head);
        var s = 0.0;
        for (var i = 0u; i < d4; i++) {
            s += dot(q[at + i], k[begin + i]);
        }
        let score = capped(SCALE * s);
        let new_peak = max(peak, score);
        total = total * exp(peak - new_peak) + exp(score - new_peak);
        peak = new_peak;
    }
    // As if the first thread had seen the sink, a score without a value.
    if HAS_SINKS && t == 0u {
        let new_peak = max(peak, sinks[head]);
        total = total * exp(peak - new_peak) + exp(sinks[head] - new_peak);
        peak = new_peak;
    }
    let highest = reduce_max(peak, t);
    var inner = 0.0;
    for (var i = t; i < d4; i += WG) {
        inner += dot(v[v_at(row, head) + i], dy[(row * N_HEADS + head) * d4 + i]);
    }
    let sums = reduce_sum(vec4<f32>(total * exp(peak - highest), inner, 0.0, 0.0), t);
    if t == 0u {
        stats[row * N_HEADS + head] = vec2<f32>(highest + log(sums.x), sums.y);
    }
}
