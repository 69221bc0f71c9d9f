// Values of the cache as q4_0. A row is its codes, eight a word, and then its scales, two a word.
// @use lib/cache_q4_0
@group(0) @binding(2) var<storage, read_write> values: array<u32>;

const VALUE_GROUPS = 16u;

fn value4(row: u32, i: u32) -> vec4<f32> {
    let at = row * row_words_q4_0();
    return decoded_q4_0(values[at + word_q4_0(i)], values[at + HEAD_DIM / 8u + i / 16u], i);
}

fn write_value(row: u32, i: u32, v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {
    let at = row * row_words_q4_0();
    var code = encoded_q4_0(v);
    for (var j = 0u; j < min(8u, HEAD_DIM / 8u - i / 2u); j++) {
        values[at + i / 2u + j] = code.words[j];
    }
    values[at + HEAD_DIM / 8u + i / 16u] = code.scales;
}

fn round_value(v: ptr<function, array<vec4<f32>, VALUE_GROUPS>>) {
    var code = encoded_q4_0(v);
    for (var j = 0u; j < 16u; j++) {
        (*v)[j] = decoded_q4_0(code.words[word_q4_0(j)], code.scales, j);
    }
}
