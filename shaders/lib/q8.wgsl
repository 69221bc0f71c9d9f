// 8-bit activations: a block of 32 has the scale max|x| / 127; s is d · (sum of q) of each half.
// @use lib/values
struct Q8 {
    lo: vec4<u32>,
    hi: vec4<u32>,
    d: f32,
    s: vec2<f32>,
}

fn peak16(x: mat4x4<f32>) -> f32 {
    let m = max(max(abs(x[0]), abs(x[1])), max(abs(x[2]), abs(x[3])));
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn pack16(x: mat4x4<f32>, inverse: f32) -> vec4<u32> {
    return vec4<u32>(
        pack4xI8(vec4<i32>(round(x[0] * inverse))),
        pack4xI8(vec4<i32>(round(x[1] * inverse))),
        pack4xI8(vec4<i32>(round(x[2] * inverse))),
        pack4xI8(vec4<i32>(round(x[3] * inverse))),
    );
}

fn sum16(q: vec4<u32>) -> f32 {
    let ones = 0x01010101u;
    return f32(dot4I8Packed(q.x, ones) + dot4I8Packed(q.y, ones)
        + dot4I8Packed(q.z, ones) + dot4I8Packed(q.w, ones));
}

fn quantise(x: Values) -> Q8 {
    let d = max(peak16(x.a), peak16(x.b)) / 127.0;
    let inverse = select(0.0, 1.0 / d, d > 0.0);
    let lo = pack16(x.a, inverse);
    let hi = pack16(x.b, inverse);
    return Q8(lo, hi, d, d * vec2<f32>(sum16(lo), sum16(hi)));
}
