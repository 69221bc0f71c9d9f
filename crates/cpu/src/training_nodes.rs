//! The ops that only training has.

use siskin_graph::{Op, dropout_factor};

use crate::nodes::{At, Run, State};
use crate::ops::{
    activation, cross_entropy, dora, experts, layer_norm, linear, lora, rms_norm, route,
    self_attention,
};
use crate::{Error, Result};

impl State {
    pub fn run_training_node(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let node = at.node;
        let batch = run.texts().ok_or(Error::NotTraining(node.op.name()))?;
        let rows = batch.rows();
        let Self {
            weights,
            arena,
            scratch,
            ..
        } = self;
        let weights = at.weights(weights);
        let segments = || batch.segments().collect::<Vec<_>>();
        match node.op {
            Op::Dropout { p, salt } => {
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    for ((c, out), x) in out.iter_mut().enumerate().zip(x.row(r)) {
                        let index = (r * node.cols + c) as u32;
                        *out = x * dropout_factor(p, batch.seed, salt, index);
                    }
                }
            }
            Op::SelfAttentionGrad { spec } => {
                let sinks = spec.sinks.map(|s| weights.vector(s)).transpose()?;
                let views = [0, 1, 2, 3, 4].map(|i| at.input(i));
                let (out, values) = arena.io(at.out(), rows, views);
                let values = values.map(|v| v.mat(rows));
                self_attention::self_attention_grad(
                    &spec,
                    sinks,
                    &segments(),
                    values,
                    scratch,
                    out,
                );
            }
            Op::CrossEntropy { weight, soft_cap } => {
                let (parts, d) = weights.matrix(weight)?;
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                let head = cross_entropy::Head { parts, d, soft_cap };
                cross_entropy::cross_entropy(head, x.mat(rows), batch, out);
            }
            Op::CrossEntropyGrad { weight, soft_cap } => {
                let (parts, d) = weights.matrix(weight)?;
                let (out, [x, stats]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                let (x, stats) = (x.mat(rows), stats.mat(rows));
                let head = cross_entropy::Head { parts, d, soft_cap };
                cross_entropy::cross_entropy_grad(head, x, stats, batch, out);
            }
            Op::LinearGrad { weight } => {
                let (parts, k) = weights.matrix(weight)?;
                let (out, [dy]) = arena.io(at.out(), rows, [at.input(0)]);
                linear::linear_grad(parts, dy.mat(rows), k, out);
            }
            Op::RmsNormGrad { weight, eps } => {
                let w = weights.vector(weight)?;
                let (out, [x, dy]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rms_norm::rms_norm_grad(x.row(r), w, eps, dy.row(r), out);
                }
            }
            Op::LayerNormGrad { weight, eps } => {
                let w = weights.vector(weight)?;
                let (out, [x, dy]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    layer_norm::layer_norm_grad(x.row(r), w, eps, dy.row(r), out);
                }
            }
            Op::MapGrad { map } => {
                let (out, [x, dy]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    activation::map_grad(map, x.row(r), dy.row(r), out);
                }
            }
            Op::GatedGrad { activation } => {
                let (out, [gate, up, dy]) =
                    arena.io(at.out(), rows, [0, 1, 2].map(|i| at.input(i)));
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    activation::gated_grad(activation, gate.row(r), up.row(r), dy.row(r), out);
                }
            }
            Op::RowGateGrad => {
                let (out, [x, g, dy]) = arena.io(at.out(), rows, [0, 1, 2].map(|i| at.input(i)));
                for (r, out) in out.iter_mut().enumerate() {
                    *out = activation::row_gate_grad(x.row(r), g.row(r)[0], dy.row(r));
                }
            }
            Op::RouteGrad { .. } | Op::ExpertUpGrad { .. } | Op::ExpertDownGrad { .. } => {
                self.run_expert_grad(at, rows)?;
            }
            Op::Concat => {
                let mut start = 0;
                for i in 0..node.inputs.len() {
                    let (out, [x]) = arena.io(at.out(), rows, [at.input(i)]);
                    for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                        out[start..start + x.cols].copy_from_slice(x.row(r));
                    }
                    start += x.cols;
                }
            }
            _ => self.run_adapter_grad(at, rows)?,
        }
        Ok(())
    }

    /// Gradients of the choice of experts, and of what they compute.
    fn run_expert_grad(&mut self, at: At<'_>, rows: usize) -> Result<()> {
        let node = at.node;
        let Self { weights, arena, .. } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::RouteGrad { spec } => {
                let views = [0, 1, 2].map(|i| at.input(i));
                let (out, [logits, route, dy]) = arena.io(at.out(), rows, views);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    route::route_grad(&spec, logits.row(r), route.row(r), dy.row(r), out);
                }
            }
            Op::ExpertUpGrad {
                experts,
                projections,
            } => {
                let m = weights.experts(&experts)?;
                let (out, views) = arena.io(at.out(), rows, [0, 1].map(|i| at.input(i)));
                let [route, dy] = views.map(|v| v.mat(rows));
                experts::expert_up_grad(m, projections, route, dy, out);
            }
            Op::ExpertDownGrad { experts } => {
                let m = weights.experts(&experts)?;
                let views = [0, 1, 2].map(|i| at.input(i));
                let (out, views) = arena.io(at.out(), rows, views);
                let [h, route, dy] = views.map(|v| v.mat(rows));
                experts::expert_down_grad(m, h, route, dy, out);
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }

    /// Gradients of an adapter's part of a linear.
    fn run_adapter_grad(&mut self, at: At<'_>, rows: usize) -> Result<()> {
        let (graph, node) = (at.graph, at.node);
        let missing = || Error::NotTraining(node.op.name());
        let Self {
            weights,
            arena,
            params,
            ..
        } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::LoraUpGrad { lora } => {
                let (out, [dy]) = arena.io(at.out(), rows, [at.input(0)]);
                lora::lora_up_grad(graph.lora(lora), &params.values, dy.mat(rows), out);
            }
            Op::LoraDownGrad { lora } => {
                let (out, [du]) = arena.io(at.out(), rows, [at.input(0)]);
                lora::lora_down_grad(graph.lora(lora), &params.values, du.mat(rows), out);
            }
            Op::LoraGradA { lora } => {
                let [x, du] = [0, 1].map(|i| arena.read(at.input(i)).mat(rows));
                lora::lora_grad_a(graph.lora(lora), x, du, &mut params.grads);
            }
            Op::LoraGradB { lora } => {
                let [u, dy] = [0, 1].map(|i| arena.read(at.input(i)).mat(rows));
                lora::lora_grad_b(graph.lora(lora), u, dy, &mut params.grads);
            }
            Op::DoraGrad { lora } => {
                let (out, [dy]) = arena.io(at.out(), rows, [at.input(0)]);
                let factors = params.factors_of(graph, lora).ok_or_else(missing)?;
                dora::dora_grad(factors, dy.mat(rows), out);
            }
            Op::DoraGradM { lora, bias } => {
                let bias = bias.map(|b| weights.vector(b)).transpose()?;
                let values = [0, 1].map(|i| arena.read(at.input(i)).mat(rows));
                let lora = graph.lora(lora);
                let dora = lora.dora.as_ref().ok_or_else(missing)?;
                dora::dora_grad_m(lora, dora, bias, &params.values, values, &mut params.grads);
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }
}
