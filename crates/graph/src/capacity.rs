//! What KV caches have room for. Those of layers that attend to a window hold little more than it.

use crate::{BLOCK_TOKENS, CacheTypes, Graph, Op};

/// What the caches have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The most tokens of one sequence.
    pub context: usize,
    /// Blocks of each cache, for all sequences together.
    pub blocks: usize,
    /// What caches hold whose layers have a window; `None` if all caches hold all tokens.
    pub windowed: Option<Windowed>,
    /// The most sequences of one step.
    pub sequences: usize,
    /// The most tokens that one step chooses.
    pub choices: usize,
}

/// The caches of layers with a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windowed {
    /// The longest window of these layers: a token sees itself and those before it, so many in all.
    pub window: usize,
    /// Blocks of each of these caches, for all sequences together.
    pub blocks: usize,
}

impl Windowed {
    /// The first block of a sequence that its token at this position sees.
    pub fn first_block(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window) / BLOCK_TOKENS
    }
}

impl Capacity {
    /// For a single sequence of up to `context` tokens, in caches that hold all of them.
    pub fn alone(context: usize) -> Self {
        Self {
            context,
            blocks: context.div_ceil(BLOCK_TOKENS),
            windowed: None,
            sequences: 1,
            choices: 1,
        }
    }

    /// The same, but caches of layers with a window shorter than the context hold two windows of each sequence, and a
    /// step's `rows` rows: the window of its next token, and the one of its prompt's end, from where another answer may
    /// begin.
    #[must_use]
    pub fn with_windows(mut self, graph: &Graph, rows: usize) -> Self {
        let windows = graph.windows().into_iter().flatten();
        self.windowed = windows
            .filter(|w| (1..self.context).contains(w))
            .max()
            .map(|window| {
                // As many as a window and the row after it touch at most, and one before them.
                let held = window.div_ceil(BLOCK_TOKENS) + 3;
                let blocks = 2 * self.sequences * held + rows.div_ceil(BLOCK_TOKENS);
                Windowed {
                    window,
                    blocks: blocks.min(self.blocks),
                }
            });
        self
    }

    /// Whether a cache whose layers have this window ([`Graph::windows`]) holds a window only.
    pub fn is_windowed(&self, window: Option<usize>) -> bool {
        let longest = self.windowed.map(|w| w.window);
        window.is_some_and(|window| longest.is_some_and(|longest| window <= longest))
    }

    /// Blocks of each cache that holds a window, or all tokens.
    pub fn blocks_of(&self, windowed: bool) -> usize {
        let of_windows = self.windowed.filter(|_| windowed);
        of_windows.map_or(self.blocks, |w| w.blocks)
    }
}

impl Graph {
    /// The longest window of the attentions over each cache; `None` if one of them has no window.
    pub fn windows(&self) -> Vec<Option<usize>> {
        let mut windows = vec![Some(0); self.caches.len()];
        for node in &self.nodes {
            if let Op::Attention { cache, spec } = node.op {
                let found = &mut windows[cache.0];
                *found = found.zip(spec.window).map(|(a, b)| a.max(b));
            }
        }
        windows
    }

    /// Bytes of each cache for one sequence of the context's length: of its keys, and of its values.
    pub fn bytes_of_caches(&self, capacity: Capacity, types: CacheTypes) -> Vec<[u64; 2]> {
        let caches = self.caches.iter().zip(self.windows());
        let bytes = |(c, window): (&crate::Cache, Option<usize>)| {
            let tokens = match capacity.is_windowed(window) {
                true => capacity.blocks_of(true) * BLOCK_TOKENS,
                false => usize::MAX,
            };
            let rows = tokens.min(capacity.context) * c.n_kv_heads;
            [types.keys, types.values].map(|ty| rows as u64 * ty.row_bytes(c.head_dim) as u64)
        };
        caches.map(bytes).collect()
    }

    /// Bytes of keys and values for one sequence of the context's length.
    pub fn cache_bytes(&self, capacity: Capacity, types: CacheTypes) -> u64 {
        let caches = self.bytes_of_caches(capacity, types);
        caches.into_iter().flatten().sum()
    }
}
