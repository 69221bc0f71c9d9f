// Values of the cache as f32.
// @use lib/head_dim
@group(0) @binding(2) var<storage, read_write> values: array<vec4<f32>>;

const VALUE_GROUPS = 1u;

fn value4(row: u32, i: u32) -> vec4<f32> {
    return values[row * (HEAD_DIM / 4u) + i];
}

fn write_value(row: u32, i: u32, v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {
    values[row * (HEAD_DIM / 4u) + i] = (*v)[0];
}

fn round_value(v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {}
