//! What layers have in place of attention: short convolutions and linear attention, with states instead of caches.

use siskin_graph::{Activation, DeltaSpec, Graph, NodeId, Part, Result, ScanSpec, WeightId};

use crate::blocks;
use crate::latent::Latent;

/// What mixes the tokens of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mixer {
    Attention,
    ShortConv(ShortConv),
    DeltaNet(DeltaNet),
    Mamba(Mamba),
    Mamba2(Mamba2),
    Latent(Latent),
}

impl Mixer {
    pub fn is_recurrent(&self) -> bool {
        !matches!(self, Self::Attention | Self::Latent(_))
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
    pub gates: Gates,
}

/// How a file stores the projections of a gated delta net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gates {
    /// q, k and v in one tensor, and one each for z, b and α.
    Apart,
    /// q, k and v in one tensor, z in another, and a third for each head of k the b and α of its heads of v.
    Together,
    /// For each head of k its q and k, and the v and z of its heads of v; in another tensor b and α.
    WithAll,
}

/// Mamba. Source: `transformers/models/mamba`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mamba {
    pub kernel: usize,
    /// Columns within it.
    pub inner: usize,
    pub state_dim: usize,
    /// Columns that step sizes are computed from.
    pub step_rank: usize,
    pub conv_bias: bool,
    pub bias: bool,
    /// The eps of norms without weights of step sizes, B and C, where there are some.
    pub norm_eps: Option<f32>,
}

/// Mamba 2. Source: `transformers/models/mamba2`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mamba2 {
    pub kernel: usize,
    pub spec: ScanSpec,
    pub conv_bias: bool,
    pub in_bias: bool,
    pub out_bias: bool,
    pub norm: Option<GatedNorm>,
    /// What the projected gate, x, B, C and steps are multiplied by.
    pub scales: [f32; 5],
}

/// The norm of Mamba 2's result, over each group of columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatedNorm {
    pub eps: f32,
    /// Whether the gate multiplies what is normalised already.
    pub before_gate: bool,
    /// Whether the file has its weights as a matrix with a row for each group.
    pub by_group: bool,
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
    /// The rows of q, k, v, z, b and α.
    fn projections(&self, module: &str, cols: usize) -> Vec<Part> {
        let DeltaSpec {
            n_k_heads,
            n_v_heads,
            k_dim,
            v_dim,
            ..
        } = self.spec;
        let (nk, nv) = (n_k_heads * k_dim, n_v_heads * v_dim);
        let whole =
            |name: &str, rows: usize| Part::whole(format!("{module}.{name}.weight"), [rows, cols]);
        // Of each head of k, as many rows from where they begin.
        let each = |name: &str, step: usize, at: usize, rows: usize| -> Vec<Part> {
            let part = |head: usize| Part {
                rows: head * step + at..head * step + at + rows,
                ..whole(name, n_k_heads * step)
            };
            (0..n_k_heads).map(part).collect()
        };
        let (v, gate) = (nv / n_k_heads, n_v_heads / n_k_heads);
        let of_qkvz = |at, rows| each("in_proj_qkvz", 2 * k_dim + 2 * v, at, rows);
        let of_ba = |at| each("in_proj_ba", 2 * gate, at, gate);
        let apart = [whole("in_proj_qkv", 2 * nk + nv), whole("in_proj_z", nv)];
        match self.gates {
            Gates::Apart => {
                let gates = ["in_proj_b", "in_proj_a"].map(|name| whole(name, n_v_heads));
                [apart, gates].concat()
            }
            Gates::Together => [apart.to_vec(), of_ba(0), of_ba(gate)].concat(),
            Gates::WithAll => [
                of_qkvz(0, k_dim),
                of_qkvz(k_dim, k_dim),
                of_qkvz(2 * k_dim, v),
                of_qkvz(2 * k_dim + v, v),
                of_ba(0),
                of_ba(gate),
            ]
            .concat(),
        }
    }

    /// `x` is normalised already.
    pub fn build(&self, g: &mut Graph, x: NodeId, module: &str) -> Result<NodeId> {
        let (d, n) = (g.node(x).cols, self.spec.n_v_heads);
        let nk = self.spec.n_k_heads * self.spec.k_dim;
        let nv = n * self.spec.v_dim;
        let weight = g.matrix_of(
            &format!("{module}.in_proj.weight"),
            self.projections(module, d),
        )?;
        let all = g.linear(x, weight, None)?;
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

impl Mamba {
    /// `x` is normalised already.
    pub fn build(&self, g: &mut Graph, x: NodeId, module: &str) -> Result<NodeId> {
        let (d, inner) = (g.node(x).cols, self.inner);
        let both = blocks::stacked(g, x, module, &[("in_proj", 2 * inner)], self.bias)?;
        let x = g.slice(both, 0, inner)?;
        let z = g.slice(both, inner, inner)?;
        let x = conv(g, x, module, self.kernel, self.conv_bias)?;
        // Step sizes, and B and C, are projected by one matrix.
        let name = format!("{module}.x_proj.weight");
        let shape = [self.step_rank + 2 * self.state_dim, inner];
        let mut part = |rows: std::ops::Range<usize>, label: &str| {
            let part = Part {
                rows,
                ..Part::whole(&name, shape)
            };
            let weight = g.matrix_of(&format!("{name}.{label}"), vec![part])?;
            g.linear(x, weight, None)
        };
        let mut low = part(0..self.step_rank, "steps")?;
        let mut bc = part(self.step_rank..shape[0], "b+c")?;
        if let Some(eps) = self.norm_eps {
            let ones = g.constant("ones of a step", vec![1.0; self.step_rank]);
            low = g.rms_norm(low, ones, eps)?;
            let ones = g.constant("ones of a state", vec![1.0; self.state_dim]);
            bc = g.rms_norm(bc, ones, eps)?;
        }
        let steps = blocks::stacked(g, low, module, &[("dt_proj", inner)], false)?;
        let spec = ScanSpec {
            n_heads: inner,
            head_dim: 1,
            n_groups: 1,
            state_dim: self.state_dim,
            step_limits: [0.0, f32::INFINITY],
        };
        let a = format!("{module}.A_log");
        let a = g.vector_of(&a, vec![Part::whole(&a, [inner, self.state_dim])])?;
        let dt = vector(g, &format!("{module}.dt_proj.bias"), inner);
        let skip = vector(g, &format!("{module}.D"), inner);
        let mixed = g.selective_scan([x, steps, bc], spec, a, Some(dt), skip)?;
        let y = g.gated(z, mixed, Activation::Silu)?;
        blocks::stacked(g, y, module, &[("out_proj", d)], self.bias)
    }
}

impl Mamba2 {
    /// `x` is normalised already.
    pub fn build(&self, g: &mut Graph, x: NodeId, module: &str) -> Result<NodeId> {
        let (d, n) = (g.node(x).cols, self.spec.n_heads);
        let inner = n * self.spec.head_dim;
        let states = self.spec.n_groups * self.spec.state_dim;
        let mixed = inner + 2 * states;
        let all = [("in_proj", inner + mixed + n)];
        let mut all = blocks::stacked(g, x, module, &all, self.in_bias)?;
        if self.scales != [1.0; 5] {
            let runs = self.scales.iter().zip([inner, inner, states, states, n]);
            let factors = runs.flat_map(|(by, n)| std::iter::repeat_n(*by, n));
            let factors = g.constant("scales of in_proj", factors.collect());
            all = g.scale_columns(all, factors)?;
        }
        let z = g.slice(all, 0, inner)?;
        let xbc = g.slice(all, inner, mixed)?;
        let steps = g.slice(all, inner + mixed, n)?;
        let xbc = conv(g, xbc, module, self.kernel, self.conv_bias)?;
        let x = g.slice(xbc, 0, inner)?;
        let bc = g.slice(xbc, inner, 2 * states)?;
        let [a, dt, skip] =
            ["A_log", "dt_bias", "D"].map(|name| vector(g, &format!("{module}.{name}"), n));
        let mixed = g.selective_scan([x, steps, bc], self.spec, a, Some(dt), skip)?;
        let y = self.gate(g, mixed, z, &format!("{module}.norm.weight"))?;
        blocks::stacked(g, y, module, &[("out_proj", d)], self.out_bias)
    }

    /// The result with its gate, and its norm.
    fn gate(&self, g: &mut Graph, x: NodeId, z: NodeId, name: &str) -> Result<NodeId> {
        let gated = |g: &mut Graph, x| g.gated(z, x, Activation::Silu);
        let Some(norm) = self.norm else {
            return gated(g, x);
        };
        let x = if norm.before_gate { x } else { gated(g, x)? };
        let (cols, n_groups) = (g.node(x).cols, self.spec.n_groups);
        let shape = match norm.by_group {
            true => [n_groups, cols / n_groups],
            false => [cols, 1],
        };
        let weight = g.vector_of(name, vec![Part::whole(name, shape)])?;
        let x = if n_groups == 1 {
            g.rms_norm(x, weight, norm.eps)?
        } else {
            let ones = g.constant("ones of a group", vec![1.0; cols / n_groups]);
            let x = g.rms_norm(x, ones, norm.eps)?;
            g.scale_columns(x, weight)?
        };
        if norm.before_gate { gated(g, x) } else { Ok(x) }
    }
}

/// The convolution of Mamba, with its activation.
fn conv(g: &mut Graph, x: NodeId, module: &str, kernel: usize, bias: bool) -> Result<NodeId> {
    let (name, cols) = (format!("{module}.conv1d"), g.node(x).cols);
    let weight = kernels(g, &name, cols, kernel)?;
    let bias = bias.then(|| vector(g, &format!("{name}.bias"), cols));
    g.causal_conv(x, kernel, weight, bias, Activation::Silu)
}
