// d (q - 8): 16 bytes of nibbles per block, with an f16 scale.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let q = quants[b];
    let d = scale_f16(b);
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    return Block(q & nibbles, (q >> vec4<u32>(4u)) & nibbles, vec2<f32>(d), vec2<f32>(-8.0 * d));
}
