// d (q - 8) + m: 16 bytes of nibbles per block; f16 d and m in one word.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let q = quants[b];
    let dm = unpack2x16float(scales[b]);
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    let m = dm.y - 8.0 * dm.x;
    return Block(q & nibbles, (q >> vec4<u32>(4u)) & nibbles, dm.xx, vec2<f32>(m));
}
