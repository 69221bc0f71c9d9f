//! A training step, on the GPU and on the CPU.

use siskin_formats::TensorType;
use siskin_gpu::GpuDevice;
use siskin_graph::{
    Activation, AdamW, AttentionSpec, Batch, BatchPart, BatchPlan, Checkpointing, Experts, Graph,
    LoraSpec, Map, MomentType, NodeId, Pairs, RopeSpec, RouteSpec, Score, TrainingGraphs, WeightId,
};

use super::{Case, noise, values};
use crate::Result;

/// The outcome of training: loss, gradients and their norm, and the parameters after two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// The sum of the rows' losses.
    pub loss: f32,
    /// The gradients of all parameters.
    pub grads: Vec<f32>,
    /// Their norm, before clipping.
    pub norm: f32,
    /// The parameters after two steps of the optimiser.
    pub params: Vec<f32>,
}

/// What kind of block is trained, and how.
#[derive(Debug, Clone, Copy)]
pub struct LearningSpec {
    /// Types of the weights, in turn.
    pub types: [TensorType; 2],
    /// The window of its attention.
    pub window: Option<usize>,
    /// Whether its attention is causal.
    pub causal: bool,
    /// The activation of its MLP.
    pub activation: Activation,
    /// Of rope; the interleaved form rotates the first half of each head only.
    pub pairs: Pairs,
    /// Tokens of the batch, in three segments.
    pub rows: usize,
    /// Whether the adapters have magnitudes.
    pub use_dora: bool,
    /// A layer norm before the MLP, functions of each value after attention, and a scaled rope.
    pub has_layer_norm: bool,
    /// Whether its MLP is a mixture of experts, beside a gated linear; attention then has a soft cap and sinks, and the
    /// logits a soft cap.
    pub has_experts: bool,
    /// How the optimiser stores its moments.
    pub moments: MomentType,
}

/// A transformer block with adapters and a loss.
#[derive(Debug)]
pub struct Learning {
    spec: LearningSpec,
    case: Case,
    /// With the backward pass, and without.
    graphs: [Graph; 2],
    batch: Batch,
}

/// The second has gradients of 0: parameters change by the moments of the first.
fn steps() -> [AdamW; 2] {
    [1, 2].map(|step| AdamW {
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        max_grad_norm: 0.5,
        step,
    })
}

/// The weights of a mixture of 5 experts of which 2 are used, beside a gated MLP whose own weights learn.
struct MoeWeights {
    router: WeightId,
    gate: WeightId,
    up: Experts,
    down: Experts,
}

impl MoeWeights {
    fn new(case: &mut Case, ty: TensorType, d: usize) -> Self {
        let n_experts = 5;
        let up = case.matrix("gates and ups", &[(ty, n_experts * 2 * d)], d);
        let down = case.matrix("downs of experts", &[(ty, n_experts * d)], d);
        let bias = case.vector("downs' biases", n_experts * d);
        let of = |weight, bias| Experts {
            weight,
            bias,
            n_experts,
            n_used: 2,
        };
        Self {
            router: case.matrix("router", &[(TensorType::F32, n_experts)], d),
            gate: case.matrix("gate of a row", &[(TensorType::F32, 1)], d),
            up: of(up, None),
            down: of(down, Some(bias)),
        }
    }

    fn build(
        &self,
        g: &mut Graph,
        x: NodeId,
        [both, down]: [WeightId; 2],
        activation: Activation,
    ) -> siskin_graph::Result<NodeId> {
        let d = g.node(x).cols;
        let logits = g.linear(x, self.router, None)?;
        let spec = RouteSpec {
            n_used: self.up.n_used,
            score: Score::Softmax,
            bias: None,
            expert_scales: None,
            renormalise: activation != Activation::Silu,
            eps: 0.0,
            scale: 1.5,
        };
        let route = g.route(logits, spec)?;
        let h = g.expert_up(x, route, self.up, 2)?;
        let half = g.node(h).cols / 2;
        let (gate, up) = (g.slice(h, 0, half)?, g.slice(h, half, half)?);
        let h = g.gated(gate, up, activation)?;
        let y = g.expert_down(h, route, self.down)?;
        let h = g.linear(x, both, None)?;
        let (gate, up) = (g.slice(h, 0, d)?, g.slice(h, d, d)?);
        let h = g.gated(gate, up, activation)?;
        let h = g.linear(h, down, None)?;
        let gate = g.linear(x, self.gate, None)?;
        let h = g.row_gate(h, gate)?;
        g.add(y, h)
    }
}

impl Learning {
    /// Norms of both kinds, attention of two heads for each of k and v, a gated MLP, and the loss over a vocabulary of 4201.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn block(learning: LearningSpec) -> siskin_graph::Result<Self> {
        let LearningSpec {
            types,
            window,
            causal,
            activation,
            pairs,
            rows,
            use_dora,
            has_layer_norm,
            has_experts,
            ..
        } = learning;
        // Heads and rows are whole blocks.
        let d = match types.iter().map(|t| t.block_len()).max() {
            Some(64 | 256) => 256,
            _ => 96,
        };
        let [ty, other] = types;
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: d / 4,
            scale: 0.3,
            window,
            causal,
            soft_cap: has_experts.then_some(0.5),
            sinks: None,
        };
        let (mut case, x) = Case::new(d);
        let names = [
            "norm",
            "projection q k v",
            "out",
            "gate and up",
            "down of mlp",
            "vocabulary",
        ];
        let norm = case.vector(names[0], d);
        let qkv_w = case.matrix(names[1], &[(ty, d), (ty, d / 2), (other, d / 2)], d);
        // Magnitudes do not multiply biases.
        let bias = use_dora.then(|| case.vector("bias of q, k, v", 2 * d));
        let head = case.vector("norm of heads", d / 4);
        let norm_bias = case.vector("bias of a norm", d);
        let n_freqs = match pairs {
            Pairs::Halves => d / 8,
            Pairs::Interleaved => d / 16,
        };
        let freqs = (0..n_freqs).map(|i| 0.9f32.powi(i as i32)).collect();
        let inv_freq = case.graph.constant("inv_freq", freqs);
        let out_w = case.matrix(names[2], &[(ty, d)], d);
        let both_w = case.matrix(names[3], &[(ty, d), (ty, d)], d);
        let down_w = case.matrix(names[4], &[(ty, d)], d);
        // More than one chunk of the vocabulary, with an odd end.
        let last_w = case.matrix(names[5], &[(ty, 4130), (other, 71)], d);
        let experts = has_experts.then(|| MoeWeights::new(&mut case, ty, d));
        let g = &mut case.graph;
        let h = g.rms_norm(x, norm, 1e-5)?;
        let qkv = g.linear(h, qkv_w, bias)?;
        let (q, k) = (g.slice(qkv, 0, d)?, g.slice(qkv, d, d / 2)?);
        let v = g.slice(qkv, d + d / 2, d / 2)?;
        let (q, k) = (g.rms_norm(q, head, 1e-6)?, g.rms_norm(k, head, 1e-6)?);
        let rope = RopeSpec {
            inv_freq,
            head_dim: d / 4,
            pairs,
            scale: if has_layer_norm { 1.1 } else { 1.0 },
        };
        let (q, k) = (g.rope_of(q, rope)?, g.rope_of(k, rope)?);
        // Causal attention over the batch is made of that over a cache, as in models.
        let y = if causal {
            let cache = g.cache(2, d / 4);
            g.kv_append(k, v, cache)?;
            g.attention(q, cache, spec)?
        } else {
            g.self_attention([q, k, v], spec)?
        };
        let mut y = g.linear(y, out_w, None)?;
        let maps = [
            Map::SoftCap(20.0),
            Map::Scale(0.5),
            Map::ExpExcess,
            Map::Activation(Activation::Gelu),
        ];
        for map in maps.into_iter().filter(|_| has_layer_norm) {
            y = g.map(y, map);
        }
        let x = g.add(x, y)?;
        let h = match has_layer_norm {
            true => g.layer_norm(x, norm, Some(norm_bias), 1e-5)?,
            false => g.rms_norm(x, norm, 1e-5)?,
        };
        let h = match experts {
            Some(weights) => weights.build(g, h, [both_w, down_w], activation)?,
            None => {
                let both = g.linear(h, both_w, None)?;
                let (gate, up) = (g.slice(both, 0, d)?, g.slice(both, d, d)?);
                let h = g.gated(gate, up, activation)?;
                g.linear(h, down_w, None)?
            }
        };
        let x = g.add(x, h)?;
        let x = g.rms_norm(x, norm, 1e-5)?;
        let loss = g.cross_entropy(x, last_w, has_experts.then_some(3.0))?;
        g.output(loss);
        let mut spec = LoraSpec {
            rank: 3,
            scale: 0.5,
            dropout: 0.2,
            use_dora,
            adapter: None,
            modules: names[1..].iter().map(|n| n.to_string()).collect(),
        };
        if has_experts {
            case.add_sinks();
        }
        let mut graph = case.graph.with_lora(&spec).without_cache();
        let loss = graph.outputs[0];
        graph.differentiate(loss, Checkpointing::Off)?;
        spec.dropout = 0.0;
        let plain = case.graph.with_lora(&spec).without_cache();
        let tokens = case.tokens(rows);
        let weights = noise(5)
            .take(rows)
            .map(|w| if w < 0.3 { 0.0 } else { w / 9.0 });
        let batch = Batch {
            targets: noise(9).take(rows).map(|v| (v * 4201.0) as u32).collect(),
            positions: (0..rows as u32)
                .map(|t| t % (rows as u32 / 3 + 1))
                .collect(),
            weights: weights.collect(),
            tokens,
            seed: 3,
            ..Batch::default()
        };
        Ok(Self {
            spec: learning,
            case,
            graphs: [graph, plain],
            batch,
        })
    }

    fn params(&self) -> Result<Vec<f32>> {
        let graph = &self.graphs[0];
        let n = graph.params_len();
        let mut params: Vec<f32> = values(11, n).iter().map(|v| 0.2 * v).collect();
        let loras = || {
            graph
                .loras
                .iter()
                .filter_map(|l| Some((l, l.dora.as_ref()?)))
        };
        let mut ones = params.clone();
        for (lora, dora) in loras() {
            ones[dora.m..][..lora.outer()].fill(1.0);
        }
        let mut cpu = self.case.cpu();
        cpu.set_params(ones);
        let factors = cpu.factors(graph)?;
        // Magnitudes close to the norms that they are divided by.
        for (lora, dora) in loras() {
            let columns = lora.spans.iter().flat_map(|s| s.start..s.start + s.len);
            for (m, column) in params[dora.m..].iter_mut().zip(columns) {
                *m = (1.0 + *m) / factors[dora.factors + column];
            }
        }
        Ok(params)
    }

    /// Loss, gradients and parameters on the CPU, and the loss without dropout before training.
    ///
    /// # Errors
    /// If an op is not supported.
    pub fn on_cpu(&self) -> Result<(Learned, f32)> {
        let mut cpu = self.case.cpu();
        cpu.set_params(self.params()?);
        let plans = self.graphs.clone().map(|g| cpu.plan(g, self.batch.rows()));
        let [loss, plain] = plans.each_ref().map(|plan| {
            let losses = cpu.run_batch(plan, BatchPart::Whole, &self.batch);
            losses.map(|l| l.iter().sum::<f32>())
        });
        let (loss, plain) = (loss?, plain?);
        let grads = cpu.grads().to_vec();
        let [norm, _] = steps().map(|step| cpu.optimise(&step, self.spec.moments));
        let learned = Learned {
            loss,
            grads,
            norm,
            params: cpu.params().to_vec(),
        };
        Ok((learned, plain))
    }

    /// The same on a GPU.
    ///
    /// # Errors
    /// If an op is not supported, or the GPU fails.
    pub async fn on_gpu(&self, gpu: &mut GpuDevice) -> Result<(Learned, f32)> {
        self.case.load(gpu)?;
        gpu.set_params(&self.graphs[0], &self.params()?)?;
        let [learn, score] = self.graphs.clone();
        let graphs = TrainingGraphs {
            learn,
            score,
            reference: None,
        };
        gpu.prepare_training(graphs, self.batch.rows(), self.spec.moments)?;
        let plain = gpu.run_batch(BatchPlan::Score, &self.batch).await?;
        let plain = plain.iter().sum();
        let losses = BatchPlan::Learn(BatchPart::Losses);
        let loss = gpu.run_batch(losses, &self.batch).await?.iter().sum();
        let gradients = BatchPlan::Learn(BatchPart::Gradients);
        gpu.run_batch(gradients, &self.batch).await?;
        let grads = gpu.grads().await?;
        let [first, second] = steps();
        let norm = gpu.optimise(&first).await?;
        gpu.optimise(&second).await?;
        let (params, _) = gpu.training_state().await?;
        let learned = Learned {
            loss,
            grads,
            norm,
            params,
        };
        Ok((learned, plain))
    }
}
