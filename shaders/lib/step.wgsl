// What changes from one step to the next.
struct Step {
    // Rows of the values; of those that only last rows have, if the kernel's are.
    rows: u32,
    seed_lo: u32,
    // Where in the ring the chosen tokens are written, to be read back.
    slot: u32,
}
@group(0) @binding(0) var<uniform> step: Step;
