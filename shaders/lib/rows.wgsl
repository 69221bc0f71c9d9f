// Where a step's rows are in their sequences: for each row its position, where in `rows` the list of its sequence's blocks
// begins, and the sequence's slot; then these lists.
@group(0) @binding(5) var<storage, read> rows: array<u32>;

fn position_of(row: u32) -> u32 {
    return rows[3u * row];
}

fn slot_of(row: u32) -> u32 {
    return rows[3u * row + 2u];
}
