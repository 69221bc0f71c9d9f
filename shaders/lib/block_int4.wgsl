// d (q - zero): 16 bytes of nibbles per block, with a word: the zero point in its low 4 bits, and d, an f32, above.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let q = quants[b];
    let d = bitcast<f32>(scales[b] & 0xfffffff0u);
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    let m = -f32(scales[b] & 15u) * d;
    return Block(q & nibbles, (q >> vec4<u32>(4u)) & nibbles, vec2<f32>(d), vec2<f32>(m));
}
