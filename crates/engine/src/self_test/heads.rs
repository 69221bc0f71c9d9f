//! Learned positions, and heads that are put together.

use siskin_formats::TensorType;
use siskin_graph::{HeadsSpec, Place};

use super::Case;

impl Case {
    /// Tokens with learned positions; of each head, columns that all heads share, columns of its own, and zeros; a cache
    /// of them, so that positions are those of a step.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn heads() -> siskin_graph::Result<Self> {
        let (mut case, x) = Self::new(64);
        let table = case.matrix("positions", &[(TensorType::F32, 64)], 64);
        let g = &mut case.graph;
        let places = g.embed_place(table, Place::Position { offset: 2 });
        let x = g.add(x, places)?;
        let shared = g.slice(x, 0, 8)?;
        let own = g.slice(x, 16, 48)?;
        let spec = HeadsSpec {
            n_heads: 4,
            width: 24,
            lens: [8, 12],
            strides: [0, 12],
        };
        let y = g.join_heads(&[shared, own], spec)?;
        // A graph without a cache is over whole texts, whose positions are their own.
        let cache = g.cache(4, 24);
        g.kv_append(y, y, cache)?;
        g.output(y);
        Ok(case)
    }
}
