// q, k and v of a batch, each with rows of its own stride, and which keys a token attends to: those of its
// segment up to itself, or (if not CAUSAL) also after it, no further away than WINDOW - 1 (0: all). Strides and starts
// are in units of four columns.
// @use lib/batch
// @use lib/head_dim
// @use reduce
override N_HEADS: u32;
override N_KV_HEADS: u32;
override SCALE: f32;
override WINDOW: u32 = 0u;
override CAUSAL: bool = true;
override Q_STRIDE: u32;
override K_STRIDE: u32;
override V_STRIDE: u32;
override V_START: u32 = 0u;
@group(0) @binding(3) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> k: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>;

fn q_at(row: u32, head: u32) -> u32 {
    return row * Q_STRIDE + head * (HEAD_DIM / 4u);
}

fn k_at(row: u32, head: u32) -> u32 {
    return row * K_STRIDE + head * (HEAD_DIM / 4u);
}

fn v_at(row: u32, head: u32) -> u32 {
    return row * V_STRIDE + V_START + head * (HEAD_DIM / 4u);
}

fn first_key(row: u32) -> u32 {
    let start = row - batch[row].position;
    return select(start, max(start, row + 1u - min(WINDOW, row + 1u)), WINDOW > 0u);
}

// The row after the last token of its segment within the window after it.
fn reach(row: u32) -> u32 {
    return select(batch[row].end, min(batch[row].end, row + WINDOW), WINDOW > 0u);
}

fn end_key(row: u32) -> u32 {
    return select(reach(row), row + 1u, CAUSAL);
}

// The tokens that attend to a key: those of its segment from itself on, or also before it.
fn first_query(row: u32) -> u32 {
    return select(first_key(row), row, CAUSAL);
}
