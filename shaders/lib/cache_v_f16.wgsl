// Values of the cache as f16, packed by hand: no device feature is needed.
// @use lib/head_dim
@group(0) @binding(2) var<storage, read_write> values: array<vec2<u32>>;

const VALUE_GROUPS = 1u;

fn value4(row: u32, i: u32) -> vec4<f32> {
    let p = values[row * (HEAD_DIM / 4u) + i];
    return vec4<f32>(unpack2x16float(p.x), unpack2x16float(p.y));
}

fn write_value(row: u32, i: u32, v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {
    values[row * (HEAD_DIM / 4u) + i] = vec2<u32>(pack2x16float((*v)[0].xy), pack2x16float((*v)[0].zw));
}

fn round_value(v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {}
