// Blocks of 256: 64 bytes of 2-bit values, four runs in the same 32 bytes. Scales, 5 words: f16 d and dmin; 16 bytes,
// one per 16 weights, with a scale in the low nibble and a minimum in the high one. TQ1_0 and TQ2_0 are stored this way.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let super_block = b >> 3u;
    let run = b & 7u;
    let at = super_block * 4u + (run >> 2u) * 2u;
    let shift = vec4<u32>((run & 3u) * 2u);
    let pairs = vec4<u32>(0x03030303u);
    let s = super_block * 5u;
    let both = vec2<u32>(scales[s + 1u + (run >> 1u)]) >> (vec2<u32>(0u, 8u) + (run & 1u) * 16u);
    let dm = unpack2x16float(scales[s]);
    return Block(
        (quants[at] >> shift) & pairs,
        (quants[at + 1u] >> shift) & pairs,
        dm.x * vec2<f32>(both & vec2<u32>(15u)),
        -(dm.y * vec2<f32>((both >> vec2<u32>(4u)) & vec2<u32>(15u))),
    );
}
