use std::collections::HashMap;

use siskin_formats::decode;
use siskin_graph::{Batch, Graph, NodeId, Op, Plan, Rows, Sampling, WeightId};

use crate::arena::Arena;
use crate::ops::{attention, choose, dora, gated, linear, lora, rms_norm, rope};
use crate::threads::within;
use crate::train::Params;
use crate::{CacheType, CpuWeight, Error, KvCache, Result};

/// How a linear over quantised weights is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout: the oracle.
    F32,
    /// 16-bit integer activations where a step has few tokens.
    Fast,
}

/// Weights and caches in memory, and the ops over them.
#[derive(Debug)]
pub struct CpuDevice {
    pub precision: Precision,
    pub(crate) weights: HashMap<String, CpuWeight>,
    caches: Vec<KvCache>,
    context: usize,
    seen: Vec<u32>,
    pub(crate) arena: Arena,
    chosen: u32,
    last_rows: usize,
    /// Decoded keys and values of one attention.
    pub(crate) scratch: Vec<f32>,
    pub(crate) params: Params,
}

/// What a run is about.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub tokens: &'a [u32],
    pub position: usize,
    pub sampling: &'a Sampling,
    /// When training.
    pub batch: Option<&'a Batch>,
}

impl Run<'_> {
    fn position(&self, row: usize) -> usize {
        self.batch
            .map_or(self.position + row, |b| b.positions[row] as usize)
    }
}

impl CpuDevice {
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            weights: HashMap::new(),
            caches: vec![],
            context: 0,
            seen: vec![],
            arena: Arena::default(),
            chosen: 0,
            last_rows: 0,
            scratch: vec![],
            params: Params::default(),
        }
    }

    pub fn add_weight(&mut self, name: &str, weight: CpuWeight) {
        self.weights.insert(name.into(), weight);
    }

    /// Empty caches for `context` tokens.
    pub fn set_context(&mut self, graph: &Graph, context: usize, ty: CacheType) {
        self.context = context;
        self.caches = graph
            .caches
            .iter()
            .map(|c| KvCache::new(*c, context, ty))
            .collect();
    }

    /// Bytes of weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.values().map(CpuWeight::bytes).sum()
    }

    /// Says which tokens stand in the context, for the repeat penalty.
    pub fn set_seen(&mut self, tokens: &[u32]) {
        self.seen.clear();
        self.mark_seen(tokens);
    }

    fn mark_seen(&mut self, tokens: &[u32]) {
        for id in tokens {
            let word = *id as usize / 32;
            if self.seen.len() <= word {
                self.seen.resize(word + 1, 0);
            }
            self.seen[word] |= 1 << (id % 32);
        }
    }

    /// Runs the plan for `tokens`, the first of them at `position`. Without `head`, stops before
    /// the steps for the last row alone.
    ///
    /// # Errors
    /// If the tokens do not fit the context, or a weight is missing.
    pub fn run(
        &mut self,
        plan: &Plan,
        tokens: &[u32],
        position: usize,
        sampling: &Sampling,
        head: bool,
    ) -> Result<()> {
        let rows = tokens.len();
        if rows > plan.max_rows || (!plan.graph.caches.is_empty() && position + rows > self.context)
        {
            return Err(Error::ContextFull {
                rows,
                position,
                context: self.context,
            });
        }
        self.refresh_factors(&plan.graph)?;
        self.mark_seen(tokens);
        self.last_rows = rows;
        self.arena.reserve(plan.arena_len);
        let run = Run {
            tokens,
            position,
            sampling,
            batch: None,
        };
        within(|| {
            for step in &plan.steps {
                for id in step.nodes() {
                    if !head && plan.graph.node(id).rows == Rows::Last {
                        return Ok(());
                    }
                    self.run_node(plan, id, run)?;
                }
            }
            Ok(())
        })
    }

    /// The token that the last run chose.
    pub fn chosen(&self) -> u32 {
        self.chosen
    }

    /// How many tokens the last run had.
    pub fn last_rows(&self) -> usize {
        self.last_rows
    }

    /// A value of the last run, which had `rows` tokens.
    pub fn read(&self, plan: &Plan, id: NodeId, rows: usize) -> Vec<f32> {
        let rows = if plan.graph.node(id).rows == Rows::Last {
            1
        } else {
            rows
        };
        let value = self.arena.read(plan.view(id));
        (0..rows).flat_map(|r| value.row(r)).copied().collect()
    }

    pub(crate) fn run_node(&mut self, plan: &Plan, id: NodeId, run: Run<'_>) -> Result<()> {
        let Run {
            tokens,
            position,
            sampling,
            ..
        } = run;
        let graph = &plan.graph;
        let node = graph.node(id);
        let rows = if node.rows == Rows::Last {
            1
        } else {
            tokens.len()
        };
        let Self {
            weights,
            arena,
            caches,
            scratch,
            params,
            ..
        } = self;
        let input = |i: usize| plan.view(node.inputs[i]);
        match node.op {
            Op::Slice { .. } => {}
            Op::Embed { table, scale } => {
                let (parts, cols) = matrix(weights, graph, table)?;
                let (out, []) = arena.io(plan.view(id), rows, []);
                for (token, out) in tokens.iter().zip(out.chunks_exact_mut(cols)) {
                    let mut row = *token as usize;
                    let vocab = graph.weight(table).rows();
                    let part = parts.iter().find(|p| {
                        let here = row < p.rows;
                        row -= if here { 0 } else { p.rows };
                        here
                    });
                    let part = part.ok_or(Error::Token { id: *token, vocab })?;
                    decode(part.ty, part.row(row), out);
                    out.iter_mut().for_each(|v| *v *= scale);
                }
            }
            Op::RmsNorm { weight, eps } => {
                let w = vector(weights, graph, weight)?;
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rms_norm::rms_norm(x.row(r), w, eps, out);
                }
            }
            Op::Linear { weight, bias } => {
                let (parts, k) = matrix(weights, graph, weight)?;
                let bias = bias.map(|b| vector(weights, graph, b)).transpose()?;
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                linear::linear(parts, bias, x.dense(rows), k, self.precision, out);
            }
            Op::Rope { inv_freq, back, .. } => {
                let inv_freq = vector(weights, graph, inv_freq)?;
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rope::rope(x.row(r), inv_freq, run.position(r), back, out);
                }
            }
            Op::KvAppend { cache } => {
                let (k, v) = (arena.read(input(0)), arena.read(input(1)));
                (0..rows).for_each(|r| caches[cache.0].write(position + r, k.row(r), v.row(r)));
            }
            Op::Attention { cache, spec } => {
                let (out, [q]) = arena.io(plan.view(id), rows, [input(0)]);
                attention::attention(&spec, q.mat(rows), &caches[cache.0], position, scratch, out);
            }
            Op::Add => {
                let (out, [a, b]) = arena.io(plan.view(id), rows, [input(0), input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    out.iter_mut()
                        .zip(a.row(r))
                        .zip(b.row(r))
                        .for_each(|((o, a), b)| *o = a + b);
                }
            }
            Op::Gated { activation } => {
                let (out, [gate, up]) = arena.io(plan.view(id), rows, [input(0), input(1)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    gated::gated(activation, gate.row(r), up.row(r), out);
                }
            }
            Op::LastRow => {
                let (out, [x]) = arena.io(plan.view(id), 1, [input(0)]);
                out.copy_from_slice(x.row(tokens.len() - 1));
            }
            Op::Choose => {
                let logits = arena.read(input(0));
                let next = position + tokens.len();
                self.chosen = choose::choose(logits.row(0), &self.seen, sampling, next);
            }
            Op::LoraDown { lora } => {
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                lora::lora_down(graph.lora(lora), &params.values, x.mat(rows), out);
            }
            Op::LoraUp { lora } => {
                // The base stands where the result does.
                let (out, [u]) = arena.io(plan.view(id), rows, [input(1)]);
                lora::lora_up(
                    graph.lora(lora),
                    &params.values,
                    u.mat(rows),
                    node.cols,
                    out,
                );
            }
            Op::Dora { lora, bias } => {
                let bias = bias.map(|b| vector(weights, graph, b)).transpose()?;
                let (out, []) = arena.io(plan.view(id), rows, []);
                let factors = params.factors_of(graph, lora);
                let factors = factors.ok_or(Error::NotTraining("dora"))?;
                dora::dora(factors, bias, out);
            }
            _ => self.run_training_node(plan, id, run)?,
        }
        Ok(())
    }
}

pub(crate) fn matrix<'a>(
    weights: &'a HashMap<String, CpuWeight>,
    graph: &Graph,
    id: WeightId,
) -> Result<(&'a [crate::CpuPart], usize)> {
    let name = &graph.weight(id).name;
    match weights.get(name) {
        Some(CpuWeight::Matrix { parts, cols }) => Ok((parts, *cols)),
        _ => Err(Error::MissingWeight(name.clone())),
    }
}

pub(crate) fn vector<'a>(
    weights: &'a HashMap<String, CpuWeight>,
    graph: &'a Graph,
    id: WeightId,
) -> Result<&'a [f32]> {
    let weight = graph.weight(id);
    match (&weight.kind, weights.get(&weight.name)) {
        (siskin_graph::WeightKind::Constant(values), _) => Ok(values),
        (_, Some(CpuWeight::Vector(values))) => Ok(values),
        _ => Err(Error::MissingWeight(weight.name.clone())),
    }
}
