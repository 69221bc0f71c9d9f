//! The blocks that families share.

use siskin_graph::{Activation, AttentionSpec, Graph, NodeId, Pairs, Result, RopeSpec, WeightId};

use crate::config::Source;
use crate::{Dims, Result as ModelResult};

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

/// Which linears of a layer have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Biases {
    pub qkv: bool,
    pub o: bool,
    pub gate_up: bool,
    pub down: bool,
}

impl Biases {
    pub const NONE: Self = Self {
        qkv: false,
        o: false,
        gate_up: false,
        down: false,
    };
    pub const QKV: Self = Self {
        qkv: true,
        ..Self::NONE
    };
    pub const ATTENTION: Self = Self {
        o: true,
        ..Self::QKV
    };
    pub const MLP: Self = Self {
        gate_up: true,
        down: true,
        ..Self::NONE
    };
    pub const ALL: Self = Self {
        gate_up: true,
        down: true,
        ..Self::ATTENTION
    };

    /// Of a GGUF file, whose tensors say it; a folder's configuration does.
    pub fn of_gguf(source: &Source<'_>) -> Self {
        let any = |names: &[&str]| {
            let mut names = names.iter();
            names.any(|n| source.has_tensor(&format!("blk.0.{n}.bias")))
        };
        Self {
            qkv: any(&["attn_q", "attn_k", "attn_v", "attn_qkv"]),
            o: any(&["attn_output"]),
            gate_up: any(&["ffn_gate", "ffn_up"]),
            down: any(&["ffn_down"]),
        }
    }

    /// Of a family whose `attention_bias` is one for all of attention.
    pub fn of_attention(source: &Source<'_>) -> ModelResult<Self> {
        if source.is_gguf() {
            return Ok(Self::of_gguf(source));
        }
        let on = source.bool("attention_bias", "")?.unwrap_or(false);
        Ok(Self {
            qkv: on,
            o: on,
            ..Self::NONE
        })
    }
}

/// The activation of gated MLPs, by the name that transformers has for it.
pub(crate) fn activation(
    source: &Source<'_>,
    key: &str,
    default: Activation,
) -> ModelResult<Activation> {
    match source.str(key, "")? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::Gelu),
        Some("relu") => Ok(Activation::Relu),
        Some("relu2") => Ok(Activation::Relu2),
        Some(other) => Err(source.unsupported(key, other)),
    }
}

/// What differs between families' attention.
pub(crate) struct Attention {
    pub inv_freq: WeightId,
    /// What rotated dimensions are multiplied by.
    pub rope_scale: f32,
    pub scale: f32,
    pub window: Option<usize>,
    pub biases: Biases,
    /// rms_norm on each head of q and k before rope.
    pub head_norms: bool,
    /// Whether tokens see none after them; otherwise it is over a batch of whole texts, and has no cache.
    pub causal: bool,
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
        a.biases.qkv,
    )?;
    let mut q = g.slice(qkv, 0, nq)?;
    let mut k = g.slice(qkv, nq, nkv)?;
    let v = g.slice(qkv, nq + nkv, nkv)?;
    if a.head_norms {
        q = norm(g, q, &format!("{attn}.q_norm"), head_dim, dims.rms_norm_eps)?;
        k = norm(g, k, &format!("{attn}.k_norm"), head_dim, dims.rms_norm_eps)?;
    }
    let rope = RopeSpec {
        inv_freq: a.inv_freq,
        head_dim,
        pairs: Pairs::Halves,
        scale: a.rope_scale,
    };
    let (q, k) = (g.rope_of(q, rope)?, g.rope_of(k, rope)?);
    for (x, name) in [(q, "q"), (k, "k"), (v, "v")] {
        g.name(x, format!("{layer}.{name}"));
    }
    let spec = AttentionSpec {
        n_heads,
        n_kv_heads,
        head_dim,
        scale: a.scale,
        window: a.window,
        causal: a.causal,
        soft_cap: None,
        sinks: None,
    };
    let mixed = if a.causal {
        let cache = g.cache(n_kv_heads, head_dim);
        g.kv_append(k, v, cache)?;
        g.attention(q, cache, spec)?
    } else {
        g.self_attention([q, k, v], spec)?
    };
    g.name(mixed, format!("{layer}.attention"));
    stacked(g, mixed, &attn, &[("o_proj", dims.hidden_size)], a.biases.o)
}

/// `down(act(gate(x)) · up(x))`.
pub(crate) fn mlp(
    g: &mut Graph,
    x: NodeId,
    layer: &str,
    dims: &Dims,
    activation: Activation,
    biases: Biases,
) -> Result<NodeId> {
    let n = dims.intermediate_size;
    let mlp = format!("{layer}.mlp");
    let both = stacked(
        g,
        x,
        &mlp,
        &[("gate_proj", n), ("up_proj", n)],
        biases.gate_up,
    )?;
    let gate = g.slice(both, 0, n)?;
    let up = g.slice(both, n, n)?;
    let h = g.gated(gate, up, activation)?;
    stacked(g, h, &mlp, &[("down_proj", dims.hidden_size)], biases.down)
}

/// Norm, attention, add; norm, MLP, add: the block of llama and the Qwens.
pub(crate) fn pre_norm_block(
    g: &mut Graph,
    x: NodeId,
    layer: &str,
    dims: &Dims,
    a: &Attention,
    activation: Activation,
) -> Result<NodeId> {
    let (d, eps) = (dims.hidden_size, dims.rms_norm_eps);
    let h = norm(g, x, &format!("{layer}.input_layernorm"), d, eps)?;
    let h = attention(g, h, layer, dims, a)?;
    let x = g.add(x, h)?;
    let h = norm(g, x, &format!("{layer}.post_attention_layernorm"), d, eps)?;
    let h = mlp(g, h, layer, dims, activation, a.biases)?;
    let x = g.add(x, h)?;
    g.end_layer(x, format!("{layer}.hidden"));
    Ok(x)
}

/// `1 / sqrt(head_dim)`.
pub(crate) fn attention_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
