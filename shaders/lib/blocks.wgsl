// Where keys and values are in the caches, [blocks, N_KV_HEADS, 16, HEAD_DIM] each: in blocks of 16 tokens, of which each
// sequence has a list.
// @use kv
// @use lib/rows
// @use lib/head_dim
override N_KV_HEADS: u32;

// Where in `rows` the blocks of a row's sequence are listed.
fn blocks_of(row: u32) -> u32 {
    return rows[4u * row + 1u];
}

// The first four columns of a position's key or value.
fn cached(blocks: u32, head: u32, position: u32) -> u32 {
    let block = rows[blocks + position / 16u];
    return ((block * N_KV_HEADS + head) * 16u + position % 16u) * (HEAD_DIM / 4u);
}
