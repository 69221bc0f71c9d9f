// Where keys and values are in the caches, [blocks, N_KV_HEADS, 16, HEAD_DIM] each: in blocks of 16 tokens, of which each
// sequence has a list. Columns are read in groups of four (key4, value4), and KEY_GROUPS or VALUE_GROUPS of these, of which
// those beyond HEAD_DIM are ignored, are written together, rounded to the type of the cache: round_key and round_value
// only round them, and do nothing if a group is written by itself.
// @use cache_k
// @use cache_v
// @use lib/rows
// @use lib/head_dim
override N_KV_HEADS: u32;

// Where in `rows` the blocks of a row's sequence are listed.
fn blocks_of(row: u32) -> u32 {
    return rows[4u * row + 1u];
}

// The row of a position's key or value.
fn cached(blocks: u32, head: u32, position: u32) -> u32 {
    let block = rows[blocks + position / 16u];
    return (block * N_KV_HEADS + head) * 16u + position % 16u;
}
