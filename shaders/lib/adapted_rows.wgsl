// An adapter for some sequences, over all rows of a step.
// @use lib/rows
override ADAPTER: u32;

fn is_adapted(row: u32) -> bool {
    return adapter_of(row) == ADAPTER;
}
