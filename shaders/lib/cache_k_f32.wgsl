// Keys of the cache as f32.
// @use lib/head_dim
@group(0) @binding(1) var<storage, read_write> keys: array<vec4<f32>>;

const KEY_GROUPS = 1u;

fn key4(row: u32, i: u32) -> vec4<f32> {
    return keys[row * (HEAD_DIM / 4u) + i];
}

fn write_key(row: u32, i: u32, v: ptr<function, array<vec4<f32>, KEY_GROUPS>>) {
    keys[row * (HEAD_DIM / 4u) + i] = (*v)[0];
}

fn round_key(v: ptr<function, array<vec4<f32>, KEY_GROUPS>>) {}
