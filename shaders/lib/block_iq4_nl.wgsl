// d values[code]: 16 bytes of codes per block, with an f16 scale.
// @use lib/weights
// @use lib/codes
fn load_block(b: u32) -> Block {
    return coded(quants[b], IQ4, vec2<f32>(scale_f16(b)));
}
