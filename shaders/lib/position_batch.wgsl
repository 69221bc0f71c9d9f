// Positions of a batch's rows: each in its segment.
// @use lib/batch

fn position_of(row: u32) -> u32 {
    return batch[row].position;
}
