// Where a step's rows are in their sequences: for each row its position, where in `rows` the list of its sequence's blocks
// begins, the sequence's slot, and its adapter; then these lists.
@group(0) @binding(5) var<storage, read> rows: array<u32>;

fn position_of(row: u32) -> u32 {
    return rows[4u * row];
}

fn slot_of(row: u32) -> u32 {
    return rows[4u * row + 2u];
}

// 0xffffffff if it has none.
fn adapter_of(row: u32) -> u32 {
    return rows[4u * row + 3u];
}
