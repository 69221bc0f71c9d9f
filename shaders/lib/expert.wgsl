// The experts that a route chose, and rows of their matrices. Shapes: W [n_experts · EXPERT_ROWS, K], of which a
// dispatch binds ROWS from ROW0 on; route [T, 2 USED]: indices, then weights.
override K: u32;
override USED: u32;
override EXPERT_ROWS: u32;
override ROW0: u32 = 0u;
override ROWS: u32;
override HAS_BIAS: bool = false;
@group(0) @binding(4) var<storage, read_write> route: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

fn expert_of(token: u32, slot: u32) -> u32 {
    return u32(route[token * 2u * USED + slot]);
}

fn weight_of(token: u32, slot: u32) -> f32 {
    return route[(token * 2u + 1u) * USED + slot];
}

// Whether this dispatch binds a row of W, counted from the first expert's first.
fn is_here(row: u32) -> bool {
    return row >= ROW0 && row - ROW0 < ROWS;
}

// The first block of a row; of one that is not here, of any other.
fn blocks_of(row: u32) -> u32 {
    return select(0u, row - ROW0, is_here(row)) * (K / 32u);
}
