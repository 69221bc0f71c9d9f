// The scales of a quantised row of a cache, of HEAD_DIM / 32 blocks: f16, two a word, so that 64 columns are written by one
// thread.
// @use lib/head_dim
fn scale_words() -> u32 {
    return (HEAD_DIM + 63u) / 64u;
}

// The scale of a group of four columns, from the word that holds it.
fn scale_of(scales: u32, i: u32) -> f32 {
    let both = unpack2x16float(scales);
    return select(both.x, both.y, i % 16u > 7u);
}
