//! Training on the CPU: parameters of adapters, the ops of the backward pass, the optimiser.

use siskin_graph::{
    AdamW, Batch, Graph, LoraId, MomentType, Moments, NodeId, Op, Plan, Sampling, dropout_factor,
};

use crate::device::{Run, matrix, vector};
use crate::ops::{adamw, cross_entropy, dora, gated, linear, lora, rms_norm, self_attention};
use crate::threads::within;
use crate::{CpuDevice, Error, Result};

/// Of all adapters together, in the order of `siskin_graph::Lora`.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pub values: Vec<f32>,
    pub grads: Vec<f32>,
    pub moments: Moments,
    /// What magnitudes multiply columns by, as the parameters are now unless they are stale.
    pub factors: Vec<f32>,
    pub are_stale: bool,
}

impl Params {
    /// The factors of all columns of an adapter's weight.
    pub fn factors_of(&self, graph: &Graph, lora: LoraId) -> Option<&[f32]> {
        let dora = graph.lora(lora).dora.as_ref()?;
        self.factors.get(dora.factors..)?.get(..dora.n)
    }
}

impl CpuDevice {
    /// The parameters of the graph's adapters.
    pub fn set_params(&mut self, values: Vec<f32>) {
        self.params = Params {
            values,
            are_stale: true,
            ..Params::default()
        };
    }

    /// What magnitudes multiply columns by, in the order of `siskin_graph::Dora`.
    pub fn factors(&mut self, graph: &Graph) -> Result<&[f32]> {
        self.refresh_factors(graph)?;
        Ok(&self.params.factors)
    }

    pub(crate) fn refresh_factors(&mut self, graph: &Graph) -> Result<()> {
        let Params {
            values,
            factors,
            are_stale,
            ..
        } = &mut self.params;
        if !*are_stale {
            return Ok(());
        }
        factors.resize(graph.factors_len(), 1.0);
        for lora in &graph.loras {
            let Some(dora) = &lora.dora else { continue };
            let (parts, _) = matrix(&self.weights, graph, dora.weight)?;
            let out = &mut factors[dora.factors..][..dora.n];
            dora::factors(lora, dora, values, parts, out);
        }
        // Only now: what failed half way is to be made anew.
        *are_stale = false;
        Ok(())
    }

    pub fn params(&self) -> &[f32] {
        &self.params.values
    }

    /// Sums of gradients since the last step of the optimiser.
    pub fn grads(&self) -> &[f32] {
        &self.params.grads
    }

    /// Makes them 0.
    pub fn forget_gradients(&mut self) {
        self.params.grads.fill(0.0);
    }

    /// Empty before the first step.
    pub fn moments(&self) -> &Moments {
        &self.params.moments
    }

    pub fn set_moments(&mut self, moments: Moments) {
        self.params.moments = moments;
    }

    /// Runs a plan of a loss, and of its backward pass if it has one, whose gradients are added to those
    /// that are there. Returns the sum of the rows' losses.
    ///
    /// # Errors
    /// If the batch is longer than the plan's rows, or a weight is missing.
    pub fn run_batch(&mut self, plan: &Plan, batch: &Batch) -> Result<f32> {
        let rows = batch.rows();
        if rows > plan.max_rows {
            return Err(Error::ContextFull {
                rows,
                position: 0,
                context: plan.max_rows,
            });
        }
        self.refresh_factors(&plan.graph)?;
        self.arena.reserve(plan.arena_len);
        self.params.grads.resize(self.params.values.len(), 0.0);
        let run = Run {
            tokens: &batch.tokens,
            position: 0,
            sampling: &Sampling::default(),
            batch: Some(batch),
        };
        within(|| {
            let mut nodes = plan.steps.iter().flat_map(|s| s.nodes());
            nodes.try_for_each(|id| self.run_node(plan, id, run))
        })?;
        let losses = self.read(plan, plan.graph.outputs[0], rows);
        Ok(losses.iter().step_by(2).sum())
    }

    /// One step of the optimiser over the gradients, which are 0 afterwards; moments that are none yet are
    /// made of type `ty`. Returns the gradients' norm before clipping; if that is not finite, nothing is
    /// changed.
    pub fn optimise(&mut self, step: &AdamW, ty: MomentType) -> f32 {
        let Params {
            values,
            grads,
            moments,
            are_stale,
            ..
        } = &mut self.params;
        let norm = adamw::global_norm(grads);
        if norm.is_finite() {
            if moments.is_empty() {
                *moments = Moments::zero(ty, values.len());
            }
            adamw::adamw(step, norm, grads, moments, values);
            *are_stale = true;
        }
        grads.fill(0.0);
        norm
    }

    /// The ops that only training has.
    pub(crate) fn run_training_node(
        &mut self,
        plan: &Plan,
        id: NodeId,
        run: Run<'_>,
    ) -> Result<()> {
        let graph = &plan.graph;
        let node = graph.node(id);
        let batch = run.batch.ok_or(Error::NotTraining(node.op.name()))?;
        let rows = batch.rows();
        let Self {
            weights,
            arena,
            scratch,
            params,
            ..
        } = self;
        let input = |i: usize| plan.view(node.inputs[i]);
        let missing = || Error::NotTraining(node.op.name());
        let segments = || batch.segments().collect::<Vec<_>>();
        match node.op {
            Op::Dropout { p, salt } => {
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    for ((c, out), x) in out.iter_mut().enumerate().zip(x.row(r)) {
                        let index = (r * node.cols + c) as u32;
                        *out = x * dropout_factor(p, batch.seed, salt, index);
                    }
                }
            }
            Op::SelfAttention { spec } => {
                let views = [input(0), input(1), input(2)];
                let (out, values) = arena.io(plan.view(id), rows, views);
                let values = values.map(|v| v.mat(rows));
                self_attention::self_attention(&spec, &segments(), values, scratch, out);
            }
            Op::SelfAttentionGrad { spec } => {
                let views = [0, 1, 2, 3, 4].map(input);
                let (out, values) = arena.io(plan.view(id), rows, views);
                let values = values.map(|v| v.mat(rows));
                self_attention::self_attention_grad(&spec, &segments(), values, scratch, out);
            }
            Op::CrossEntropy { weight } => {
                let (parts, d) = matrix(weights, graph, weight)?;
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                cross_entropy::cross_entropy(parts, x.mat(rows), d, batch, out);
            }
            Op::CrossEntropyGrad { weight } => {
                let (parts, d) = matrix(weights, graph, weight)?;
                let (out, [x, stats]) = arena.io(plan.view(id), rows, [input(0), input(1)]);
                let (x, stats) = (x.mat(rows), stats.mat(rows));
                cross_entropy::cross_entropy_grad(parts, x, stats, d, batch, out);
            }
            Op::LinearGrad { weight } => {
                let (parts, k) = matrix(weights, graph, weight)?;
                let (out, [dy]) = arena.io(plan.view(id), rows, [input(0)]);
                linear::linear_grad(parts, dy.mat(rows), k, out);
            }
            Op::RmsNormGrad { weight, eps } => {
                let w = vector(weights, graph, weight)?;
                let (out, [x, dy]) = arena.io(plan.view(id), rows, [input(0), input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rms_norm::rms_norm_grad(x.row(r), w, eps, dy.row(r), out);
                }
            }
            Op::GatedGrad { activation } => {
                let (out, [gate, up, dy]) = arena.io(plan.view(id), rows, [0, 1, 2].map(input));
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    gated::gated_grad(activation, gate.row(r), up.row(r), dy.row(r), out);
                }
            }
            Op::LoraUpGrad { lora } => {
                let (out, [dy]) = arena.io(plan.view(id), rows, [input(0)]);
                lora::lora_up_grad(graph.lora(lora), &params.values, dy.mat(rows), out);
            }
            Op::LoraDownGrad { lora } => {
                let (out, [du]) = arena.io(plan.view(id), rows, [input(0)]);
                lora::lora_down_grad(graph.lora(lora), &params.values, du.mat(rows), out);
            }
            Op::LoraGradA { lora } => {
                let [x, du] = [0, 1].map(|i| arena.read(input(i)).mat(rows));
                lora::lora_grad_a(graph.lora(lora), x, du, &mut params.grads);
            }
            Op::LoraGradB { lora } => {
                let [u, dy] = [0, 1].map(|i| arena.read(input(i)).mat(rows));
                lora::lora_grad_b(graph.lora(lora), u, dy, &mut params.grads);
            }
            Op::DoraGrad { lora } => {
                let (out, [dy]) = arena.io(plan.view(id), rows, [input(0)]);
                let factors = params.factors_of(graph, lora).ok_or_else(missing)?;
                dora::dora_grad(factors, dy.mat(rows), out);
            }
            Op::DoraGradM { lora, bias } => {
                let bias = bias.map(|b| vector(weights, graph, b)).transpose()?;
                let values = [0, 1].map(|i| arena.read(input(i)).mat(rows));
                let lora = graph.lora(lora);
                let dora = lora.dora.as_ref().ok_or_else(missing)?;
                dora::dora_grad_m(lora, dora, bias, &params.values, values, &mut params.grads);
            }
            Op::Concat => {
                let mut start = 0;
                for i in 0..node.inputs.len() {
                    let (out, [x]) = arena.io(plan.view(id), rows, [input(i)]);
                    for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                        out[start..start + x.cols].copy_from_slice(x.row(r));
                    }
                    start += x.cols;
                }
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }
}
