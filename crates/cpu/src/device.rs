use std::collections::HashMap;

use siskin_formats::decode;
use siskin_graph::{Graph, NodeId, Op, Plan, Rows, Sampling, WeightId};

use crate::arena::Arena;
use crate::ops::{attention, choose, gated, linear, rms_norm, rope};
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
    weights: HashMap<String, CpuWeight>,
    caches: Vec<KvCache>,
    context: usize,
    seen: Vec<u32>,
    arena: Arena,
    chosen: u32,
    last_rows: usize,
    /// Decoded keys and values of one attention.
    scratch: Vec<f32>,
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
        self.mark_seen(tokens);
        self.last_rows = rows;
        self.arena.reserve(plan.arena_len);
        for step in &plan.steps {
            for id in step.nodes() {
                if !head && plan.graph.node(id).rows == Rows::Last {
                    return Ok(());
                }
                self.run_node(plan, id, tokens, position, sampling)?;
            }
        }
        Ok(())
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

    fn run_node(
        &mut self,
        plan: &Plan,
        id: NodeId,
        tokens: &[u32],
        position: usize,
        sampling: &Sampling,
    ) -> Result<()> {
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
            Op::Rope { inv_freq, .. } => {
                let inv_freq = vector(weights, graph, inv_freq)?;
                let (out, [x]) = arena.io(plan.view(id), rows, [input(0)]);
                for (r, out) in out.chunks_exact_mut(node.cols).enumerate() {
                    rope::rope(x.row(r), inv_freq, position + r, out);
                }
            }
            Op::KvAppend { cache } => {
                let (k, v) = (arena.read(input(0)), arena.read(input(1)));
                (0..rows).for_each(|r| caches[cache.0].write(position + r, k.row(r), v.row(r)));
            }
            Op::Attention { cache, spec } => {
                let (out, [q]) = arena.io(plan.view(id), rows, [input(0)]);
                attention::attention(
                    &spec,
                    |r| q.row(r),
                    &caches[cache.0],
                    position,
                    scratch,
                    out,
                );
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
        }
        Ok(())
    }
}

fn matrix<'a>(
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

fn vector<'a>(
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
