// Blocks of 256: 32 bytes with the fifth bits of all eight runs, then 128 bytes of nibbles, runs 2i and 2i + 1 in the
// low and high nibbles of the same 32 bytes. Scales, 5 words: f16 d and dmin; 8 bytes of scales; 8 bytes of minima.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let super_block = b >> 3u;
    let run = b & 7u;
    let high = super_block * 10u;
    let at = high + 2u + (run >> 1u) * 2u;
    let shift = vec4<u32>((run & 1u) * 4u);
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    let ones = vec4<u32>(0x01010101u);
    let four = vec4<u32>(4u);
    let s = super_block * 5u;
    let byte = (run & 3u) * 8u;
    let scale = f32((scales[s + 1u + (run >> 2u)] >> byte) & 0xffu);
    let low = f32((scales[s + 3u + (run >> 2u)] >> byte) & 0xffu);
    let dm = unpack2x16float(scales[s]);
    return Block(
        ((quants[at] >> shift) & nibbles) | (((quants[high] >> vec4<u32>(run)) & ones) << four),
        ((quants[at + 1u] >> shift) & nibbles) | (((quants[high + 1u] >> vec4<u32>(run)) & ones) << four),
        vec2<f32>(dm.x * scale),
        vec2<f32>(-(dm.y * low)),
    );
}
