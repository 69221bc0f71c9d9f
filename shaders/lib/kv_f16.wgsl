// The KV cache as f16, packed by hand: no device feature is needed.
@group(0) @binding(1) var<storage, read_write> keys: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> values: array<vec2<u32>>;

fn key4(i: u32) -> vec4<f32> {
    let p = keys[i];
    return vec4<f32>(unpack2x16float(p.x), unpack2x16float(p.y));
}

fn value4(i: u32) -> vec4<f32> {
    let p = values[i];
    return vec4<f32>(unpack2x16float(p.x), unpack2x16float(p.y));
}

fn write_key4(i: u32, v: vec4<f32>) {
    keys[i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
}

fn write_value4(i: u32, v: vec4<f32>) {
    values[i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
}
