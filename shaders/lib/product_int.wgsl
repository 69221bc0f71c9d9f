// Products of packed 8-bit integers.
// @use block
// @use lib/q16
// @use lib/dot_q16
alias Input = Q16;

fn prepare(x: Values) -> Input {
    return quantise(x);
}

// Block b of the weights times 32 activations.
fn product(b: u32, x: Input) -> f32 {
    return dot_block(load_block(b), x);
}
