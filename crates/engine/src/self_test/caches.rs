//! Attention over caches of every type.

use siskin_formats::TensorType;
use siskin_graph::{AttentionSpec, CacheTypes};

use super::Case;

/// Heads of 96: an odd number of scales.
const SPEC: AttentionSpec = AttentionSpec {
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 96,
    scale: 0.2,
    window: None,
    causal: true,
    soft_cap: None,
    sinks: None,
};

impl Case {
    /// Rope and attention over a cache of these types, as where they are fused.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn cached(cache: CacheTypes) -> siskin_graph::Result<Self> {
        let case = Self::attention(SPEC, false, [TensorType::F32; 2])?;
        Ok(Self { cache, ..case })
    }

    /// The same without rope, so that the append is a step of its own.
    ///
    /// # Errors
    /// As [`Self::cached`].
    pub fn appended(cache: CacheTypes) -> siskin_graph::Result<Self> {
        let (nq, nkv) = (
            SPEC.n_heads * SPEC.head_dim,
            SPEC.n_kv_heads * SPEC.head_dim,
        );
        let (mut case, x) = Self::new(64);
        let w = case.matrix("qkv", &[(TensorType::F32, nq + 2 * nkv)], 64);
        let g = &mut case.graph;
        let qkv = g.linear(x, w, None)?;
        let q = g.slice(qkv, 0, nq)?;
        let k = g.slice(qkv, nq, nkv)?;
        let v = g.slice(qkv, nq + nkv, nkv)?;
        let id = g.cache(SPEC.n_kv_heads, SPEC.head_dim);
        g.kv_append(k, v, id)?;
        let y = g.attention(q, id, SPEC)?;
        g.output(y);
        Ok(Self { cache, ..case })
    }
}
