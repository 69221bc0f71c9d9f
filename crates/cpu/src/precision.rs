/// How a linear over quantised weights is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout: the oracle.
    F32,
    /// 16-bit integer activations in steps of one token, where they are faster.
    Fast,
}
