//! Compares every kernel with its counterpart on the CPU, on the adapter of this machine: small graphs over random
//! values run on both. The page shows the results; the tests run many more cases.
//!
//! ```
//! use siskin_engine::self_test::Case;
//! use siskin_formats::TensorType;
//!
//! // Five tokens through a linear over Q4_0 weights, three of them in one step.
//! let case = Case::linear(TensorType::Q4_0)?;
//! let out = case.on_cpu(&case.tokens(5), &[3, 1, 1])?;
//! assert_eq!(out.len() % 5, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod caches;
mod certify;
mod experts;
mod heads;
mod learning;
mod recurrent;
mod streams;
mod texts;

pub use certify::{KernelResult, certify, tolerance};
pub use experts::ExpertsSpec;
pub use learning::{Learned, Learning, LearningSpec};

use std::collections::HashMap;

use siskin_cpu::{CpuDevice, CpuPart, CpuWeight, Precision};
use siskin_formats::{TensorType, encode};
use siskin_gpu::{GpuDevice, GpuType};
use siskin_graph::{
    Activation, AttentionSpec, CacheType, CacheTypes, Capacity, Graph, NodeId, Op, Pairs, RopeSpec,
    Sampling, StepInput, WeightId, WeightKind,
};

use crate::Result;

/// A deterministic sequence in [0, 1).
pub fn noise(seed: u32) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((state >> 8) as f32 / 16_777_216.0)
    })
}

/// `n` values in [-1, 1).
pub fn values(seed: u32, n: usize) -> Vec<f32> {
    noise(seed).take(n).map(|v| 2.0 * v - 1.0).collect()
}

/// Random weights: the blocks of `n` of a type (a multiple of its block length), with scales as trained weights have.
pub fn weights(ty: TensorType, seed: u32, n: usize) -> Vec<u8> {
    if let (false, Ok(bytes)) = (ty.is_integer(), encode(ty, &values(seed, n))) {
        return bytes;
    }
    let bytes = ty.bytes_of(n).unwrap_or_default();
    let mut bytes: Vec<u8> = noise(seed).take(bytes).map(|v| (v * 256.0) as u8).collect();
    let scales: &[usize] = match ty {
        TensorType::Q4_1
        | TensorType::Q5_1
        | TensorType::Q4_K
        | TensorType::Q5_K
        | TensorType::INT4_1 => &[0, 2],
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q6_K => &[208],
        TensorType::IQ1_M => &[54],
        TensorType::TQ1_0 => &[52],
        TensorType::TQ2_0 => &[64],
        _ => &[0],
    };
    let least = match ty {
        TensorType::TQ1_0 | TensorType::TQ2_0 => 0x20,
        _ if ty.block_len() == 256 => 0x10,
        _ => 0x20,
    };
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        if ty == TensorType::MXFP4 {
            block[0] = 121 + block[0] % 4;
            continue;
        }
        if ty == TensorType::NVFP4 {
            block[..4].iter_mut().for_each(|s| *s = 0x10 + *s % 0x20);
            continue;
        }
        if matches!(ty, TensorType::INT4 | TensorType::INT8) {
            // An f32 of 2^-7 to 2^-6.
            block[3] = (block[3] & 0x80) | 0x3c;
            continue;
        }
        for at in scales {
            // Exponents of 2^-7 to 2^-4, as trained weights have, or 2^-11 to 2^-8 where other scales multiply them.
            block[at + 1] = (block[at + 1] & 0x8f) | least;
        }
    }
    bytes
}

/// Tokens of the caches: enough for several workgroups to share one token's attention.
pub const CONTEXT: usize = 1200;

/// A small graph with the values of its weights. Its input is an embedding of random values.
#[derive(Debug)]
pub struct Case {
    /// The graph.
    pub graph: Graph,
    /// Its weights, by name.
    pub weights: HashMap<String, CpuWeight>,
    /// Rows of the embedding.
    pub vocab: usize,
    /// How both devices store keys and values: f32, unless it is changed.
    pub cache: CacheTypes,
}

impl Case {
    /// A graph without nodes.
    pub fn empty(vocab: usize) -> Self {
        Self {
            graph: Graph::default(),
            weights: HashMap::new(),
            vocab,
            cache: CacheType::F32.into(),
        }
    }

    /// A graph that begins with an embedding `[T, cols]` of random values, and that embedding.
    pub fn new(cols: usize) -> (Self, NodeId) {
        let mut case = Self::empty(50);
        let table = case.matrix("table", &[(TensorType::F32, 50)], cols);
        let x = case.graph.embed(table, 1.5);
        (case, x)
    }

    /// Adds a matrix of random weights: types and rows of its parts.
    pub fn matrix(&mut self, name: &str, parts: &[(TensorType, usize)], cols: usize) -> WeightId {
        let parts: Vec<CpuPart> = parts
            .iter()
            .enumerate()
            .map(|(i, (ty, rows))| {
                let seed = 100 * name.len() as u32 + i as u32 + ty.ggml().unwrap_or(99);
                CpuPart {
                    ty: *ty,
                    rows: *rows,
                    bytes: weights(*ty, seed, rows * cols),
                }
            })
            .collect();
        let named: Vec<_> = parts.iter().map(|p| (name, p.rows)).collect();
        let id = self.graph.matrix(name, &named, cols);
        self.weights
            .insert(name.into(), CpuWeight::Matrix { parts, cols });
        id
    }

    /// Adds a vector of `n` random values.
    pub fn vector(&mut self, name: &str, n: usize) -> WeightId {
        let id = self.graph.vector(name, &[(name, n)]);
        self.weights
            .insert(name.into(), CpuWeight::Vector(values(name.len() as u32, n)));
        id
    }

    /// `n` tokens of the vocabulary.
    pub fn tokens(&self, n: usize) -> Vec<u32> {
        noise(77)
            .take(n)
            .map(|v| (v * self.vocab as f32) as u32)
            .collect()
    }

    /// A CPU device with the weights.
    pub fn cpu(&self) -> CpuDevice {
        let mut cpu = CpuDevice::new(Precision::F32);
        for (name, weight) in &self.weights {
            cpu.add_weight(name, weight.clone());
        }
        cpu.set_caches(&self.graph, Capacity::alone(CONTEXT), self.cache);
        cpu
    }

    /// The output's values on the CPU after running `tokens` from position 0, in steps of these sizes.
    ///
    /// # Errors
    /// If an op is not supported.
    pub fn on_cpu(&self, tokens: &[u32], steps: &[usize]) -> Result<Vec<f32>> {
        let mut cpu = self.cpu();
        let (mut at, mut out) = (0, vec![]);
        for n in steps {
            let plan = cpu.plan(self.graph.clone(), *n);
            let sampling = Some(Sampling::default());
            cpu.run(&plan, &StepInput::alone(&tokens[at..at + n], at, sampling))?;
            out.extend(cpu.read(&plan, self.graph.outputs[0], *n));
            at += n;
        }
        Ok(out)
    }

    /// Uploads the weights to a GPU.
    ///
    /// # Errors
    /// If the GPU cannot store them.
    pub fn load(&self, gpu: &mut GpuDevice) -> Result<()> {
        for weight in &self.graph.weights {
            match (&weight.kind, self.weights.get(&weight.name)) {
                (WeightKind::Constant(v), _) | (_, Some(CpuWeight::Vector(v))) => {
                    gpu.add_vector(&weight.name, v)?;
                }
                (_, Some(CpuWeight::Matrix { parts, cols })) => {
                    let types: Vec<_> = parts.iter().map(|p| (p.ty, p.rows)).collect();
                    let mut upload = gpu.matrix(&weight.name, &types, *cols)?;
                    parts.iter().try_for_each(|p| upload.part(&p.bytes))?;
                    upload.finish()?;
                }
                (_, None) => {
                    let name = weight.name.clone();
                    return Err(siskin_gpu::Error::MissingWeight(name).into());
                }
            }
        }
        Ok(gpu.set_caches(&self.graph, Capacity::alone(CONTEXT), self.cache)?)
    }

    /// The same on a GPU.
    ///
    /// # Errors
    /// If an op is not supported, or the GPU fails.
    pub async fn on_gpu(
        &self,
        gpu: &mut GpuDevice,
        tokens: &[u32],
        steps: &[usize],
    ) -> Result<Vec<f32>> {
        self.load(gpu)?;
        let (mut at, mut out) = (0, vec![]);
        for n in steps {
            let outputs = gpu.evaluate(&self.graph, &tokens[at..at + n], at).await?;
            out.extend(outputs.into_iter().next().unwrap_or_default());
            at += n;
        }
        Ok(out)
    }

    /// A linear over weights of a type.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn linear(ty: TensorType) -> siskin_graph::Result<Self> {
        let k = match ty.block_len() {
            256 => 512,
            64 => 192,
            _ => 160,
        };
        let (mut case, x) = Self::new(k);
        let w = case.matrix("projection", &[(ty, 75)], k);
        let y = case.graph.linear(x, w, None)?;
        case.graph.output(y);
        Ok(case)
    }

    /// An embedding from a table of a type.
    pub fn embed(ty: TensorType) -> Self {
        let mut case = Self::empty(50);
        let table = case.matrix("table", &[(ty, 50)], 256);
        let x = case.graph.embed(table, 0.5);
        case.graph.output(x);
        case
    }

    /// A norm, stacked gate and up, and the activation.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn gated(ty: TensorType, activation: Activation) -> siskin_graph::Result<Self> {
        let (mut case, x) = Self::new(64);
        let norm = case.vector("norm", 64);
        let w = case.matrix("gate and up", &[(ty, 70), (ty, 70)], 64);
        let h = case.graph.rms_norm(x, norm, 1e-6)?;
        let bias = case.vector("gate and up's bias", 140);
        let both = case.graph.linear(h, w, Some(bias))?;
        let gate = case.graph.slice(both, 0, 70)?;
        let up = case.graph.slice(both, 70, 70)?;
        let y = case.graph.gated(gate, up, activation)?;
        case.graph.output(y);
        Ok(case)
    }

    /// Norms and adds that are not fused into linears.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn norms() -> siskin_graph::Result<Self> {
        let (mut case, x) = Self::new(160);
        let norm = case.vector("norm", 160);
        let h = case.graph.rms_norm(x, norm, 1e-5)?;
        let y = case.graph.add(x, h)?;
        // An add of two norms, neither of which can be computed in the other's step.
        let a = case.graph.rms_norm(y, norm, 1e-5)?;
        let b = case.graph.rms_norm(a, norm, 1e-5)?;
        let z = case.graph.add(b, y)?;
        let z = case.graph.add(z, a)?;
        case.graph.output(z);
        Ok(case)
    }

    /// q, k and v of mixed types, head norms, rope, cache and attention.
    ///
    /// # Errors
    /// If the shapes of `spec` contradict one another.
    pub fn attention(
        spec: AttentionSpec,
        norms: bool,
        types: [TensorType; 2],
    ) -> siskin_graph::Result<Self> {
        Self::attention_with(spec, norms, types, (spec.head_dim / 2, Pairs::Halves))
    }

    /// The same, with this many frequencies of rope, and dimensions paired like this.
    ///
    /// # Errors
    /// As [`Self::attention`].
    pub fn attention_with(
        spec: AttentionSpec,
        norms: bool,
        types: [TensorType; 2],
        (n_freqs, pairs): (usize, Pairs),
    ) -> siskin_graph::Result<Self> {
        let AttentionSpec {
            n_heads,
            n_kv_heads,
            head_dim,
            ..
        } = spec;
        let (nq, nkv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let (mut case, x) = Self::new(64);
        let w = case.matrix(
            "qkv",
            &[(types[0], nq), (types[0], nkv), (types[1], nkv)],
            64,
        );
        let qkv = case.graph.linear(x, w, None)?;
        let mut q = case.graph.slice(qkv, 0, nq)?;
        let mut k = case.graph.slice(qkv, nq, nkv)?;
        let v = case.graph.slice(qkv, nq + nkv, nkv)?;
        if norms {
            let (qn, kn) = (
                case.vector("q norm", head_dim),
                case.vector("k_norm!", head_dim),
            );
            q = case.graph.rms_norm(q, qn, 1e-6)?;
            k = case.graph.rms_norm(k, kn, 1e-6)?;
        }
        let freqs = (0..n_freqs)
            .map(|i| 10_000f32.powf(-(i as f32) / n_freqs as f32))
            .collect();
        let inv_freq = case
            .graph
            .constant(&format!("inv_freq of {head_dim}"), freqs);
        let rope = RopeSpec {
            inv_freq,
            head_dim,
            pairs,
            scale: 1.1,
        };
        let q = case.graph.rope_of(q, rope)?;
        let k = case.graph.rope_of(k, rope)?;
        let cache = case.graph.cache(n_kv_heads, head_dim);
        case.graph.kv_append(k, v, cache)?;
        let y = case.graph.attention(q, cache, spec)?;
        case.graph.output(y);
        Ok(case)
    }
}

impl Case {
    /// Gives each head of the case's attention a sink.
    pub fn add_sinks(&mut self) {
        for at in 0..self.graph.nodes.len() {
            if let Op::Attention { cache, mut spec } = self.graph.nodes[at].op {
                spec.sinks = Some(self.vector("sinks", spec.n_heads));
                self.graph.nodes[at].op = Op::Attention { cache, spec };
            }
        }
    }
}

/// A kernel to test: its name for display, its op, its graph, and the sizes of the steps of each run.
struct KernelCase {
    kernel: String,
    op: &'static str,
    case: Case,
    runs: &'static [&'static [usize]],
}

/// Of what has a state or a cache: from its beginning token by token, and after a prompt.
const RUNS_OF_STATES: &[&[usize]] = &[&[1, 1, 1], &[30, 1, 5]];

/// Whether no type before it is kept in the same layout on a GPU.
pub fn first_of_its_kind(ty: TensorType) -> bool {
    let alike = |t: &TensorType| GpuType::of(*t) == GpuType::of(ty);
    TensorType::ALL.into_iter().find(alike) == Some(ty)
}

/// The kernels that models use, each for several tokens and for one.
fn cases() -> siskin_graph::Result<Vec<KernelCase>> {
    let new = |kernel: String, op, case| KernelCase {
        kernel,
        op,
        case,
        runs: &[&[37, 1]],
    };
    let mut cases = vec![];
    for ty in TensorType::ALL {
        let name = ty.name();
        cases.push(new(format!("embed {name}"), "embed", Case::embed(ty)));
        // Types that a GPU keeps alike have the same kernels.
        if first_of_its_kind(ty) {
            cases.push(new(format!("linear {name}"), "linear", Case::linear(ty)?));
        }
    }
    cases.push(new("join_heads, positions".into(), "embed", Case::heads()?));
    for (activation, name) in [(Activation::Silu, "SiLU"), (Activation::GeluTanh, "GELU")] {
        let case = Case::gated(TensorType::Q4_0, activation)?;
        cases.push(new(format!("gated {name}"), "linear", case));
    }
    cases.push(new("rms_norm, add".into(), "rms_norm", Case::norms()?));
    cases.push(new("mix, rescale".into(), "gated", Case::streams()?));
    for ty in [TensorType::Q4_K, TensorType::Q8_0, TensorType::MXFP4] {
        let case = Case::experts(ExpertsSpec::of(ty))?;
        cases.push(new(format!("experts {}", ty.name()), "gated", case));
    }
    for (head_dim, window) in [(64, None), (128, Some(7))] {
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim,
            scale: 0.2,
            window,
            causal: true,
            soft_cap: None,
            sinks: None,
        };
        let window = window.map_or(String::new(), |w| format!(", window {w}"));
        cases.push(KernelCase {
            runs: RUNS_OF_STATES,
            ..new(
                format!("rope and attention, head_dim {head_dim}{window}"),
                "attention",
                Case::attention(spec, true, [TensorType::F32; 2])?,
            )
        });
    }
    for (keys, values) in [
        (CacheType::Q8_0, CacheType::Q8_0),
        (CacheType::Q4_0, CacheType::F16),
    ] {
        let cache = CacheTypes { keys, values };
        let case = Case::cached(cache)?;
        cases.push(KernelCase {
            runs: RUNS_OF_STATES,
            ..new(
                format!("attention, cache of {cache}"),
                "attention_f16",
                case,
            )
        });
    }
    for (name, case) in recurrent_cases()? {
        cases.push(KernelCase {
            runs: RUNS_OF_STATES,
            ..new(name.into(), "recurrent", case)
        });
    }
    Ok(cases)
}

/// The ops with a state, in all their forms.
///
/// # Errors
/// If a shape does not match, which would be a mistake in the cases themselves.
pub fn recurrent_cases() -> siskin_graph::Result<Vec<(&'static str, Case)>> {
    Ok(vec![
        (
            "causal_conv of 3, gated",
            Case::causal_conv(3, Activation::Identity)?,
        ),
        (
            "causal_conv of 4, SiLU",
            Case::causal_conv(4, Activation::Silu)?,
        ),
        ("delta_rule", Case::delta_rule(false)?),
        ("delta_rule, tiled heads", Case::delta_rule(true)?),
        ("selective_scan", Case::selective_scan(true)?),
        (
            "selective_scan, a decay per state",
            Case::selective_scan(false)?,
        ),
    ])
}
