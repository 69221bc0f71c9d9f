// out = softmax(SCALE · q Kᵀ) V of each token of a batch over its own segment.
// Shapes: lib/qkv; sinks [N_HEADS], scores without values; out [T, N_HEADS · HEAD_DIM]. Dispatch: one workgroup per head of q (x) and token (y).
// @use lib/qkv
// @use lib/scores
override HAS_SINKS: bool = false;
@group(0) @binding(7) var<storage, read> sinks: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> query: array<vec4<f32>, HEAD_DIM / 4u>;
var<private> kv_head: u32;

fn score_of(key: u32) -> f32 {
    let at = k_at(key, kv_head);
    var s = vec4<f32>(0.0);
    for (var i = 0u; i < HEAD_DIM / 4u; i++) {
        s += query[i] * k[at + i];
    }
    return s.x + s.y + s.z + s.w;
}

fn value_of(key: u32, column: u32) -> vec4<f32> {
    return v[v_at(key, kv_head) + column];
}

// @use lib/attend

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    for (var i = t; i < d4; i += WG) {
        query[i] = SCALE * q[q_at(wid.y, wid.x) + i];
    }
    workgroupBarrier();
    kv_head = wid.x / (N_HEADS / N_KV_HEADS);
    var a = attend(first_key(wid.y), end_key(wid.y), t);
    if HAS_SINKS {
        a = with_sink(a, sinks[wid.x]);
    }
    if t < d4 {
        out[(wid.y * N_HEADS + wid.x) * d4 + t] = a.columns / a.total;
    }
}
