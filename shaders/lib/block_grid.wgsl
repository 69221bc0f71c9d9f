// Blocks of 256, d s values[code]: 128 bytes of codes. Scales, 5 words: f16 d and the number of the table; 16 bytes s,
// one per 16 weights. IQ1, IQ2 and IQ3 are stored this way.
// @use lib/weights
// @use lib/codes
fn load_block(b: u32) -> Block {
    let run = b & 7u;
    let s = (b >> 3u) * 5u;
    let head = scales[s];
    var table: vec4<u32>;
    var fraction = 0.125;
    switch head >> 16u {
        // IQ1.
        case 0u: {
            table = vec4<u32>(0x01fff9f7u, 0x00000907u, 0x00000000u, 0x00000000u);
        }
        // IQ2.
        case 1u: {
            table = vec4<u32>(0x08f8e7d5u, 0x00002b19u, 0x00000000u, 0x00000000u);
        }
        // IQ3_XXS.
        case 2u: {
            table = vec4<u32>(0xdcd4ccc2u, 0xfcf4ece4u, 0x1c140c04u, 0x3e342c24u);
            fraction = 0.25;
        }
        // IQ3_S.
        default: {
            table = vec4<u32>(0xf7f5f3f1u, 0xfffdfbf9u, 0x07050301u, 0x0f0d0b09u);
            fraction = 1.0;
        }
    }
    let d = fraction * unpack2x16float(head).x;
    let both = scales[s + 1u + (run >> 1u)] >> ((run & 1u) * 16u);
    return coded(quants[b], table, d * vec2<f32>(f32(both & 0xffu), f32((both >> 8u) & 0xffu)));
}
