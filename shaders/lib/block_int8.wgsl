// d (q + 128 - zero): 32 signed bytes per block, with a word: the zero point in its low 8 bits, and d, an f32, above.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let d = bitcast<f32>(scales[b] & 0xffffff00u);
    let m = (128.0 - f32(scales[b] & 255u)) * d;
    return Block(quants[2u * b], quants[2u * b + 1u], vec2<f32>(d), vec2<f32>(m));
}
