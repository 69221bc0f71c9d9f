// Rows of a cache as q4_0: nibbles, 8 too large, with an f16 scale for each 32 columns. Of these the first 16 are the low
// nibbles of four words, the others the high ones.
// @use lib/cache_scales
fn row_words_q4_0() -> u32 {
    return HEAD_DIM / 8u + scale_words();
}

// 64 columns.
struct CodeQ4 {
    words: array<u32, 8>,
    scales: u32,
}

// Which word holds a group of four columns.
fn word_q4_0(i: u32) -> u32 {
    return i / 8u * 4u + i % 4u;
}

fn decoded_q4_0(word: u32, scales: u32, i: u32) -> vec4<f32> {
    let nibbles = select(word, word >> 4u, i % 8u > 3u) & 0x0f0f0f0fu;
    return (unpack4x8unorm(nibbles) * 255.0 - 8.0) * scale_of(scales, i);
}

// The value of greatest magnitude, with its sign, becomes -8.
fn larger(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return select(a, b, abs(b) > abs(a));
}

fn nibbles_q4_0(v: vec4<f32>, inverse: f32) -> u32 {
    return pack4x8unorm(min(v * inverse + 8.0, vec4<f32>(15.0)) / 255.0);
}

fn encoded_q4_0(v: ptr<function, array<vec4<f32>, 16>>) -> CodeQ4 {
    var code: CodeQ4;
    var scales: array<f32, 2>;
    for (var part = 0u; part < 2u; part++) {
        let first = 8u * part;
        var most = vec4<f32>(0.0);
        for (var j = first; j < first + 8u; j++) {
            most = larger(most, (*v)[j]);
        }
        most = larger(most, most.zwzw);
        let scale = larger(most, most.yyyy).x / -8.0;
        let inverse = select(0.0, 1.0 / scale, scale != 0.0);
        for (var j = 0u; j < 4u; j++) {
            code.words[4u * part + j] = nibbles_q4_0((*v)[first + j], inverse)
                | (nibbles_q4_0((*v)[first + 4u + j], inverse) << 4u);
        }
        scales[part] = scale;
    }
    code.scales = pack2x16float(vec2<f32>(scales[0], scales[1]));
    return code;
}
