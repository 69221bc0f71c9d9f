// 4-bit codes of 16 signed bytes, which `table` holds in their order.
// @use lib/block
// Of IQ4_NL and IQ4_XS.
const IQ4: vec4<u32> = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
// 4-bit floats (E2M1), doubled.
const FP4: vec4<u32> = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);

// The byte that the code in each lowest byte stands for.
fn looked_up_byte(code: vec4<u32>, table: vec4<u32>) -> vec4<u32> {
    let is_upper = (code & vec4<u32>(4u)) != vec4<u32>(0u);
    let low = select(vec4<u32>(table.x), vec4<u32>(table.y), is_upper);
    let high = select(vec4<u32>(table.z), vec4<u32>(table.w), is_upper);
    let word = select(low, high, (code & vec4<u32>(8u)) != vec4<u32>(0u));
    return (word >> ((code & vec4<u32>(3u)) * 8u)) & vec4<u32>(0xffu);
}

// Four codes, one in each byte of a word, become the bytes that they stand for.
fn looked_up(codes: vec4<u32>, table: vec4<u32>) -> vec4<u32> {
    let byte = vec4<u32>(8u);
    return looked_up_byte(codes, table)
        | (looked_up_byte(codes >> byte, table) << byte)
        | (looked_up_byte(codes >> (2u * byte), table) << (2u * byte))
        | (looked_up_byte(codes >> (3u * byte), table) << (3u * byte));
}

// Of 16 bytes, the low nibbles and then the high ones.
fn coded(q: vec4<u32>, table: vec4<u32>, d: vec2<f32>) -> Block {
    let nibbles = vec4<u32>(0x0f0f0f0fu);
    let lo = looked_up(q & nibbles, table);
    let hi = looked_up((q >> vec4<u32>(4u)) & nibbles, table);
    return Block(lo, hi, d, vec2<f32>(0.0));
}
