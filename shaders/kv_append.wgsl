// Writes the keys and values of a step's tokens to the cache (lib/blocks).
// Shapes: k [T, K_STRIDE] from K_START on, v likewise. Dispatch: one thread per GROUPS times four columns of a head (x) and
// token (y).
// @use lib/blocks
override K_STRIDE: u32;
override K_START: u32 = 0u;
override V_STRIDE: u32;
override V_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> k: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

const GROUPS = max(KEY_GROUPS, VALUE_GROUPS);

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d4 = HEAD_DIM / 4u;
    let threads = (d4 + GROUPS - 1u) / GROUPS;
    if id.x >= N_KV_HEADS * threads {
        return;
    }
    let head = id.x / threads;
    let first = id.x % threads * GROUPS;
    let row = cached(blocks_of(id.y), head, position_of(id.y));
    let from_k = id.y * K_STRIDE + K_START + head * HEAD_DIM;
    let from_v = id.y * V_STRIDE + V_START + head * HEAD_DIM;
    for (var i = first; i < min(first + GROUPS, d4); i += KEY_GROUPS) {
        var g: array<vec4<f32>, KEY_GROUPS>;
        for (var j = 0u; j < KEY_GROUPS && i + j < d4; j++) {
            let at = from_k + 4u * (i + j);
            g[j] = vec4<f32>(k[at], k[at + 1u], k[at + 2u], k[at + 3u]);
        }
        write_key(row, i, &g);
    }
    for (var i = first; i < min(first + GROUPS, d4); i += VALUE_GROUPS) {
        var g: array<vec4<f32>, VALUE_GROUPS>;
        for (var j = 0u; j < VALUE_GROUPS && i + j < d4; j++) {
            let at = from_v + 4u * (i + j);
            g[j] = vec4<f32>(v[at], v[at + 1u], v[at + 2u], v[at + 3u]);
        }
        write_value(row, i, &g);
    }
}
