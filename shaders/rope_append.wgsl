// Head norms (HAS_NORM) and rope on q and k, in place in the stacked projection [T, STRIDE]; then
// k and v go to the cache, [n_kv_heads, CONTEXT, HEAD_DIM] each. The table holds cos and sin of
// position · inv_freq, [CONTEXT, HEAD_DIM / 2].
// Dispatch: one workgroup a head of q, k and v (x) and a token (y).
// @use lib/step
// @use kv_write
// @use reduce
override HEAD_DIM: u32;
override N_HEADS: u32;
override N_KV_HEADS: u32;
override CONTEXT: u32;
override STRIDE: u32;
override Q_START: u32 = 0u;
override K_START: u32;
override V_START: u32;
override HAS_NORM: bool = false;
override EPS: f32 = 0.0;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read> q_norm: array<f32>;
@group(0) @binding(5) var<storage, read> k_norm: array<f32>;
@group(0) @binding(6) var<storage, read> table: array<vec2<f32>>;

var<workgroup> head_values: array<f32, HEAD_DIM>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let token = wid.y;
    let position = step.position + token;
    let is_q = wid.x < N_HEADS;
    let is_v = wid.x >= N_HEADS + N_KV_HEADS;
    var head = wid.x;
    var at = token * STRIDE + Q_START + head * HEAD_DIM;
    if is_v {
        head = wid.x - N_HEADS - N_KV_HEADS;
        at = token * STRIDE + V_START + head * HEAD_DIM;
    } else if !is_q {
        head = wid.x - N_HEADS;
        at = token * STRIDE + K_START + head * HEAD_DIM;
    }
    var scale = 1.0;
    if HAS_NORM {
        var squares = 0.0;
        for (var i = t; i < HEAD_DIM; i += WG) {
            squares += x[at + i] * x[at + i];
        }
        scale = 1.0 / sqrt(reduce_sum(vec4<f32>(squares), t).x / f32(HEAD_DIM) + EPS);
    }
    let half = HEAD_DIM / 2u;
    for (var i = t; i < half; i += WG) {
        var a = x[at + i];
        var b = x[at + i + half];
        if !is_v {
            if HAS_NORM {
                if is_q {
                    a *= scale * q_norm[i];
                    b *= scale * q_norm[i + half];
                } else {
                    a *= scale * k_norm[i];
                    b *= scale * k_norm[i + half];
                }
            }
            let turn = table[position * half + i];
            let rotated = vec2<f32>(a * turn.x - b * turn.y, b * turn.x + a * turn.y);
            a = rotated.x;
            b = rotated.y;
        }
        head_values[i] = a;
        head_values[i + half] = b;
    }
    workgroupBarrier();
    for (var i = t; i < HEAD_DIM / 4u; i += WG) {
        let v = vec4<f32>(
            head_values[4u * i],
            head_values[4u * i + 1u],
            head_values[4u * i + 2u],
            head_values[4u * i + 3u],
        );
        let slot = (head * CONTEXT + position) * (HEAD_DIM / 4u) + i;
        if is_q {
            x[at + 4u * i] = v.x;
            x[at + 4u * i + 1u] = v.y;
            x[at + 4u * i + 2u] = v.z;
            x[at + 4u * i + 3u] = v.w;
        } else if is_v {
            write_value4(slot, v);
        } else {
            write_key4(slot, v);
        }
    }
}
