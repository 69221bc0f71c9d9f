// s values[code], where values are 4-bit floats (E2M1), doubled, and scales 8-bit floats without a sign (E4M3), halved:
// for each 16 weights 8 bytes of codes, first the low nibbles and then the high ones, and a byte of scale.
// @use lib/weights
// @use lib/codes
fn load_block(b: u32) -> Block {
    let s = scales[b >> 1u] >> ((b & 1u) * 16u);
    // The bits of an f16 whose exponent is 8 too small.
    let d = 128.0 * unpack2x16float(((s & 0x7fu) << 7u) | ((s & 0x7f00u) << 15u));
    let w = coded(quants[b], FP4, d);
    return Block(vec4<u32>(w.lo.xy, w.hi.xy), vec4<u32>(w.lo.zw, w.hi.zw), d, w.m);
}
