// Head norms (HAS_NORM) and rope on q and k, in place in the stacked projection; then k and v are appended to
// the cache. Dispatch: one workgroup per head of q, k and v (x) and token (y).
// @use lib/rope

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = wid.y * STRIDE;
    let position = position_of(wid.y);
    let blocks = blocks_of(wid.y);
    let d4 = HEAD_DIM / 4u;
    if wid.x < N_HEADS {
        let at = row + Q_START + wid.x * HEAD_DIM;
        rotate(at, true, position, t);
        for (var i = t; i < HEAD_DIM; i += WG) {
            x[at + i] = rotated[i];
        }
    } else if wid.x < N_HEADS + N_KV_HEADS {
        let head = wid.x - N_HEADS;
        let at = row + K_START + head * HEAD_DIM;
        rotate(at, false, position, t);
        // Attention reads the cache; this is for traces of k.
        for (var i = t; i < HEAD_DIM; i += WG) {
            x[at + i] = rotated[i];
        }
        let slot = cached(blocks, head, position);
        for (var i = KEY_GROUPS * t; i < d4; i += KEY_GROUPS * WG) {
            var k: array<vec4<f32>, KEY_GROUPS>;
            for (var j = 0u; j < KEY_GROUPS && i + j < d4; j++) {
                k[j] = rotated4(i + j);
            }
            write_key(slot, i, &k);
        }
    } else {
        let head = wid.x - N_HEADS - N_KV_HEADS;
        let at = row + V_START + head * HEAD_DIM;
        let slot = cached(blocks, head, position);
        for (var i = VALUE_GROUPS * t; i < d4; i += VALUE_GROUPS * WG) {
            var v: array<vec4<f32>, VALUE_GROUPS>;
            for (var j = 0u; j < VALUE_GROUPS && i + j < d4; j++) {
                v[j] = x4(at + 4u * (i + j));
            }
            write_value(slot, i, &v);
        }
    }
}
