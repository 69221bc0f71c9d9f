// 4-bit codes of 16 signed bytes, which `table` holds in their order.
// @use lib/block
// Of IQ4_NL and IQ4_XS.
const IQ4: vec4<u32> = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
// 4-bit floats (E2M1), doubled.
const FP4: vec4<u32> = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);

// All bits of each byte of q that has this bit.
fn where_bit(q: vec4<u32>, bit: u32) -> vec4<u32> {
    return ((q >> vec4<u32>(bit)) & vec4<u32>(0x01010101u)) * 255u;
}

fn either(a: vec4<u32>, b: vec4<u32>, second: vec4<u32>) -> vec4<u32> {
    return a ^ ((a ^ b) & second);
}

fn in_each_byte(byte: u32) -> vec4<u32> {
    return vec4<u32>((byte & 0xffu) * 0x01010101u);
}

// One of the four bytes of a word, by two bits of the code.
fn one_of_four(word: u32, bit0: vec4<u32>, bit1: vec4<u32>) -> vec4<u32> {
    let low = either(in_each_byte(word), in_each_byte(word >> 8u), bit0);
    let high = either(in_each_byte(word >> 16u), in_each_byte(word >> 24u), bit0);
    return either(low, high, bit1);
}

// Four codes at a time, in the low (first = 0) or high (4) nibbles of a word's bytes, become the bytes that they stand
// for. There is no array to index and no shift that differs between codes: both are slow on some devices.
fn looked_up(q: vec4<u32>, first: u32, table: vec4<u32>) -> vec4<u32> {
    let bit0 = where_bit(q, first);
    let bit1 = where_bit(q, first + 1u);
    let bit2 = where_bit(q, first + 2u);
    let low = either(one_of_four(table.x, bit0, bit1), one_of_four(table.y, bit0, bit1), bit2);
    let high = either(one_of_four(table.z, bit0, bit1), one_of_four(table.w, bit0, bit1), bit2);
    return either(low, high, where_bit(q, first + 3u));
}

// Of 16 bytes, the low nibbles and then the high ones.
fn coded(q: vec4<u32>, table: vec4<u32>, d: vec2<f32>) -> Block {
    return Block(looked_up(q, 0u, table), looked_up(q, 4u, table), d, vec2<f32>(0.0));
}
