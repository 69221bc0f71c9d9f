// Positions of a step's rows: one after another.
// @use lib/step

fn position_of(row: u32) -> u32 {
    return step.position + row;
}
