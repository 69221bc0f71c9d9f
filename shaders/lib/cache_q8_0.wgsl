// Rows of a cache as q8_0: signed bytes, with an f16 scale for each 32 columns.
// @use lib/cache_scales
fn row_words_q8_0() -> u32 {
    return HEAD_DIM / 4u + scale_words();
}

// 64 columns.
struct CodeQ8 {
    words: array<u32, 16>,
    scales: u32,
}

fn decoded_q8_0(word: u32, scales: u32, i: u32) -> vec4<f32> {
    return unpack4x8snorm(word) * (127.0 * scale_of(scales, i));
}

fn encoded_q8_0(v: ptr<function, array<vec4<f32>, 16>>) -> CodeQ8 {
    var code: CodeQ8;
    var peaks: array<f32, 2>;
    for (var part = 0u; part < 2u; part++) {
        var most = vec4<f32>(0.0);
        for (var j = 8u * part; j < 8u * part + 8u; j++) {
            most = max(most, abs((*v)[j]));
        }
        let peak = max(max(most.x, most.y), max(most.z, most.w));
        let inverse = select(0.0, 1.0 / peak, peak > 0.0);
        for (var j = 8u * part; j < 8u * part + 8u; j++) {
            code.words[j] = pack4x8snorm((*v)[j] * inverse);
        }
        peaks[part] = peak;
    }
    code.scales = pack2x16float(vec2<f32>(peaks[0], peaks[1]) / 127.0);
    return code;
}
