use std::ops::Range;

use siskin_formats::{TensorType, decode, encode};
use siskin_graph::{BLOCK_TOKENS, Cache, CacheType, CacheTypes, SequenceRows};

/// The keys or the values of one layer: rows of one head each, stored as in files.
#[derive(Debug)]
struct Side {
    ty: TensorType,
    head_dim: usize,
    /// Bytes of a row.
    len: usize,
    /// Bytes from one row to the next.
    stride: usize,
    bytes: Vec<u8>,
}

impl Side {
    fn new(ty: CacheType, n_rows: usize, head_dim: usize) -> Self {
        let stored = match ty {
            CacheType::F32 => TensorType::F32,
            CacheType::F16 => TensorType::F16,
            CacheType::Q8_0 => TensorType::Q8_0,
            CacheType::Q4_0 => TensorType::Q4_0,
        };
        let stride = ty.row_bytes(head_dim);
        Self {
            ty: stored,
            head_dim,
            len: stored
                .bytes_of(head_dim)
                .unwrap_or_else(|| panic!("a cache of {ty} with heads of {head_dim}")),
            stride,
            // Zeros come from the system, which gives memory only to what is written.
            bytes: vec![0; n_rows * stride],
        }
    }

    /// The values of one row of each head.
    fn write(&mut self, rows: impl Iterator<Item = usize>, values: &[f32]) {
        // All of the types have an encoder, and rows are whole blocks.
        let encoded = encode(self.ty, values).unwrap_or_default();
        for (row, encoded) in rows.zip(encoded.chunks_exact(self.len)) {
            self.bytes[row * self.stride..][..self.len].copy_from_slice(encoded);
        }
    }

    /// As many rows as fit in `out`.
    fn read(&self, row: usize, out: &mut [f32]) {
        let bytes = &self.bytes[row * self.stride..];
        if self.len == self.stride {
            let n = out.len() / self.head_dim;
            return decode(self.ty, &bytes[..n * self.len], out);
        }
        let rows = bytes.chunks_exact(self.stride);
        for (row, out) in rows.zip(out.chunks_exact_mut(self.head_dim)) {
            decode(self.ty, &row[..self.len], out);
        }
    }

    fn bytes_of(&self, rows: Range<usize>) -> &[u8] {
        &self.bytes[rows.start * self.stride..rows.end * self.stride]
    }

    fn set_bytes(&mut self, row: usize, bytes: &[u8]) {
        self.bytes[row * self.stride..][..bytes.len()].copy_from_slice(bytes);
    }

    fn copy(&mut self, from: usize, to: usize, n_rows: usize) {
        let [from, to, n] = [from, to, n_rows].map(|n| n * self.stride);
        self.bytes.copy_within(from..from + n, to);
    }
}

/// Keys and values of one layer, in blocks of tokens: `[blocks, n_kv_heads, 16, head_dim]` each. A sequence is a list of
/// the blocks that hold its tokens.
#[derive(Debug)]
pub struct KvCache {
    /// Heads and their dimensions.
    pub shape: Cache,
    /// Whether it holds a window only, so that its blocks are those of [`SequenceRows::windowed`].
    pub windowed: bool,
    keys: Side,
    values: Side,
}

impl KvCache {
    /// A cache of zeros.
    ///
    /// # Panics
    /// If a type cannot store heads of that many dimensions ([`CacheType::stores`]).
    pub fn new(shape: Cache, blocks: usize, types: CacheTypes) -> Self {
        let side = |ty| {
            let n_rows = blocks * shape.n_kv_heads * BLOCK_TOKENS;
            Side::new(ty, n_rows, shape.head_dim)
        };
        Self {
            shape,
            windowed: false,
            keys: side(types.keys),
            values: side(types.values),
        }
    }

    fn row(&self, blocks: &[u32], head: usize, position: usize) -> usize {
        let (block, within) = (position / BLOCK_TOKENS, position % BLOCK_TOKENS);
        (blocks[block] as usize * self.shape.n_kv_heads + head) * BLOCK_TOKENS + within
    }

    /// The blocks of a sequence that are this cache's.
    pub fn blocks<'a>(&self, sequence: &'a SequenceRows) -> &'a [u32] {
        sequence.list(self.windowed)
    }

    /// Writes the keys and values of a sequence's token, `[n_kv_heads · head_dim]` each.
    pub fn write(&mut self, blocks: &[u32], position: usize, k: &[f32], v: &[f32]) {
        let (first, heads) = (self.row(blocks, 0, position), 0..self.shape.n_kv_heads);
        let rows = heads.map(|head| first + head * BLOCK_TOKENS);
        self.keys.write(rows.clone(), k);
        self.values.write(rows, v);
    }

    /// Reads the keys of a sequence's head from position `from` on, as many as fit in `out`.
    pub fn keys(&self, blocks: &[u32], head: usize, from: usize, out: &mut [f32]) {
        self.read(&self.keys, blocks, head, from, out);
    }

    /// Reads the values of a sequence's head from position `from` on, as many as fit in `out`.
    pub fn values(&self, blocks: &[u32], head: usize, from: usize, out: &mut [f32]) {
        self.read(&self.values, blocks, head, from, out);
    }

    fn read(&self, side: &Side, blocks: &[u32], head: usize, from: usize, mut out: &mut [f32]) {
        let (d, mut from) = (self.shape.head_dim, from);
        while !out.is_empty() {
            let n = (BLOCK_TOKENS - from % BLOCK_TOKENS).min(out.len() / d);
            let (here, rest) = out.split_at_mut(n * d);
            side.read(self.row(blocks, head, from), here);
            (out, from) = (rest, from + n);
        }
    }

    /// The keys, then the values, of some blocks.
    pub fn block_bytes(&self, blocks: &[u32]) -> [Vec<u8>; 2] {
        let rows = self.shape.n_kv_heads * BLOCK_TOKENS;
        [&self.keys, &self.values].map(|side| {
            let of = |b: &u32| side.bytes_of(*b as usize * rows..(*b as usize + 1) * rows);
            blocks.iter().flat_map(of).copied().collect()
        })
    }

    /// Sets some blocks to what [`Self::block_bytes`] returned; `false` if that is of another length.
    pub fn set_block_bytes(&mut self, blocks: &[u32], bytes: &[Vec<u8>; 2]) -> bool {
        let rows = self.shape.n_kv_heads * BLOCK_TOKENS;
        let sides = [&mut self.keys, &mut self.values];
        if blocks.is_empty() {
            return bytes.iter().all(Vec::is_empty);
        }
        for (side, bytes) in sides.into_iter().zip(bytes) {
            let len = side.bytes_of(0..rows).len();
            if bytes.len() != len * blocks.len() {
                return false;
            }
            for (block, bytes) in blocks.iter().zip(bytes.chunks_exact(len)) {
                side.set_bytes(*block as usize * rows, bytes);
            }
        }
        true
    }

    /// Copies a block over another one.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let rows = self.shape.n_kv_heads * BLOCK_TOKENS;
        let (from, to) = (from as usize * rows, to as usize * rows);
        self.keys.copy(from, to, rows);
        self.values.copy(from, to, rows);
    }
}
