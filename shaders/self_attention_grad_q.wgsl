// The gradient of q: Σ_keys ds k with ds = SCALE · p (dy · v − y · dy), p = exp(score − log-sum-exp), of capped scores by way of the cap's derivative.
// Shapes: lib/qkv_grad, of whose out this writes the first columns.
// Dispatch: one workgroup per head of q (x) and token (y).
// @use lib/qkv_grad

var<workgroup> query: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> above: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> weights: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    let head = wid.x;
    let row = wid.y;
    let kv_head = head / (N_HEADS / N_KV_HEADS);
    for (var i = t; i < d4; i += WG) {
        query[i] = q[q_at(row, head) + i];
        above[i] = dy[(row * N_HEADS + head) * d4 + i];
    }
    workgroupBarrier();
    let known = stats[row * N_HEADS + head];
    let parts = WG / d4;
    let column = t % d4;
    let part = t / d4;
    var acc = vec4<f32>(0.0);
    let end = end_key(row);
    for (var tile = first_key(row); tile < end; tile += WG) {
        let key = tile + t;
        var ds = 0.0;
        if key < end {
            let k_from = k_at(key, kv_head);
            let v_from = v_at(key, kv_head);
            var score = 0.0;
            var dp = 0.0;
            for (var i = 0u; i < d4; i++) {
                score += dot(query[i], k[k_from + i]);
                dp += dot(above[i], v[v_from + i]);
            }
            let s = capped(SCALE * score);
            ds = SCALE * exp(s - known.x) * (dp - known.y) * capped_grad(s);
        }
        weights[t] = ds;
        workgroupBarrier();
        if part < parts {
            let n = min(WG, end - tile);
            for (var j = part; j < n; j += parts) {
                acc += weights[j] * k[k_at(tile + j, kv_head) + column];
            }
        }
        workgroupBarrier();
    }
    sums[t] = acc;
    workgroupBarrier();
    if t < d4 {
        var total = vec4<f32>(0.0);
        for (var p = 0u; p < parts; p++) {
            total += sums[p * d4 + t];
        }
        out[row * OUT_STRIDE + head * d4 + t] = total;
    }
}
