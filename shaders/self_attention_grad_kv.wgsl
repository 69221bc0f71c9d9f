// The gradients of k and v: Σ_queries ds q and Σ_queries p dy, over the queries of all heads that read
// them (self_attention_grad_q.wgsl says what p and ds are).
// Shapes: lib/qkv_grad, of whose out this writes the columns after q's.
// Dispatch: one workgroup per head of k (x) and token (y).
// @use lib/qkv_grad

var<workgroup> key: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> value: array<vec4<f32>, HEAD_DIM / 4u>;
// ds and p of WG queries.
var<workgroup> weights: array<vec2<f32>, WG>;
var<workgroup> dk_sums: array<vec4<f32>, WG>;
var<workgroup> dv_sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    let kv_head = wid.x;
    let row = wid.y;
    let group = N_HEADS / N_KV_HEADS;
    for (var i = t; i < d4; i += WG) {
        key[i] = k[k_at(row, kv_head) + i];
        value[i] = v[v_at(row, kv_head) + i];
    }
    workgroupBarrier();
    let first = first_query(row);
    let end = reach(row);
    let parts = WG / d4;
    let column = t % d4;
    let part = t / d4;
    var dk = vec4<f32>(0.0);
    var dv = vec4<f32>(0.0);
    for (var head = kv_head * group; head < (kv_head + 1u) * group; head++) {
        for (var tile = first; tile < end; tile += WG) {
            let query = tile + t;
            var weight = vec2<f32>(0.0);
            if query < end {
                let begin = q_at(query, head);
                let above = (query * N_HEADS + head) * d4;
                var score = 0.0;
                var dp = 0.0;
                for (var i = 0u; i < d4; i++) {
                    score += dot(q[begin + i], key[i]);
                    dp += dot(dy[above + i], value[i]);
                }
                let known = stats[query * N_HEADS + head];
                let s = capped(SCALE * score);
                let p = exp(s - known.x);
                weight = vec2<f32>(SCALE * p * (dp - known.y) * capped_grad(s), p);
            }
            weights[t] = weight;
            workgroupBarrier();
            if part < parts {
                let n = min(WG, end - tile);
                for (var j = part; j < n; j += parts) {
                    dk += weights[j].x * q[q_at(tile + j, head) + column];
                    dv += weights[j].y * dy[((tile + j) * N_HEADS + head) * d4 + column];
                }
            }
            workgroupBarrier();
        }
    }
    dk_sums[t] = dk;
    dv_sums[t] = dv;
    workgroupBarrier();
    if t < d4 {
        var dk_total = vec4<f32>(0.0);
        var dv_total = vec4<f32>(0.0);
        for (var p = 0u; p < parts; p++) {
            dk_total += dk_sums[p * d4 + t];
            dv_total += dv_sums[p * d4 + t];
        }
        let at = row * OUT_STRIDE + N_HEADS * d4 + kv_head * d4 + t;
        out[at] = dk_total;
        out[at + N_KV_HEADS * d4] = dv_total;
    }
}
