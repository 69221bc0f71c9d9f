use half::f16;
use half::slice::HalfFloatSliceExt;
use siskin_graph::Cache;

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
            CacheType::F16 => Self::F16(vec![f16::ZERO; len]),
            CacheType::F32 => Self::F32(vec![0.0; len]),
        }
    }

    fn write(&mut self, at: usize, values: &[f32]) {
        match self {
            Self::F16(d) => d[at..][..values.len()].convert_from_f32_slice(values),
            Self::F32(d) => d[at..][..values.len()].copy_from_slice(values),
        }
    }

    fn read(&self, at: usize, out: &mut [f32]) {
        match self {
            Self::F16(d) => d[at..][..out.len()].convert_to_f32_slice(out),
            Self::F32(d) => out.copy_from_slice(&d[at..][..out.len()]),
        }
    }
}

/// Keys and values of one layer: `[n_kv_heads, context, head_dim]` each.
#[derive(Debug)]
pub struct KvCache {
    /// Heads and their dimensions.
    pub shape: Cache,
    context: usize,
    keys: Data,
    values: Data,
}

impl KvCache {
    /// A cache of zeros for `context` tokens.
    pub fn new(shape: Cache, context: usize, ty: CacheType) -> Self {
        let len = shape.n_kv_heads * shape.head_dim * context;
        Self {
            shape,
            context,
            keys: Data::new(ty, len),
            values: Data::new(ty, len),
        }
    }

    fn at(&self, head: usize, position: usize) -> usize {
        (head * self.context + position) * self.shape.head_dim
    }

    /// Writes one token's keys and values, `[n_kv_heads · head_dim]` each.
    pub fn write(&mut self, position: usize, k: &[f32], v: &[f32]) {
        let d = self.shape.head_dim;
        for head in 0..self.shape.n_kv_heads {
            let at = self.at(head, position);
            self.keys.write(at, &k[head * d..][..d]);
            self.values.write(at, &v[head * d..][..d]);
        }
    }

    /// Reads the keys of a head from position `from` on, as many as fit in `out`.
    pub fn keys(&self, head: usize, from: usize, out: &mut [f32]) {
        self.keys.read(self.at(head, from), out);
    }

    /// Reads the values of a head from position `from` on, as many as fit in `out`.
    pub fn values(&self, head: usize, from: usize, out: &mut [f32]) {
        self.values.read(self.at(head, from), out);
    }
}
