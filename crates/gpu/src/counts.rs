/// What a device has done since its counts were last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kernels that were run.
    pub dispatches: u64,
    /// Command buffers that were handed to the queue.
    pub submits: u64,
    /// Times that the host waited for a value.
    pub readbacks: u64,
    /// Buffers that were created.
    pub buffers_created: u64,
    /// Bind groups that were created.
    pub bind_groups_created: u64,
    /// Bytes that the dispatches read and write: weights, keys and values up to the position,
    /// activations. A weight read twice counts twice.
    pub bytes_bound: u64,
}

/// The time of one kernel in one step, summed over its dispatches.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel and its type of weights, in lower case: `matvec q4_0`.
    pub kernel: String,
    /// How many dispatches were summed.
    pub dispatches: usize,
    /// Their time, by the GPU's clock.
    pub microseconds: f64,
    /// Bytes that they read and write.
    pub bytes: u64,
}
