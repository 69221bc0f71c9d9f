// Products in f32.
// @use values
alias Input = Values;

fn prepare(x: Values) -> Input {
    return x;
}

// Block b of the weights times 32 activations.
fn product(b: u32, x: Input) -> f32 {
    return dot32(load_values(b), x);
}
