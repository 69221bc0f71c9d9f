//! A step of training, on the GPU and on the CPU.

use siskin_formats::TensorType;
use siskin_gpu::GpuDevice;
use siskin_graph::{
    Activation, AdamW, AttentionSpec, Batch, Checkpointing, Fusion, Graph, LoraSpec, Plan,
};

use super::{Case, noise, values};
use crate::Result;

/// What a step of training leaves: its loss, all gradients, their norm, all parameters after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    pub loss: f32,
    pub grads: Vec<f32>,
    pub norm: f32,
    pub params: Vec<f32>,
}

/// A block with adapters and a loss.
#[derive(Debug)]
pub struct Learning {
    case: Case,
    /// With the backward pass, and without.
    graphs: [Graph; 2],
    batch: Batch,
}

const STEP: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
    max_grad_norm: 0.5,
    step: 1,
};

impl Learning {
    /// Two norms, attention of two heads for each of k and v, a gated MLP and the loss over a vocabulary
    /// of 4200, whose weights are of `types` in turn; `rows` tokens in three segments.
    pub fn block(
        types: [TensorType; 2],
        window: Option<usize>,
        activation: Activation,
        rows: usize,
    ) -> siskin_graph::Result<Self> {
        let wide = types.iter().any(|t| t.block_len() == 256);
        let d = if wide { 512 } else { 96 };
        let [ty, other] = types;
        let spec = AttentionSpec {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: d / 4,
            scale: 0.3,
            window,
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
        let head = case.vector("norm of heads", d / 4);
        let freqs = (0..d / 8).map(|i| 0.9f32.powi(i as i32)).collect();
        let inv_freq = case.graph.constant("inv_freq", freqs);
        let out_w = case.matrix(names[2], &[(ty, d)], d);
        let both_w = case.matrix(names[3], &[(ty, d), (ty, d)], d);
        let down_w = case.matrix(names[4], &[(ty, d)], d);
        // More than one chunk of the vocabulary, and an odd end.
        let last_w = case.matrix(names[5], &[(ty, 4130), (other, 71)], d);
        let g = &mut case.graph;
        let h = g.rms_norm(x, norm, 1e-5)?;
        let qkv = g.linear(h, qkv_w, None)?;
        let (q, k) = (g.slice(qkv, 0, d)?, g.slice(qkv, d, d / 2)?);
        let v = g.slice(qkv, d + d / 2, d / 2)?;
        let (q, k) = (g.rms_norm(q, head, 1e-6)?, g.rms_norm(k, head, 1e-6)?);
        let (q, k) = (g.rope(q, inv_freq, d / 4)?, g.rope(k, inv_freq, d / 4)?);
        let cache = g.cache(2, d / 4);
        g.kv_append(k, v, cache)?;
        let y = g.attention(q, cache, spec)?;
        let y = g.linear(y, out_w, None)?;
        let x = g.add(x, y)?;
        let h = g.rms_norm(x, norm, 1e-5)?;
        let both = g.linear(h, both_w, None)?;
        let (gate, up) = (g.slice(both, 0, d)?, g.slice(both, d, d)?);
        let h = g.gated(gate, up, activation)?;
        let h = g.linear(h, down_w, None)?;
        let x = g.add(x, h)?;
        let x = g.rms_norm(x, norm, 1e-5)?;
        let loss = g.cross_entropy(x, last_w)?;
        g.output(loss);
        let mut spec = LoraSpec {
            rank: 3,
            scale: 0.5,
            dropout: 0.2,
            modules: names[1..].iter().map(|n| n.to_string()).collect(),
        };
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
        };
        Ok(Self {
            case,
            graphs: [graph, plain],
            batch,
        })
    }

    fn params(&self) -> Vec<f32> {
        let n = self.graphs[0].params_len();
        values(11, n).iter().map(|v| 0.2 * v).collect()
    }

    /// The step on the CPU, and the loss without dropout before it.
    pub fn on_cpu(&self) -> Result<(Learned, f32)> {
        let mut cpu = self.case.cpu();
        cpu.set_params(self.params());
        let plans = self
            .graphs
            .clone()
            .map(|g| Plan::new(g, self.batch.rows(), Fusion::NONE, |_| false));
        let plain = cpu.run_batch(&plans[1], &self.batch)?;
        let loss = cpu.run_batch(&plans[0], &self.batch)?;
        let grads = cpu.grads().to_vec();
        let norm = cpu.optimise(&STEP);
        let learned = Learned {
            loss,
            grads,
            norm,
            params: cpu.params().to_vec(),
        };
        Ok((learned, plain))
    }

    /// The same on a GPU.
    pub async fn on_gpu(&self, gpu: &mut GpuDevice) -> Result<(Learned, f32)> {
        self.case.load(gpu, true)?;
        gpu.set_params(&self.params())?;
        let [graph, plain] = self.graphs.clone();
        gpu.prepare_training(graph, plain, self.batch.rows())?;
        let plain = gpu.run_batch(1, &self.batch).await?;
        let loss = gpu.run_batch(0, &self.batch).await?;
        let grads = gpu.grads().await?;
        let norm = gpu.optimise(&STEP).await?;
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
