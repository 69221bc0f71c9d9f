// Activations for integer dot products: a block of 32 is d · (coarse + fine / 254), with
// d = max|x| / 127 and both parts 8-bit. One part alone would be the usual 8-bit activation, whose
// error changes close choices of a small model; with two the product is as accurate as one in f32, at
// the cost of a second integer product of weights that are unpacked already.
// s is the sum of the values of each half, for formats with a minimum.
// @use lib/values
struct Q16 {
    coarse_lo: vec4<u32>,
    coarse_hi: vec4<u32>,
    fine_lo: vec4<u32>,
    fine_hi: vec4<u32>,
    d: f32,
    s: vec2<f32>,
}

const FINE: f32 = 1.0 / 254.0;

fn peak16(x: mat4x4<f32>) -> f32 {
    let m = max(max(abs(x[0]), abs(x[1])), max(abs(x[2]), abs(x[3])));
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn pack16(x: mat4x4<f32>) -> vec4<u32> {
    return vec4<u32>(
        pack4xI8(vec4<i32>(x[0])),
        pack4xI8(vec4<i32>(x[1])),
        pack4xI8(vec4<i32>(x[2])),
        pack4xI8(vec4<i32>(x[3])),
    );
}

fn round16(x: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(round(x[0]), round(x[1]), round(x[2]), round(x[3]));
}

fn sum16(q: vec4<u32>) -> f32 {
    let ones = 0x01010101u;
    return f32(dot4I8Packed(q.x, ones) + dot4I8Packed(q.y, ones)
        + dot4I8Packed(q.z, ones) + dot4I8Packed(q.w, ones));
}

fn quantise(x: Values) -> Q16 {
    let d = max(peak16(x.a), peak16(x.b)) / 127.0;
    let inverse = select(0.0, 1.0 / d, d > 0.0);
    let a = x.a * inverse;
    let b = x.b * inverse;
    let coarse_a = round16(a);
    let coarse_b = round16(b);
    let coarse_lo = pack16(coarse_a);
    let coarse_hi = pack16(coarse_b);
    let fine_lo = pack16(round16((a - coarse_a) * 254.0));
    let fine_hi = pack16(round16((b - coarse_b) * 254.0));
    let s = d * vec2<f32>(
        sum16(coarse_lo) + FINE * sum16(fine_lo),
        sum16(coarse_hi) + FINE * sum16(fine_hi),
    );
    return Q16(coarse_lo, coarse_hi, fine_lo, fine_hi, d, s);
}
