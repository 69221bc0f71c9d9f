//! How KV caches store keys and values.

use std::fmt;
use std::str::FromStr;

use crate::Cache;

/// Values of a quantised cache that share a scale.
const QUANTISED_BLOCK: usize = 32;

/// How keys or values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub enum CacheType {
    /// Single precision.
    F32,
    /// Half precision: rounded to 11 bits.
    F16,
    /// 8 bits, with a scale for each 32 columns of a head: ggml's format.
    Q8_0,
    /// 4 bits, with a scale for each 32 columns of a head: ggml's format.
    Q4_0,
}

impl CacheType {
    /// All types, the largest first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8_0, Self::Q4_0];

    /// Its name, which is llama.cpp's: `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Whether several values share a scale.
    pub fn is_quantised(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0)
    }

    /// Whether heads of this many dimensions can be stored: for a quantised type a multiple of 32.
    pub fn stores(self, head_dim: usize) -> bool {
        !self.is_quantised() || head_dim.is_multiple_of(QUANTISED_BLOCK)
    }

    /// Bytes of one head's key or value, a multiple of 4: two scales share a word, and an odd last one has its own.
    ///
    /// ```
    /// use siskin_graph::CacheType;
    ///
    /// let bytes = CacheType::ALL.map(|ty| ty.row_bytes(64));
    /// assert_eq!(bytes, [256, 128, 68, 36]);
    /// ```
    pub fn row_bytes(self, head_dim: usize) -> usize {
        let codes = match self {
            Self::F32 => 4 * head_dim,
            Self::F16 => 2 * head_dim,
            Self::Q8_0 => head_dim,
            Self::Q4_0 => head_dim / 2,
        };
        match self.is_quantised() {
            true => codes + 4 * head_dim.div_ceil(2 * QUANTISED_BLOCK),
            false => codes,
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|ty| ty.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no cache type `{name}`; there are {names}")
        })
    }
}

/// How a KV cache stores keys and values; f16 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheTypes {
    /// The type of keys.
    pub keys: CacheType,
    /// The type of values.
    pub values: CacheType,
}

impl Default for CacheTypes {
    fn default() -> Self {
        CacheType::F16.into()
    }
}

impl From<CacheType> for CacheTypes {
    fn from(both: CacheType) -> Self {
        Self {
            keys: both,
            values: both,
        }
    }
}

impl fmt::Display for CacheTypes {
    /// `f16`, or `q8_0 keys, q4_0 values`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, values } = self;
        match keys == values {
            true => write!(f, "{keys}"),
            false => write!(f, "{keys} keys, {values} values"),
        }
    }
}

impl CacheTypes {
    /// Bytes of a token's keys and values in one layer.
    pub fn token_bytes(self, cache: &Cache) -> usize {
        let row = |ty: CacheType| ty.row_bytes(cache.head_dim);
        cache.n_kv_heads * (row(self.keys) + row(self.values))
    }

    /// The first of the two that cannot store heads of this many dimensions.
    pub fn unable(self, head_dim: usize) -> Option<CacheType> {
        let mut both = [self.keys, self.values].into_iter();
        both.find(|ty| !ty.stores(head_dim))
    }
}
