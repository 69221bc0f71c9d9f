/// What was done since the counts were last cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub dispatches: u64,
    pub submits: u64,
    pub readbacks: u64,
    pub buffers_created: u64,
    pub bind_groups_created: u64,
    /// Bytes that the dispatches read and write: weights, keys and values up to the position,
    /// activations. A weight read twice counts twice.
    pub bytes_bound: u64,
}

/// Time of one kernel in one step, summed over its dispatches.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    pub kernel: String,
    pub dispatches: usize,
    pub microseconds: f64,
    pub bytes: u64,
}
