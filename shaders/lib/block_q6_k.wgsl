// Blocks of 256, d s (q - 32): 128 bytes of nibbles, then 64 bytes of two high bits. Scales, 5
// words: f16 d; 16 signed bytes s, one per 16 weights. Q3_K is stored this way too.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let super_block = b >> 3u;
    let run = b & 7u;
    let half = run >> 2u;
    let j = run & 3u;
    let low = super_block * 12u + half * 4u + (j & 1u) * 2u;
    let high = super_block * 12u + 8u + half * 2u;
    let low_shift = vec4<u32>((j >> 1u) * 4u);
    let high_shift = vec4<u32>(j * 2u);
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    let pairs = vec4<u32>(0x03030303u);
    let four = vec4<u32>(4u);
    let s = super_block * 5u;
    let d = unpack2x16float(scales[s]).x;
    // The two signed bytes of this run.
    let both = i32(scales[s + 1u + (run >> 1u)] << (16u - (run & 1u) * 16u));
    let d_lo = d * f32((both << 8u) >> 24u);
    let d_hi = d * f32(both >> 24u);
    return Block(
        ((quants[low] >> low_shift) & nibbles) | (((quants[high] >> high_shift) & pairs) << four),
        ((quants[low + 1u] >> low_shift) & nibbles) | (((quants[high + 1u] >> high_shift) & pairs) << four),
        vec2<f32>(d_lo, d_hi),
        vec2<f32>(-32.0 * d_lo, -32.0 * d_hi),
    );
}
