//! The ops of a forward pass.

use std::ops::Range;

use siskin_formats::decode;
use siskin_graph::{Batch, Graph, Node, NodeId, Op, Place, Rows, StepInput, View, WeightId};

use crate::arena::Arena;
use crate::ops::{
    activation, attention, choose, dora, experts, heads, layer_norm, linear, lora, rms_norm, rope,
    route,
};
use crate::params::Params;
use crate::plan::CpuPlan;
use crate::threads::each_chunk;
use crate::weights::{GraphWeights, Weights};
use crate::{CpuPart, Error, KvCache, Precision, Result};

/// What ops read and write.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub weights: Weights,
    pub caches: Vec<KvCache>,
    /// Recurrent states.
    pub states: Vec<Vec<f32>>,
    /// Which tokens are in each slot's sequence, a bit each.
    pub seen: Vec<Vec<u32>>,
    pub arena: Arena,
    /// The tokens that the last step chose.
    pub chosen: Vec<u32>,
    /// Decoded keys and values of one attention.
    pub scratch: Vec<f32>,
    pub params: Params,
}

/// What a run is about.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub tokens: &'a [u32],
    /// Each row's position in its sequence or text.
    pub positions: &'a [u32],
    pub precision: Precision,
    pub over: Over<'a>,
}

/// What rows belong to.
#[derive(Clone, Copy)]
pub(crate) enum Over<'a> {
    /// Sequences, which continue from step to step.
    Step(&'a StepInput),
    /// Whole texts, when training or embedding.
    Texts(&'a Batch),
}

impl Run<'_> {
    fn position(&self, row: usize) -> usize {
        self.positions[row] as usize
    }

    fn place(&self, place: Place, row: usize) -> usize {
        match place {
            Place::Position { offset } => self.position(row) + offset,
            Place::Kind => {
                let kind = self.texts().and_then(|b| b.kinds.get(row));
                kind.map_or(0, |kind| *kind as usize)
            }
        }
    }

    pub fn texts(&self) -> Option<&Batch> {
        match self.over {
            Over::Texts(batch) => Some(batch),
            Over::Step(_) => None,
        }
    }

    fn step(&self, op: Op) -> Result<&StepInput> {
        match self.over {
            Over::Step(step) => Ok(step),
            Over::Texts(_) => Err(Error::NotSequences(op.name())),
        }
    }
}

/// One node of a plan, and where its values are.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    plan: &'a CpuPlan,
    pub id: NodeId,
    pub node: &'a Node,
    pub graph: &'a Graph,
}

impl<'a> At<'a> {
    pub fn new(plan: &'a CpuPlan, id: NodeId) -> Self {
        Self {
            plan,
            id,
            node: plan.graph.node(id),
            graph: &plan.graph,
        }
    }

    pub fn out(&self) -> View {
        self.plan.view(self.id)
    }

    pub fn input(&self, i: usize) -> View {
        self.plan.view(self.node.inputs[i])
    }

    /// The last of one or two inputs.
    fn last_input(&self) -> View {
        self.input(self.node.inputs.len() - 1)
    }

    pub fn weights(&self, all: &'a Weights) -> GraphWeights<'a> {
        all.of(self.graph, self.plan.places())
    }

    pub fn rows(&self, run: Run<'_>) -> usize {
        match self.node.rows {
            Rows::All => run.tokens.len(),
            Rows::Last => match run.over {
                Over::Step(step) => step.samples(),
                Over::Texts(_) => 1,
            },
            Rows::Segments => run.texts().map_or(1, |b| b.segments().count()),
        }
    }
}

/// Decodes one row of a matrix; `None` if it has fewer.
pub(crate) fn decode_row(parts: &[CpuPart], mut row: usize, out: &mut [f32]) -> Option<()> {
    let part = parts.iter().find(|p| {
        let here = row < p.rows;
        row -= if here { 0 } else { p.rows };
        here
    })?;
    decode(part.ty, part.row(row), out);
    Some(())
}

impl State {
    pub fn run_node(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let (graph, node, rows) = (at.graph, at.node, at.rows(run));
        let tokens = run.tokens;
        let Self {
            weights,
            arena,
            seen,
            chosen,
            ..
        } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::Slice { .. } => {}
            Op::Embed {
                table,
                scale,
                is_open,
            } => {
                let (parts, cols) = weights.matrix(table)?;
                let (out, []) = arena.io(at.out(), rows, []);
                for (token, out) in tokens.iter().zip(out.chunks_exact_mut(cols)) {
                    let vocab = graph.weight(table).rows();
                    let row = Some(*token as usize).filter(|id| !is_open || *id < vocab);
                    let row = decode_row(parts, row.unwrap_or(0), out);
                    row.ok_or(Error::Token { id: *token, vocab })?;
                    out.iter_mut().for_each(|v| *v *= scale);
                }
            }
            Op::EmbedPlace { table, place } => {
                let (parts, cols) = weights.matrix(table)?;
                let (out, []) = arena.io(at.out(), rows, []);
                for (t, out) in out.chunks_exact_mut(cols).enumerate() {
                    let row = run.place(place, t);
                    decode_row(parts, row, out).ok_or(Error::Place {
                        row,
                        rows: graph.weight(table).rows(),
                    })?;
                }
            }
            Op::RmsNorm { weight, eps } => {
                let w = weights.vector(weight)?;
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rms_norm::rms_norm(x.row(r), w, eps, out);
                }
            }
            Op::LayerNorm { weight, bias, eps } => {
                let w = weights.vector(weight)?;
                let bias = bias.map(|b| weights.vector(b)).transpose()?;
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    layer_norm::layer_norm(x.row(r), w, bias, eps, out);
                }
            }
            Op::Map { map } => {
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    activation::map(map, x.row(r), out);
                }
            }
            Op::ScaleColumns { weight } => {
                let w = weights.vector(weight)?;
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    let values = out.iter_mut().zip(x.row(r)).zip(w.iter().cycle());
                    values.for_each(|((out, x), w)| *out = x * w);
                }
            }
            Op::JoinHeads { spec } => {
                let views = [at.input(0), at.last_input()];
                let (out, [x, y]) = arena.io(at.out(), rows, views);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    heads::join_heads(&spec, [x.row(r), y.row(r)], out);
                }
            }
            Op::Linear { weight, bias } => {
                let (parts, k) = weights.matrix(weight)?;
                let bias = bias.map(|b| weights.vector(b)).transpose()?;
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                linear::linear(parts, bias, x.dense(rows), k, run.precision, out);
            }
            Op::Route { .. } | Op::ExpertUp { .. } | Op::ExpertDown { .. } => {
                self.run_experts(at, run)?;
            }
            Op::Add => {
                let (out, [a, b]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    out.iter_mut()
                        .zip(a.row(r))
                        .zip(b.row(r))
                        .for_each(|((o, a), b)| *o = a + b);
                }
            }
            Op::Gated { activation } => {
                let (out, [gate, up]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                each_chunk(out, node.cols, |r, out| {
                    activation::gated(activation, gate.row(r), up.row(r), out);
                });
            }
            Op::RowGate => {
                let (out, [x, g]) = arena.io(at.out(), rows, [at.input(0), at.input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    activation::row_gate(x.row(r), g.row(r)[0], out);
                }
            }
            Op::LastRow => {
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                let sampled = run.step(node.op)?.sampled();
                for (s, out) in sampled.zip(out.chunks_exact_mut(node.cols)) {
                    out.copy_from_slice(x.row(s.row));
                }
            }
            Op::Choose => {
                let logits = arena.read(at.input(0));
                let sampled: Vec<_> = run.step(node.op)?.sampled().collect();
                chosen.resize(sampled.len(), 0);
                each_chunk(chosen, 1, |i, chosen| {
                    let s = &sampled[i];
                    chosen[0] = choose::choose(logits.row(i), &seen[s.slot], s);
                });
            }
            Op::Rope { .. } | Op::KvAppend { .. } | Op::Attention { .. } => {
                self.run_attention(at, run)?;
            }
            Op::CausalConv { .. } | Op::DeltaRule { .. } | Op::SelectiveScan { .. } => {
                self.run_recurrent(at, run)?;
            }
            Op::Mix { .. } | Op::Rescale { .. } | Op::GaussianTopK { .. } => {
                self.run_streams(at, run)?;
            }
            Op::LoraDown { .. } | Op::LoraUp { .. } | Op::Dora { .. } => {
                self.run_adapter(at, run)?;
            }
            _ => self.run_batch_node(at, run)?,
        }
        Ok(())
    }

    /// Rope, the cache and what reads it.
    fn run_attention(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let (node, rows) = (at.node, at.rows(run));
        let Self {
            weights,
            arena,
            caches,
            scratch,
            ..
        } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::Rope { spec, back } => {
                let turn = rope::Turn {
                    inv_freq: weights.vector(spec.inv_freq)?,
                    head_dim: spec.head_dim,
                    pairs: spec.pairs,
                    scale: spec.scale,
                    back,
                };
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rope::rope(x.row(r), turn, run.position(r), out);
                }
            }
            Op::KvAppend { cache } => {
                let (k, v) = (arena.read(at.input(0)), arena.read(at.input(1)));
                let sequences = run.step(node.op)?.sequences.iter();
                let cache = &mut caches[cache.0];
                let of_rows = sequences.flat_map(|s| std::iter::repeat_n(s, s.rows));
                for (r, sequence) in of_rows.enumerate() {
                    let blocks = cache.blocks(sequence);
                    cache.write(blocks, run.position(r), k.row(r), v.row(r));
                }
            }
            Op::Attention { cache, spec } => {
                let sinks = spec.sinks.map(|s| weights.vector(s)).transpose()?;
                let (out, [q]) = arena.io(at.out(), rows, [at.input(0)]);
                let (q, cache) = (q.mat(rows), &caches[cache.0]);
                let sequences = &run.step(node.op)?.sequences;
                attention::attention(&spec, sinks, q, cache, sequences, scratch, out);
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }

    /// The choice of experts, and what they compute.
    fn run_experts(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let (node, rows) = (at.node, at.rows(run));
        let Self { weights, arena, .. } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::Route { spec } => {
                let vector = |v: Option<WeightId>| v.map(|v| weights.vector(v)).transpose();
                let vectors = [vector(spec.bias)?, vector(spec.expert_scales)?];
                let (out, [logits]) = arena.io(at.out(), rows, [at.input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    route::route(&spec, vectors, logits.row(r), out);
                }
            }
            Op::ExpertUp {
                experts,
                projections,
            } => {
                let m = weights.experts(&experts)?;
                let (out, views) = arena.io(at.out(), rows, [0, 1].map(|i| at.input(i)));
                let [x, route] = views.map(|v| v.mat(rows));
                experts::expert_up(m, projections, x, route, run.precision, out);
            }
            Op::ExpertDown { experts } => {
                let m = weights.experts(&experts)?;
                let (out, views) = arena.io(at.out(), rows, [0, 1].map(|i| at.input(i)));
                let [h, route] = views.map(|v| v.mat(rows));
                experts::expert_down(m, h, route, run.precision, out);
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }

    /// An adapter's part of a linear, in the rows that it is for.
    fn run_adapter(&mut self, at: At<'_>, run: Run<'_>) -> Result<()> {
        let (graph, node, rows) = (at.graph, at.node, at.rows(run));
        let (Op::LoraDown { lora } | Op::LoraUp { lora } | Op::Dora { lora, .. }) = node.op else {
            return Err(Error::NotTraining(node.op.name()));
        };
        let adapted = match graph.lora(lora).adapter {
            Some(adapter) => run.step(node.op)?.rows_with(adapter, node.rows),
            None => vec![Range {
                start: 0,
                end: rows,
            }],
        };
        let within = |r: &Range<usize>| r.start * node.cols..r.end * node.cols;
        let Self {
            weights,
            arena,
            params,
            ..
        } = self;
        let weights = at.weights(weights);
        match node.op {
            Op::LoraDown { lora } => {
                let (out, [x]) = arena.io(at.out(), rows, [at.input(0)]);
                for r in adapted {
                    let x = x.mat(rows).rows(r.start, r.len());
                    let out = &mut out[within(&r)];
                    lora::lora_down(graph.lora(lora), &params.values, x, out);
                }
            }
            Op::LoraUp { lora } => {
                // The base is where the result will be.
                let (out, [u]) = arena.io(at.out(), rows, [at.input(1)]);
                for r in adapted {
                    let u = u.mat(rows).rows(r.start, r.len());
                    let out = &mut out[within(&r)];
                    lora::lora_up(graph.lora(lora), &params.values, u, node.cols, out);
                }
            }
            Op::Dora { lora, bias } => {
                let bias = bias.map(|b| weights.vector(b)).transpose()?;
                let (out, []) = arena.io(at.out(), rows, []);
                let factors = params.factors_of(graph, lora);
                let factors = factors.ok_or(Error::NotTraining("dora"))?;
                for r in adapted {
                    dora::dora(factors, bias, &mut out[within(&r)]);
                }
            }
            op => return Err(Error::NotTraining(op.name())),
        }
        Ok(())
    }
}
