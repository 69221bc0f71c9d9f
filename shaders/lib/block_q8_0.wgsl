// d q: 32 signed bytes per block, with an f16 scale.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let d = scale_f16(b);
    return Block(quants[2u * b], quants[2u * b + 1u], vec2<f32>(d), vec2<f32>(0.0));
}
