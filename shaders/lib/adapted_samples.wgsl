// An adapter for some sequences, over the rows after which a step chooses a token.
// @use lib/rows
// @use lib/samples
override ADAPTER: u32;

fn is_adapted(row: u32) -> bool {
    return adapter_of(samples[row].row) == ADAPTER;
}
