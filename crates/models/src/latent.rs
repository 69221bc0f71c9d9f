//! Attention whose keys and values are projected from a narrow latent vector, and whose rotated part of the keys all heads
//! share (DeepSeek-AI, "DeepSeek-V2", 2024). The cache has the projected keys and values.

use siskin_graph::{AttentionSpec, Graph, HeadsSpec, NodeId, Part, Result, RopeSpec};

use crate::blocks;
use crate::dense::{Dense, label};

/// Its sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latent {
    /// Columns of the latent vector of queries; `None` where they are projected at once.
    pub q_rank: Option<usize>,
    /// Columns of that of keys and values.
    pub kv_rank: usize,
    /// Dimensions of a head of q and k that are rotated, and that are not.
    pub rotated: usize,
    pub plain: usize,
    /// Dimensions of a head of values.
    pub v_dim: usize,
    /// Whether the projections to the latent vectors, and o, have biases.
    pub bias: bool,
    /// Whether the projections of keys and of values are tensors of their own, as GGUF files have them.
    pub are_apart: bool,
    /// Of the norms of the latent vectors.
    pub eps: f32,
}

impl Latent {
    fn head_dim(&self) -> usize {
        self.rotated + self.plain
    }

    /// A linear over a tensor that has `widths` rows of each head, in this order of them: all heads' rows of the first, or
    /// with `by_head` each head's rows of all.
    fn heads(
        g: &mut Graph,
        x: NodeId,
        name: &str,
        n_heads: usize,
        [order, widths]: [[usize; 2]; 2],
        by_head: bool,
    ) -> Result<NodeId> {
        let cols = g.node(x).cols;
        let both = widths[0] + widths[1];
        let whole = Part::whole(format!("{name}.weight"), [n_heads * both, cols]);
        let part = |head: usize, which: usize| {
            let start = head * both + which * widths[0];
            Part {
                rows: start..start + widths[which],
                ..whole.clone()
            }
        };
        let parts: Vec<Part> = match by_head {
            true => (0..n_heads)
                .flat_map(|h| order.map(|which| part(h, which)))
                .collect(),
            false => order
                .into_iter()
                .flat_map(|which| (0..n_heads).map(move |h| (h, which)))
                .map(|(h, which)| part(h, which))
                .collect(),
        };
        let weight = g.matrix_of(&format!("{name}.weight"), parts)?;
        g.linear(x, weight, None)
    }
}

impl Dense {
    /// Heads are `[rotated, plain]` in the graph; in files it is the other way round.
    pub(crate) fn latent(&self, g: &mut Graph, x: NodeId, i: usize, l: Latent) -> Result<NodeId> {
        let (n, d) = (self.dims.n_heads, self.dims.hidden_size);
        let (head_dim, plain, rotated) = (l.head_dim(), l.plain, l.rotated);
        let module = format!("{}.{}", self.layer_name(i), self.names.attention);
        let name = |part: &str| format!("{module}.{part}");
        let (low, q_proj) = match l.q_rank {
            None => (x, "q_proj"),
            Some(rank) => {
                let low = blocks::stacked(g, x, &module, &[("q_a_proj", rank)], l.bias)?;
                let low = blocks::norm(g, low, &name("q_a_layernorm"), rank, l.eps)?;
                (low, "q_b_proj")
            }
        };
        let q = Latent::heads(g, low, &name(q_proj), n, [[1, 0], [plain, rotated]], true)?;
        let down = [("kv_a_proj_with_mqa", l.kv_rank + rotated)];
        let down = blocks::stacked(g, x, &module, &down, l.bias)?;
        let low = g.slice(down, 0, l.kv_rank)?;
        let shared = g.slice(down, l.kv_rank, rotated)?;
        let low = blocks::norm(g, low, &name("kv_a_layernorm"), l.kv_rank, l.eps)?;
        let sizes = [[0, 1], [plain, l.v_dim]];
        let kv = match l.are_apart {
            false => Latent::heads(g, low, &name("kv_b_proj"), n, sizes, false)?,
            true => {
                let apart = [("k_b_proj", n * plain), ("v_b_proj", n * l.v_dim)];
                blocks::stacked(g, low, &module, &apart, false)?
            }
        };
        let k = g.slice(kv, 0, n * plain)?;
        let v = g.slice(kv, n * plain, n * l.v_dim)?;
        let heads = |width, lens, strides| HeadsSpec {
            n_heads: n,
            width,
            lens,
            strides,
        };
        let k = g.join_heads(&[shared, k], heads(head_dim, [rotated, plain], [0, plain]))?;
        // The cache has keys and values of one size.
        let v = g.join_heads(&[v], heads(head_dim, [l.v_dim, 0], [l.v_dim, 0]))?;
        let rope: RopeSpec = self.rope(g, i);
        let (q, k) = (g.rope_of(q, rope)?, g.rope_of(k, rope)?);
        for (x, name) in [(q, "q"), (k, "k"), (v, "v")] {
            g.name(x, format!("{}.{name}", label(i)));
        }
        let cache = g.cache(n, head_dim);
        g.kv_append(k, v, cache)?;
        let spec = AttentionSpec {
            n_heads: n,
            n_kv_heads: n,
            head_dim,
            scale: self.attention_scale,
            window: self.layers[i].window,
            causal: true,
            soft_cap: None,
            sinks: None,
        };
        let mixed = g.attention(q, cache, spec)?;
        g.name(mixed, format!("{}.attention", label(i)));
        let mixed = g.join_heads(&[mixed], heads(l.v_dim, [l.v_dim, 0], [head_dim, 0]))?;
        blocks::stacked(g, mixed, &module, &[(self.names.o, d)], l.bias)
    }
}
