// out = softmax(SCALE · q Kᵀ) V, causal, over the last WINDOW positions (0: all), for several tokens
// whose keys and values are in the cache. Shapes: x: lib/heads, cache: lib/blocks; sinks [N_HEADS], scores without values; out [T, N_HEADS · HEAD_DIM].
// Dispatch: one workgroup per head of q (x) and token (y).
// @use lib/heads
// @use lib/scores
override SCALE: f32;
override WINDOW: u32 = 0u;
override HAS_SINKS: bool = false;
@group(0) @binding(4) var<storage, read> sinks: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> q: array<vec4<f32>, HEAD_DIM / 4u>;
// Where the sequence's blocks are listed, and the head of its keys and values.
var<private> blocks: u32;
var<private> kv_head: u32;

fn score_of(key: u32) -> f32 {
    let at = cached(blocks, kv_head, key);
    var s = vec4<f32>(0.0);
    for (var i = 0u; i < HEAD_DIM / 4u; i++) {
        s += q[i] * key4(at, i);
    }
    return s.x + s.y + s.z + s.w;
}

fn value_of(key: u32, column: u32) -> vec4<f32> {
    return value4(cached(blocks, kv_head, key), column);
}

// @use lib/attend

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    let at = wid.y * STRIDE + Q_START + wid.x * HEAD_DIM;
    for (var i = t; i < d4; i += WG) {
        q[i] = SCALE * x4(at + 4u * i);
    }
    workgroupBarrier();
    blocks = blocks_of(wid.y);
    kv_head = wid.x / (N_HEADS / N_KV_HEADS);
    let end = position_of(wid.y) + 1u;
    let first = select(0u, end - WINDOW, WINDOW > 0u && end > WINDOW);
    var a = attend(first, end, t);
    if HAS_SINKS {
        a = with_sink(a, sinks[wid.x]);
    }
    if t < d4 {
        out[(wid.y * N_HEADS + wid.x) * d4 + t] = a.columns / a.total;
    }
}
