// Products of integer blocks with f32 activations, for drivers that run shaders on the CPU,
// where shifts and packed products are slow: each byte is masked in place, which makes it
// 2^8j too large, and the activations are scaled down by as much.
// Needs a block library.
// @use lib/values
struct Scaled {
    // Columns 0–15 and 16–31: row j holds those that are multiplied by byte j of each word.
    lo: mat4x4<f32>,
    hi: mat4x4<f32>,
    // The sum of the values of each half, for formats with a minimum.
    s: vec2<f32>,
    // 128 times the sum of those that are multiplied by bytes 0–2.
    t: vec2<f32>,
}

const BYTE_SCALES: vec4<f32> = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625);

fn bytes_apart(x: mat4x4<f32>) -> mat4x4<f32> {
    let rows = transpose(x);
    return mat4x4<f32>(
        rows[0],
        rows[1] * BYTE_SCALES.y,
        rows[2] * BYTE_SCALES.z,
        rows[3] * BYTE_SCALES.w,
    );
}

fn scaled(x: Values) -> Scaled {
    let ones = vec4<f32>(1.0);
    let a = x.a[0] + x.a[1] + x.a[2] + x.a[3];
    let b = x.b[0] + x.b[1] + x.b[2] + x.b[3];
    let s = vec2<f32>(dot(a, ones), dot(b, ones));
    return Scaled(bytes_apart(x.a), bytes_apart(x.b), s, 128.0 * (s - vec2<f32>(a.w, b.w)));
}

// Bytes 0–2 become unsigned, 128 too large; byte 3 keeps its sign.
fn dot16_bytes(w: vec4<u32>, x: mat4x4<f32>) -> f32 {
    let u = w ^ vec4<u32>(0x00808080u);
    let sum = vec4<f32>(vec4<i32>(u & vec4<u32>(0xffu))) * x[0]
        + vec4<f32>(vec4<i32>(u & vec4<u32>(0xff00u))) * x[1]
        + vec4<f32>(vec4<i32>(u & vec4<u32>(0xff0000u))) * x[2]
        + vec4<f32>(vec4<i32>(u & vec4<u32>(0xff000000u))) * x[3];
    return (sum.x + sum.y) + (sum.z + sum.w);
}

fn dot_block(w: Block, x: Scaled) -> f32 {
    let sums = vec2<f32>(dot16_bytes(w.lo, x.lo), dot16_bytes(w.hi, x.hi));
    return dot(w.d, sums - x.t) + dot(w.m, x.s);
}
