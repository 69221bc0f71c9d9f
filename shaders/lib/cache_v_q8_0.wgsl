// Values of the cache as q8_0. A row is its codes, four a word, and then its scales, two a word.
// @use lib/cache_q8_0
@group(0) @binding(2) var<storage, read_write> values: array<u32>;

const VALUE_GROUPS = 16u;

fn value4(row: u32, i: u32) -> vec4<f32> {
    let at = row * row_words_q8_0();
    return decoded_q8_0(values[at + i], values[at + HEAD_DIM / 4u + i / 16u], i);
}

fn write_value(row: u32, i: u32, v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {
    let at = row * row_words_q8_0();
    var code = encoded_q8_0(v);
    for (var j = 0u; j < min(16u, HEAD_DIM / 4u - i); j++) {
        values[at + i + j] = code.words[j];
    }
    values[at + HEAD_DIM / 4u + i / 16u] = code.scales;
}

fn round_value(v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {
    var code = encoded_q8_0(v);
    for (var j = 0u; j < 16u; j++) {
        (*v)[j] = decoded_q8_0(code.words[j], code.scales, j);
    }
}
