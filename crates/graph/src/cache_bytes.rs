/// What devices keep of a sequence between steps, as bytes in the device's own layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheBytes {
    /// Of each cache the blocks of keys, then those of values, one after another.
    pub caches: Vec<[Vec<u8>; 2]>,
    /// Each recurrent state, and the copy that is kept of it.
    pub states: Vec<[Vec<u8>; 2]>,
}
