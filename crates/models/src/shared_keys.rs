//! Attention of Gemma 3n and 4: normalised heads, local and global layers, and last layers that have the keys and values of
//! the last layer of their kind before them. Sources: `transformers/models/gemma3n` and `gemma4`.

use siskin_graph::{AttentionSpec, CacheId, Graph, NodeId, Pairs, Result as GraphResult, RopeSpec};

use crate::blocks::{self, Biases};
use crate::config::Source;
use crate::rope::Rope;
use crate::{Dims, Result};

/// One layer's sizes, and what it attends to.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub is_local: bool,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub intermediate_size: usize,
    /// Whether values are the keys before their norm.
    pub k_is_v: bool,
    /// Whether it has the keys and values of the last layer of its kind that has its own.
    pub is_shared: bool,
}

/// The keys and values of the last global and the last local layer that have their own, and where they are kept.
pub(crate) type Caches = [Option<(CacheId, [NodeId; 2])>; 2];

/// What is common to the attention of all layers.
#[derive(Debug)]
pub(crate) struct SharedKeys {
    pub layers: Vec<Layer>,
    /// Of global layers, and of local ones.
    pub ropes: [Rope; 2],
    pub window: Option<usize>,
    pub biases: Biases,
}

/// The first layer that has the keys and values of another; `default` of them do, where the file does not say.
///
/// # Errors
/// If the file must say and does not, or these are all layers.
pub(crate) fn first_shared(
    source: &Source<'_>,
    n_layers: usize,
    default: Option<usize>,
) -> Result<usize> {
    const KEY: &str = "num_kv_shared_layers";
    let n = source.uint(KEY, "attention.shared_kv_layers")?.or(default);
    n.and_then(|n| n_layers.checked_sub(n))
        .filter(|first| *first > 0)
        .ok_or_else(|| source.wrong(KEY, "a number less than num_hidden_layers"))
}

impl SharedKeys {
    /// Of these layers; window and biases are read.
    ///
    /// # Errors
    /// If a layer shares keys that there are not.
    pub fn read(source: &Source<'_>, layers: Vec<Layer>, ropes: [Rope; 2]) -> Result<Self> {
        let has_keys = |l: &Layer| {
            let mut own = layers.iter().filter(|own| !own.is_shared);
            own.any(|own| own.is_local == l.is_local)
        };
        if !layers.iter().all(has_keys) {
            let what = "a number that leaves a layer of each kind with keys of its own";
            return Err(source.wrong("num_kv_shared_layers", what));
        }
        let window = source.uint("sliding_window", "attention.sliding_window")?;
        let window = window.or((!source.is_gguf()).then_some(512));
        Ok(Self {
            layers,
            ropes,
            window: window.filter(|w| *w > 0),
            biases: Biases::of_attention(source)?,
        })
    }

    /// Whether a tensor of a file is of the keys and values that a layer would have if it shared none: checkpoints have
    /// them, and transformers ignores them.
    pub fn does_without(&self, tensor: &str) -> bool {
        let within = |(i, layer): (usize, &Layer)| {
            let in_gguf = tensor.strip_prefix(&format!("blk.{i}."));
            let module = format!("layers.{i}.self_attn.");
            let name = in_gguf.or_else(|| tensor.split_once(&module).map(|parts| parts.1));
            let of_keys = [
                "attn_k.",
                "attn_v.",
                "attn_k_norm.",
                "k_proj.",
                "v_proj.",
                "k_norm.",
            ];
            layer.is_shared
                && name.is_some_and(|name| of_keys.iter().any(|start| name.starts_with(start)))
        };
        self.layers.iter().enumerate().any(within)
    }

    /// Attention of layer i; `x` is normalised already.
    pub fn attention(
        &self,
        g: &mut Graph,
        dims: &Dims,
        x: NodeId,
        i: usize,
        caches: &mut Caches,
    ) -> GraphResult<NodeId> {
        let layer = &self.layers[i];
        let (head_dim, eps) = (layer.head_dim, dims.rms_norm_eps);
        let (nq, nkv) = (dims.n_heads * head_dim, layer.n_kv_heads * head_dim);
        let module = format!("model.layers.{i}.self_attn");
        let kind = usize::from(layer.is_local);
        let rope = RopeSpec {
            inv_freq: g.constant(
                ["inv_freq", "local_inv_freq"][kind],
                self.ropes[kind].inv_freq.clone(),
            ),
            head_dim,
            pairs: Pairs::Halves,
            scale: self.ropes[kind].scale,
        };
        let mut stack = vec![("q_proj", nq)];
        if !layer.is_shared {
            stack.push(("k_proj", nkv));
            if !layer.k_is_v {
                stack.push(("v_proj", nkv));
            }
        }
        let qkv = blocks::stacked(g, x, &module, &stack, self.biases.qkv)?;
        let q = g.slice(qkv, 0, nq)?;
        let q = blocks::norm(g, q, &format!("{module}.q_norm"), head_dim, eps)?;
        let q = g.rope_of(q, rope)?;
        g.name(q, format!("model.layers.{i}.q"));
        let (cache, kv) = match (layer.is_shared, caches[kind]) {
            (true, Some(shared)) => shared,
            _ => {
                let k = g.slice(qkv, nq, nkv)?;
                let v = match layer.k_is_v {
                    true => k,
                    false => g.slice(qkv, nq + nkv, nkv)?,
                };
                let k = blocks::norm(g, k, &format!("{module}.k_norm"), head_dim, eps)?;
                let k = g.rope_of(k, rope)?;
                let ones = format!("ones of {head_dim}");
                let ones = g.constant(&ones, vec![1.0; head_dim]);
                let v = g.rms_norm(v, ones, eps)?;
                let cache = g.cache(layer.n_kv_heads, head_dim);
                g.kv_append(k, v, cache)?;
                *caches[kind].insert((cache, [k, v]))
            }
        };
        for (node, name) in kv.into_iter().zip(["k", "v"]) {
            g.name(node, format!("model.layers.{i}.{name}"));
        }
        let spec = AttentionSpec {
            n_heads: dims.n_heads,
            n_kv_heads: layer.n_kv_heads,
            head_dim,
            scale: 1.0,
            window: self.window.filter(|_| layer.is_local),
            causal: true,
            soft_cap: None,
            sinks: None,
        };
        let mixed = g.attention(q, cache, spec)?;
        g.name(mixed, format!("model.layers.{i}.attention"));
        let o = [("o_proj", dims.hidden_size)];
        blocks::stacked(g, mixed, &module, &o, self.biases.o)
    }
}
