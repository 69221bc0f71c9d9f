// 32 weights as 8-bit integers, 16 in lo and 16 in hi; value = d · q + m, with d and m for each half.
struct Block {
    lo: vec4<u32>,
    hi: vec4<u32>,
    d: vec2<f32>,
    m: vec2<f32>,
}

// The f16 at index i of the scales.
fn scale_f16(i: u32) -> f32 {
    let pair = unpack2x16float(scales[i >> 1u]);
    return select(pair.x, pair.y, (i & 1u) == 1u);
}
