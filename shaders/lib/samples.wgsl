// The sequences of which a step chooses a token.
struct Sample {
    // The step's row whose logits it is chosen from.
    row: u32,
    slot: u32,
    // The position that the token will have.
    position: u32,
    top_k: u32,
    seed_lo: u32,
    seed_hi: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    // Whether only some tokens are allowed.
    is_restricted: u32,
    // The first of what is added to logits, and how many there are.
    added: u32,
    n_added: u32,
}
@group(0) @binding(7) var<storage, read> samples: array<Sample>;
