// What changes from one step to the next; written once per step.
struct Step {
    rows: u32,
    position: u32,
    seed_lo: u32,
    seed_hi: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    top_k: u32,
    // Where the chosen token is written, to be read back.
    slot: u32,
}
@group(0) @binding(0) var<uniform> step: Step;
