//! The blocks that families share.

use siskin_graph::{Activation, AttentionSpec, Graph, NodeId, Result, WeightId};

use crate::Dims;

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";

pub(crate) fn embed(g: &mut Graph, dims: &Dims, scale: f32) -> NodeId {
    let table = g.matrix(EMBEDDING, &[(EMBEDDING, dims.vocab_size)], dims.hidden_size);
    let x = g.embed(table, scale);
    g.name(x, "embed");
    x
}

/// rms_norm by the vector `{name}.weight` of length `n`.
pub(crate) fn norm(g: &mut Graph, x: NodeId, name: &str, n: usize, eps: f32) -> Result<NodeId> {
    let name = format!("{name}.weight");
    let weight = g.vector(&name, &[(&name, n)]);
    g.rms_norm(x, weight, eps)
}

/// A linear over several projections of a layer, stacked by rows.
pub(crate) fn stacked(
    g: &mut Graph,
    x: NodeId,
    layer: &str,
    projections: &[(&str, usize)],
    bias: bool,
) -> Result<NodeId> {
    let cols = g.node(x).cols;
    let named = |suffix: &str| -> Vec<(String, usize)> {
        projections
            .iter()
            .map(|(p, n)| (format!("{layer}.{p}.{suffix}"), *n))
            .collect()
    };
    let label = projections
        .iter()
        .map(|p| p.0)
        .collect::<Vec<_>>()
        .join("+");
    let parts = named("weight");
    let parts: Vec<_> = parts.iter().map(|(t, n)| (t.as_str(), *n)).collect();
    let weight = g.matrix(&format!("{layer}.{label}.weight"), &parts, cols);
    let bias = bias.then(|| {
        let parts = named("bias");
        let parts: Vec<_> = parts.iter().map(|(t, n)| (t.as_str(), *n)).collect();
        g.vector(&format!("{layer}.{label}.bias"), &parts)
    });
    g.linear(x, weight, bias)
}

/// What tells one family's attention from another's.
pub(crate) struct Attention {
    pub inv_freq: WeightId,
    pub scale: f32,
    pub window: Option<usize>,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// rms_norm on each head of q and k before rope.
    pub head_norms: bool,
}

/// Projections, rope, cache and attention; `x` is normalised already.
pub(crate) fn attention(
    g: &mut Graph,
    x: NodeId,
    layer: &str,
    dims: &Dims,
    a: &Attention,
) -> Result<NodeId> {
    let Dims {
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = *dims;
    let (nq, nkv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let attn = format!("{layer}.self_attn");
    let qkv = stacked(
        g,
        x,
        &attn,
        &[("q_proj", nq), ("k_proj", nkv), ("v_proj", nkv)],
        a.qkv_bias,
    )?;
    let mut q = g.slice(qkv, 0, nq)?;
    let mut k = g.slice(qkv, nq, nkv)?;
    let v = g.slice(qkv, nq + nkv, nkv)?;
    if a.head_norms {
        q = norm(g, q, &format!("{attn}.q_norm"), head_dim, dims.rms_norm_eps)?;
        k = norm(g, k, &format!("{attn}.k_norm"), head_dim, dims.rms_norm_eps)?;
    }
    let q = g.rope(q, a.inv_freq, head_dim)?;
    let k = g.rope(k, a.inv_freq, head_dim)?;
    for (x, name) in [(q, "q"), (k, "k"), (v, "v")] {
        g.name(x, format!("{layer}.{name}"));
    }
    let cache = g.cache(n_kv_heads, head_dim);
    g.kv_append(k, v, cache)?;
    let spec = AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim,
        scale: a.scale,
        window: a.window,
    };
    let mixed = g.attention(q, cache, spec)?;
    g.name(mixed, format!("{layer}.attention"));
    stacked(g, mixed, &attn, &[("o_proj", dims.hidden_size)], false)
}

/// `down(act(gate(x)) · up(x))`.
pub(crate) fn mlp(
    g: &mut Graph,
    x: NodeId,
    layer: &str,
    dims: &Dims,
    activation: Activation,
) -> Result<NodeId> {
    let n = dims.intermediate_size;
    let mlp = format!("{layer}.mlp");
    let both = stacked(g, x, &mlp, &[("gate_proj", n), ("up_proj", n)], false)?;
    let gate = g.slice(both, 0, n)?;
    let up = g.slice(both, n, n)?;
    let h = g.gated(gate, up, activation)?;
    stacked(g, h, &mlp, &[("down_proj", dims.hidden_size)], false)
}

/// Norm, attention, add; norm, MLP, add: the block of llama and the Qwens.
pub(crate) fn pre_norm_block(
    g: &mut Graph,
    x: NodeId,
    layer: &str,
    dims: &Dims,
    a: &Attention,
) -> Result<NodeId> {
    let (d, eps) = (dims.hidden_size, dims.rms_norm_eps);
    let h = norm(g, x, &format!("{layer}.input_layernorm"), d, eps)?;
    let h = attention(g, h, layer, dims, a)?;
    let x = g.add(x, h)?;
    let h = norm(g, x, &format!("{layer}.post_attention_layernorm"), d, eps)?;
    let h = mlp(g, h, layer, dims, Activation::Silu)?;
    let x = g.add(x, h)?;
    g.name(x, format!("{layer}.hidden"));
    Ok(x)
}

/// `1 / sqrt(head_dim)`.
pub(crate) fn attention_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
