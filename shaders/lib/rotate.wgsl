// Which dimensions of a head rope rotates together. The first 2 · N_FREQS of HEAD_DIM are rotated: dimension
// i is paired with i + N_FREQS, or (INTERLEAVED) 2i with 2i + 1. The others stay as they are.
// @use lib/head_dim
override N_FREQS: u32;
override INTERLEAVED: bool = false;

// The i-th pair of HEAD_DIM / 2.
fn pair_of(i: u32) -> vec2<u32> {
    if INTERLEAVED || i >= N_FREQS {
        return vec2<u32>(2u * i, 2u * i + 1u);
    }
    return vec2<u32>(i, i + N_FREQS);
}
