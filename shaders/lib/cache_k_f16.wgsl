// Keys of the cache as f16, packed by hand: no device feature is needed.
// @use lib/head_dim
@group(0) @binding(1) var<storage, read_write> keys: array<vec2<u32>>;

const KEY_GROUPS = 1u;

fn key4(row: u32, i: u32) -> vec4<f32> {
    let p = keys[row * (HEAD_DIM / 4u) + i];
    return vec4<f32>(unpack2x16float(p.x), unpack2x16float(p.y));
}

fn write_key(row: u32, i: u32, v: ptr<function, array<vec4<f32>, KEY_GROUPS>>) {
    keys[row * (HEAD_DIM / 4u) + i] = vec2<u32>(pack2x16float((*v)[0].xy), pack2x16float((*v)[0].zw));
}

fn round_key(v: ptr<function, array<vec4<f32>, KEY_GROUPS>>) {}
