//! What layers have in place of attention: short convolutions and linear attention, with states instead of caches.

use siskin_graph::{Activation, DeltaSpec, Graph, NodeId, Part, Result, WeightId};

use crate::blocks;

/// What mixes the tokens of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mixer {
    Attention,
    ShortConv(ShortConv),
    DeltaNet(DeltaNet),
}

impl Mixer {
    pub fn is_recurrent(&self) -> bool {
        !matches!(self, Self::Attention)
    }
}

/// The gated short convolution of LFM2: `out(C · conv(B · x))`. Source: `transformers/models/lfm2`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortConv {
    pub kernel: usize,
    pub bias: bool,
}

/// Gated DeltaNet of Qwen3-Next and Qwen3.5. Source: `transformers/models/qwen3_5`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeltaNet {
    pub kernel: usize,
    pub spec: DeltaSpec,
    pub eps: f32,
}

/// What q and k are divided by is never 0.
const L2_EPS: f32 = 1e-6;

/// The weights of a convolution, `[cols, kernel]`.
fn kernels(g: &mut Graph, name: &str, cols: usize, kernel: usize) -> Result<WeightId> {
    let name = format!("{name}.weight");
    g.vector_of(&name, vec![Part::whole(&name, [cols, kernel])])
}

fn vector(g: &mut Graph, name: &str, n: usize) -> WeightId {
    g.vector(name, &[(name, n)])
}

impl ShortConv {
    /// `x` is normalised already.
    pub fn build(&self, g: &mut Graph, x: NodeId, module: &str) -> Result<NodeId> {
        let d = g.node(x).cols;
        let all = blocks::stacked(g, x, module, &[("in_proj", 3 * d)], self.bias)?;
        let [b, c, x] = [0, 1, 2].map(|i| g.slice(all, i * d, d));
        let bx = g.gated(b?, x?, Activation::Identity)?;
        let weight = kernels(g, &format!("{module}.conv"), d, self.kernel)?;
        let bias = self
            .bias
            .then(|| vector(g, &format!("{module}.conv.bias"), d));
        let mixed = g.causal_conv(bx, self.kernel, weight, bias, Activation::Identity)?;
        let y = g.gated(c?, mixed, Activation::Identity)?;
        blocks::stacked(g, y, module, &[("out_proj", d)], self.bias)
    }
}

impl DeltaNet {
    /// `x` is normalised already.
    pub fn build(&self, g: &mut Graph, x: NodeId, module: &str) -> Result<NodeId> {
        let (d, n) = (g.node(x).cols, self.spec.n_v_heads);
        let nk = self.spec.n_k_heads * self.spec.k_dim;
        let nv = n * self.spec.v_dim;
        let projections = [
            ("in_proj_qkv", 2 * nk + nv),
            ("in_proj_z", nv),
            ("in_proj_b", n),
            ("in_proj_a", n),
        ];
        let all = blocks::stacked(g, x, module, &projections, false)?;
        let qkv = g.slice(all, 0, 2 * nk + nv)?;
        let z = g.slice(all, 2 * nk + nv, nv)?;
        let gates = g.slice(all, 2 * nk + 2 * nv, 2 * n)?;
        let weight = kernels(g, &format!("{module}.conv1d"), 2 * nk + nv, self.kernel)?;
        let qkv = g.causal_conv(qkv, self.kernel, weight, None, Activation::Silu)?;
        let qk = g.slice(qkv, 0, 2 * nk)?;
        let v = g.slice(qkv, 2 * nk, nv)?;
        // `x / sqrt(Σ x² + eps)` of each head, as an rms_norm.
        let k_dim = self.spec.k_dim as f32;
        let unit = g.constant("unit", vec![1.0 / k_dim.sqrt(); self.spec.k_dim]);
        let qk = g.rms_norm(qk, unit, L2_EPS / k_dim)?;
        let a = vector(g, &format!("{module}.A_log"), n);
        let dt = vector(g, &format!("{module}.dt_bias"), n);
        let mixed = g.delta_rule([qk, v, gates], self.spec, a, dt)?;
        let name = format!("{module}.norm");
        let mixed = blocks::norm(g, mixed, &name, self.spec.v_dim, self.eps)?;
        let y = g.gated(z, mixed, Activation::Silu)?;
        blocks::stacked(g, y, module, &[("out_proj", d)], false)
    }
}
