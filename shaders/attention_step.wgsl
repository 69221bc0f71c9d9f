// All of attention for one token: head norms and rope on q and k, k and v to the cache, and
// out = softmax(SCALE · q Kᵀ) V over the last WINDOW positions (0: all). Every workgroup rotates its
// own q and k, so that none waits for another; the first of each group of heads writes the cache.
// Shapes: x: lib/heads, cache: lib/blocks; sinks [N_HEADS], scores without values; out [N_HEADS · HEAD_DIM]. With SPLITS > 1 the keys are shared among
// that many workgroups per head, and out is what attention_reduce combines: for each head and
// split HEAD_DIM / 4 columns of four, then (peak, total, 0, 0).
// Dispatch: one workgroup per head of q (x) and split (y).
// @use lib/rope
// @use lib/scores
override SCALE: f32;
override WINDOW: u32 = 0u;
override SPLITS: u32 = 1u;
override HAS_SINKS: bool = false;
@group(0) @binding(8) var<storage, read> sinks: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> q: array<vec4<f32>, HEAD_DIM / 4u>;
// The new value, rounded as the cache does it; used if that is more than rounding to f16.
var<workgroup> rounded: array<vec4<f32>, HEAD_DIM / 4u>;
// The token's position, where its sequence's blocks are listed, the head of its keys and values, and the new value in x.
var<private> position: u32;
var<private> blocks: u32;
var<private> kv_head: u32;
var<private> new_value: u32;

fn score_of(key: u32) -> f32 {
    var s = vec4<f32>(0.0);
    if key == position {
        for (var i = 0u; i < HEAD_DIM / 4u; i++) {
            s += q[i] * rotated4(i);
        }
    } else {
        let at = cached(blocks, kv_head, key);
        for (var i = 0u; i < HEAD_DIM / 4u; i++) {
            s += q[i] * key4(at, i);
        }
    }
    return s.x + s.y + s.z + s.w;
}

fn value_of(key: u32, column: u32) -> vec4<f32> {
    if key == position {
        return new_value4(column);
    }
    return value4(cached(blocks, kv_head, key), column);
}

fn new_value4(i: u32) -> vec4<f32> {
    if VALUE_GROUPS > 1u {
        return rounded[i];
    }
    return x4(new_value + 4u * i);
}

// Writes the new key and value to a row of the cache, or not, and leaves them behind as they are there.
fn append(row: u32, writes: bool, t: u32) {
    let d4 = HEAD_DIM / 4u;
    for (var i = KEY_GROUPS * t; i < d4; i += KEY_GROUPS * WG) {
        var k: array<vec4<f32>, KEY_GROUPS>;
        for (var j = 0u; j < KEY_GROUPS && i + j < d4; j++) {
            k[j] = rotated4(i + j);
        }
        if writes {
            write_key(row, i, &k);
        }
        if KEY_GROUPS > 1u {
            round_key(&k);
            for (var j = 0u; j < min(4u * KEY_GROUPS, HEAD_DIM - 4u * i); j++) {
                rotated[4u * i + j] = k[j / 4u][j % 4u];
            }
        }
    }
    for (var i = VALUE_GROUPS * t; i < d4; i += VALUE_GROUPS * WG) {
        var v: array<vec4<f32>, VALUE_GROUPS>;
        for (var j = 0u; j < VALUE_GROUPS && i + j < d4; j++) {
            v[j] = x4(new_value + 4u * (i + j));
        }
        if writes {
            write_value(row, i, &v);
        }
        if VALUE_GROUPS > 1u {
            round_value(&v);
            for (var j = 0u; j < VALUE_GROUPS && i + j < d4; j++) {
                rounded[i + j] = v[j];
            }
        }
    }
}

// @use lib/attend

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let d4 = HEAD_DIM / 4u;
    let group = N_HEADS / N_KV_HEADS;
    // Not the private variable: that a loop is uniform is not proved through one.
    let now = position_of(0u);
    position = now;
    blocks = blocks_of(0u);
    kv_head = wid.x / group;
    new_value = V_START + kv_head * HEAD_DIM;
    rotate(Q_START + wid.x * HEAD_DIM, true, now, t);
    for (var i = t; i < d4; i += WG) {
        q[i] = SCALE * rotated4(i);
    }
    workgroupBarrier();
    rotate(K_START + kv_head * HEAD_DIM, false, now, t);
    append(cached(blocks, kv_head, now), wid.x % group == 0u && wid.y == 0u, t);
    if KEY_GROUPS > 1u || VALUE_GROUPS > 1u {
        workgroupBarrier();
    }
    let end = now + 1u;
    let first = select(0u, end - WINDOW, WINDOW > 0u && end > WINDOW);
    let share = (end - first + SPLITS - 1u) / SPLITS;
    let begin = min(first + wid.y * share, end);
    var a = attend(begin, min(begin + share, end), t);
    if HAS_SINKS && wid.y == 0u {
        a = with_sink(a, sinks[wid.x]);
    }
    if SPLITS == 1u {
        if t < d4 {
            out[wid.x * d4 + t] = a.columns / a.total;
        }
    } else {
        let at = (wid.x * SPLITS + wid.y) * (d4 + 1u);
        if t < d4 {
            out[at + t] = a.columns;
        }
        if t == 0u {
            out[at + d4] = vec4<f32>(a.peak, a.total, 0.0, 0.0);
        }
    }
}
