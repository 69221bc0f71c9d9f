// The KV cache as f32.
@group(0) @binding(1) var<storage, read_write> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> values: array<vec4<f32>>;

fn key4(i: u32) -> vec4<f32> {
    return keys[i];
}

fn value4(i: u32) -> vec4<f32> {
    return values[i];
}

fn write_key4(i: u32, v: vec4<f32>) {
    keys[i] = v;
}

fn write_value4(i: u32, v: vec4<f32>) {
    values[i] = v;
}
