// An adapter for all rows.
fn is_adapted(row: u32) -> bool {
    return true;
}
