use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use siskin_graph::{BLOCK_TOKENS, Cache};

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheType {
    /// Half precision: half the memory, rounded to 11 bits.
    F16,
    /// Single precision.
    F32,
}

impl CacheType {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

#[derive(Debug)]
enum Data {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Data {
    fn new(ty: CacheType, len: usize) -> Self {
        match ty {
            // Zeros of a primitive type come from the system, which gives memory only to what is written.
            CacheType::F16 => Self::F16(vec![0u16; len].reinterpret_into()),
            CacheType::F32 => Self::F32(vec![0.0; len]),
        }
    }

    fn write(&mut self, at: usize, values: &[f32]) {
        match self {
            Self::F16(d) => d[at..][..values.len()].convert_from_f32_slice(values),
            Self::F32(d) => d[at..][..values.len()].copy_from_slice(values),
        }
    }

    fn copy(&mut self, from: Range<usize>, to: usize) {
        match self {
            Self::F16(d) => d.copy_within(from, to),
            Self::F32(d) => d.copy_within(from, to),
        }
    }

    fn read(&self, at: usize, out: &mut [f32]) {
        match self {
            Self::F16(d) => d[at..][..out.len()].convert_to_f32_slice(out),
            Self::F32(d) => out.copy_from_slice(&d[at..][..out.len()]),
        }
    }
}

/// Keys and values of one layer, in blocks of tokens: `[blocks, n_kv_heads, 16, head_dim]` each. A sequence is a list of
/// the blocks that hold its tokens.
#[derive(Debug)]
pub struct KvCache {
    /// Heads and their dimensions.
    pub shape: Cache,
    keys: Data,
    values: Data,
}

impl KvCache {
    /// A cache of zeros.
    pub fn new(shape: Cache, blocks: usize, ty: CacheType) -> Self {
        let len = blocks * shape.n_kv_heads * BLOCK_TOKENS * shape.head_dim;
        Self {
            shape,
            keys: Data::new(ty, len),
            values: Data::new(ty, len),
        }
    }

    fn at(&self, blocks: &[u32], head: usize, position: usize) -> usize {
        let (block, within) = (position / BLOCK_TOKENS, position % BLOCK_TOKENS);
        let row = (blocks[block] as usize * self.shape.n_kv_heads + head) * BLOCK_TOKENS + within;
        row * self.shape.head_dim
    }

    /// Writes the keys and values of a sequence's token, `[n_kv_heads · head_dim]` each.
    pub fn write(&mut self, blocks: &[u32], position: usize, k: &[f32], v: &[f32]) {
        let d = self.shape.head_dim;
        for head in 0..self.shape.n_kv_heads {
            let at = self.at(blocks, head, position);
            self.keys.write(at, &k[head * d..][..d]);
            self.values.write(at, &v[head * d..][..d]);
        }
    }

    /// Reads the keys of a sequence's head from position `from` on, as many as fit in `out`.
    pub fn keys(&self, blocks: &[u32], head: usize, from: usize, out: &mut [f32]) {
        self.read(&self.keys, blocks, head, from, out);
    }

    /// Reads the values of a sequence's head from position `from` on, as many as fit in `out`.
    pub fn values(&self, blocks: &[u32], head: usize, from: usize, out: &mut [f32]) {
        self.read(&self.values, blocks, head, from, out);
    }

    fn read(&self, data: &Data, blocks: &[u32], head: usize, from: usize, mut out: &mut [f32]) {
        let (d, mut from) = (self.shape.head_dim, from);
        while !out.is_empty() {
            let n = (BLOCK_TOKENS - from % BLOCK_TOKENS).min(out.len() / d);
            let (here, rest) = out.split_at_mut(n * d);
            data.read(self.at(blocks, head, from), here);
            (out, from) = (rest, from + n);
        }
    }

    /// Copies a block over another one.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let len = self.shape.n_kv_heads * BLOCK_TOKENS * self.shape.head_dim;
        let (from, to) = (from as usize * len, to as usize * len);
        self.keys.copy(from..from + len, to);
        self.values.copy(from..from + len, to);
    }
}
