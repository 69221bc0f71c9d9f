// Writes the keys and values of a step's tokens to the cache (lib/blocks).
// Shapes: k [T, K_STRIDE] from K_START on, v likewise. Dispatch: one thread per four columns (x) and token (y).
// @use lib/blocks
override K_STRIDE: u32;
override K_START: u32 = 0u;
override V_STRIDE: u32;
override V_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> k: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d4 = HEAD_DIM / 4u;
    if id.x >= N_KV_HEADS * d4 {
        return;
    }
    let slot = cached(blocks_of(id.y), id.x / d4, position_of(id.y)) + id.x % d4;
    let from_k = id.y * K_STRIDE + K_START + 4u * id.x;
    let from_v = id.y * V_STRIDE + V_START + 4u * id.x;
    write_key4(slot, vec4<f32>(k[from_k], k[from_k + 1u], k[from_k + 2u], k[from_k + 3u]));
    write_value4(slot, vec4<f32>(v[from_v], v[from_v + 1u], v[from_v + 2u], v[from_v + 3u]));
}
