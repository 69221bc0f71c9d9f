// Blocks of 256, d s values[code]: 128 bytes of codes. Scales, 3 words: f16 d; 8 signed bytes s.
// @use lib/weights
// @use lib/codes
fn load_block(b: u32) -> Block {
    let run = b & 7u;
    let s = (b >> 3u) * 3u;
    let d = unpack2x16float(scales[s]).x;
    let scale = i32(scales[s + 1u + (run >> 2u)] << (24u - (run & 3u) * 8u)) >> 24u;
    return coded(quants[b], IQ4, vec2<f32>(d * f32(scale)));
}
