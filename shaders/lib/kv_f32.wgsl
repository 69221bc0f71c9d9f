@group(0) @binding(1) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;

fn key4(i: u32) -> vec4<f32> {
    return keys[i];
}

fn value4(i: u32) -> vec4<f32> {
    return values[i];
}
