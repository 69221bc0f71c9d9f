use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use siskin_formats::{TensorType, decode, encode};
use siskin_graph::{BLOCK_TOKENS, Cache, CacheType, CacheTypes};

/// Rows of one head's key or value each.
#[derive(Debug)]
enum Rows {
    F16(Vec<f16>),
    F32(Vec<f32>),
    /// Blocks as in files.
    Quantised(TensorType, Vec<u8>),
}

/// The keys or the values of one layer.
#[derive(Debug)]
struct Side {
    rows: Rows,
    head_dim: usize,
    /// Bytes of a quantised row.
    row_bytes: usize,
}

impl Side {
    fn new(ty: CacheType, n_rows: usize, head_dim: usize) -> Self {
        assert!(
            ty.stores(head_dim),
            "a cache of {ty} with heads of {head_dim}"
        );
        let (len, row_bytes) = (n_rows * head_dim, ty.row_bytes(head_dim));
        let quantised = |ty| Rows::Quantised(ty, vec![0; n_rows * row_bytes]);
        // Zeros of a primitive type come from the system, which gives memory only to what is written.
        let rows = match ty {
            CacheType::F32 => Rows::F32(vec![0.0; len]),
            CacheType::F16 => Rows::F16(vec![0u16; len].reinterpret_into()),
            CacheType::Q8_0 => quantised(TensorType::Q8_0),
            CacheType::Q4_0 => quantised(TensorType::Q4_0),
        };
        Self {
            rows,
            head_dim,
            row_bytes,
        }
    }

    fn write(&mut self, row: usize, values: &[f32]) {
        let at = row * self.head_dim;
        match &mut self.rows {
            Rows::F16(d) => d[at..][..values.len()].convert_from_f32_slice(values),
            Rows::F32(d) => d[at..][..values.len()].copy_from_slice(values),
            Rows::Quantised(ty, d) => {
                // Both types have an encoder, and `new` has checked that a row is whole blocks.
                let blocks = encode(*ty, values).unwrap_or_default();
                d[row * self.row_bytes..][..blocks.len()].copy_from_slice(&blocks);
            }
        }
    }

    /// As many rows as fit in `out`.
    fn read(&self, row: usize, out: &mut [f32]) {
        let at = row * self.head_dim;
        match &self.rows {
            Rows::F16(d) => d[at..][..out.len()].convert_to_f32_slice(out),
            Rows::F32(d) => out.copy_from_slice(&d[at..][..out.len()]),
            Rows::Quantised(ty, d) => {
                let len = self.head_dim / ty.block_len() * ty.block_bytes();
                let d = &d[row * self.row_bytes..];
                if len == self.row_bytes {
                    let n = out.len() / self.head_dim;
                    return decode(*ty, &d[..n * len], out);
                }
                let rows = d.chunks_exact(self.row_bytes);
                for (row, out) in rows.zip(out.chunks_exact_mut(self.head_dim)) {
                    decode(*ty, &row[..len], out);
                }
            }
        }
    }

    fn bytes(&self, rows: Range<usize>) -> Vec<u8> {
        let values = rows.start * self.head_dim..rows.end * self.head_dim;
        match &self.rows {
            Rows::F16(d) => d[values].iter().flat_map(|v| v.to_le_bytes()).collect(),
            Rows::F32(d) => d[values].iter().flat_map(|v| v.to_le_bytes()).collect(),
            Rows::Quantised(_, d) => {
                d[rows.start * self.row_bytes..rows.end * self.row_bytes].to_vec()
            }
        }
    }

    /// Rows from `row` on, as [`Self::bytes`] returns them.
    fn set_bytes(&mut self, row: usize, bytes: &[u8]) {
        let at = row * self.head_dim;
        match &mut self.rows {
            Rows::F16(d) => {
                let values = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b));
                d[at..].iter_mut().zip(values).for_each(|(to, v)| *to = v);
            }
            Rows::F32(d) => {
                let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
                d[at..].iter_mut().zip(values).for_each(|(to, v)| *to = v);
            }
            Rows::Quantised(_, d) => {
                d[row * self.row_bytes..][..bytes.len()].copy_from_slice(bytes)
            }
        }
    }

    fn copy(&mut self, from: Range<usize>, to: usize) {
        let by = |n: usize| (from.start * n..from.end * n, to * n);
        match &mut self.rows {
            Rows::F16(d) => {
                let (from, to) = by(self.head_dim);
                d.copy_within(from, to);
            }
            Rows::F32(d) => {
                let (from, to) = by(self.head_dim);
                d.copy_within(from, to);
            }
            Rows::Quantised(_, d) => {
                let (from, to) = by(self.row_bytes);
                d.copy_within(from, to);
            }
        }
    }
}

/// Keys and values of one layer, in blocks of tokens: `[blocks, n_kv_heads, 16, head_dim]` each. A sequence is a list of
/// the blocks that hold its tokens.
#[derive(Debug)]
pub struct KvCache {
    /// Heads and their dimensions.
    pub shape: Cache,
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
            keys: side(types.keys),
            values: side(types.values),
        }
    }

    fn row(&self, blocks: &[u32], head: usize, position: usize) -> usize {
        let (block, within) = (position / BLOCK_TOKENS, position % BLOCK_TOKENS);
        (blocks[block] as usize * self.shape.n_kv_heads + head) * BLOCK_TOKENS + within
    }

    /// Writes the keys and values of a sequence's token, `[n_kv_heads · head_dim]` each.
    pub fn write(&mut self, blocks: &[u32], position: usize, k: &[f32], v: &[f32]) {
        let d = self.shape.head_dim;
        for head in 0..self.shape.n_kv_heads {
            let row = self.row(blocks, head, position);
            self.keys.write(row, &k[head * d..][..d]);
            self.values.write(row, &v[head * d..][..d]);
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
            let of = |b: &u32| side.bytes(*b as usize * rows..(*b as usize + 1) * rows);
            blocks.iter().flat_map(of).collect()
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
            let len = side.bytes(0..rows).len();
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
        self.keys.copy(from..from + rows, to);
        self.values.copy(from..from + rows, to);
    }
}
