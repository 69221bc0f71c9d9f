// d q + m: 32 bytes per block; f16 d and m in one word. Q5_1 is stored this way.
// @use lib/weights
// @use lib/block
fn load_block(b: u32) -> Block {
    let dm = unpack2x16float(scales[b]);
    return Block(quants[2u * b], quants[2u * b + 1u], dm.xx, dm.yy);
}
