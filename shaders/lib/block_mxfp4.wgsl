// 2^(e - 128) values[code], where values are 4-bit floats (E2M1), doubled: 16 bytes of codes per block, with a byte e.
// @use lib/weights
// @use lib/codes
fn load_block(b: u32) -> Block {
    let e = (scales[b >> 2u] >> ((b & 3u) * 8u)) & 0xffu;
    // The two smallest are subnormal.
    let d = bitcast<f32>(select((max(e, 1u) - 1u) << 23u, 0x200000u << e, e < 2u));
    return coded(quants[b], FP4, vec2<f32>(d));
}
