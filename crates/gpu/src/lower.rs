//! Lowers a plan's steps to dispatches: which kernel, which constants, which bindings.

#[cfg(feature = "training")]
use std::collections::HashMap;

use siskin_graph::{Activation, Graph, Map, NodeId, Op, Place, Plan, Rows, Step, View, WeightId};

use crate::pipeline::Kernel;
use crate::prepared::{Choosing, Dispatch, Prepared, Size};
use crate::step::ADDED;
use crate::weights::{GpuWeight, Run};
use crate::{Error, GpuDevice, Reduce, Result};

mod attention;
mod dora;
mod experts;
mod linear;
mod lora;
#[cfg(feature = "training")]
mod loss;
mod recurrent;
mod streams;
mod texts;
#[cfg(feature = "training")]
mod train;

/// Blocks of 32 columns decide how many threads share a row.
fn threads_for(blocks: usize) -> usize {
    blocks.next_power_of_two().clamp(32, 128)
}

/// A bound range of a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
}

/// What a dispatch binds, by binding.
pub(crate) type Bindings = Vec<(u32, Bound)>;

/// What lib/activation.wgsl calls an activation.
fn code(activation: Activation) -> u8 {
    match activation {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
        Activation::Gelu => 2,
        Activation::Relu => 3,
        Activation::Relu2 => 4,
        Activation::Sigmoid => 5,
        Activation::Identity => 6,
        Activation::ClampedSilu => 7,
    }
}

/// The constants of lib/map.wgsl.
fn map_constants(kernel: Kernel, map: Map, x: View) -> Kernel {
    let kernel = kernel
        .size("N", x.cols)
        .size("STRIDE", x.stride)
        .size("START", x.start);
    match map {
        Map::Activation(activation) => kernel.set("MAP", 0u8).set("ACTIVATION", code(activation)),
        Map::Scale(by) => kernel.set("MAP", 1u8).set("BY", by),
        Map::SoftCap(cap) => kernel.set("MAP", 2u8).set("BY", cap),
        Map::ExpExcess => kernel.set("MAP", 3u8),
    }
}

impl From<wgpu::Buffer> for Bound {
    fn from(buffer: wgpu::Buffer) -> Self {
        let bytes = buffer.size();
        Self {
            buffer,
            offset: 0,
            bytes,
        }
    }
}

struct Lowering<'a> {
    device: &'a mut GpuDevice,
    plan: &'a Plan,
    /// Whether it runs over batches of texts, whose rows have positions of their own.
    is_batch: bool,
    arena: wgpu::Buffer,
    /// Integer activations and their scales, where a kernel needs them in advance.
    scratch: Option<(wgpu::Buffer, wgpu::Buffer)>,
    /// Partial results of the splits of an attention, until they are combined.
    splits: Option<wgpu::Buffer>,
    /// Buffers that training keeps from one dispatch to the next, by name.
    #[cfg(feature = "training")]
    between: HashMap<&'static str, wgpu::Buffer>,
    dispatches: Vec<Dispatch>,
    choosing: Option<Choosing>,
    /// Of the node that is being lowered.
    adapter: Option<u32>,
}

impl GpuDevice {
    /// Pipelines and bind groups for every step of the plan.
    pub(crate) fn lower(&mut self, plan: Plan, is_batch: bool) -> Result<Prepared> {
        let arena = self.storage("activations", plan.arena_bytes())?;
        let mut lowering = Lowering {
            device: self,
            plan: &plan,
            is_batch,
            arena: arena.clone(),
            scratch: None,
            splits: None,
            #[cfg(feature = "training")]
            between: HashMap::new(),
            dispatches: vec![],
            choosing: None,
            adapter: None,
        };
        let mut after_output = 0;
        for step in &plan.steps {
            lowering.step(step)?;
            if plan.graph.outputs.first() == Some(&step.result()) {
                after_output = lowering.dispatches.len();
            }
        }
        let factors = lowering.factors()?;
        let Lowering {
            dispatches,
            choosing,
            ..
        } = lowering;
        Ok(Prepared {
            plan,
            arena,
            factors,
            dispatches,
            after_output,
            choosing,
        })
    }

    /// Whether all rows of a matrix are bound at once, so that gate and up can be.
    pub(crate) fn is_one_run(&self, graph: &Graph, weight: WeightId) -> bool {
        let weight = self.weights.get(&graph.weight(weight).name);
        matches!(weight, Some(GpuWeight::Matrix { runs, .. }) if runs.len() == 1)
    }
}

impl Lowering<'_> {
    fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    fn runs(&self, id: WeightId) -> Result<(Vec<Run>, usize)> {
        let name = &self.graph().weight(id).name;
        match self.device.weights.get(name) {
            Some(GpuWeight::Matrix { runs, cols }) => Ok((runs.clone(), *cols)),
            _ => Err(Error::MissingWeight(name.clone())),
        }
    }

    /// A vector's buffer; for none, a placeholder that the kernel does not read.
    fn vector(&self, id: Option<WeightId>) -> Result<Bound> {
        let Some(id) = id else {
            return Ok(self.device.nothing.clone().into());
        };
        let name = &self.graph().weight(id).name;
        match self.device.weights.get(name) {
            Some(GpuWeight::Vector(buffer)) => Ok(buffer.clone().into()),
            _ => Err(Error::MissingWeight(name.clone())),
        }
    }

    fn max_rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Last => self.plan.max_samples,
            Rows::All | Rows::Segments => self.plan.max_rows,
        }
    }

    fn bound(&self, view: View) -> Bound {
        let bytes = (self.max_rows(view.rows) * view.stride) as u64 * 4;
        Bound {
            buffer: self.arena.clone(),
            offset: view.offset as u64 * 4,
            bytes,
        }
    }

    /// The uniform of a kernel over values that have these rows.
    fn step_uniform(&self, rows: Rows) -> Bound {
        match rows {
            Rows::Last => self.device.last_step.clone().into(),
            Rows::All | Rows::Segments => self.device.step.clone().into(),
        }
    }

    fn input(&self, node: NodeId, i: usize) -> View {
        self.plan.view(self.graph().node(node).inputs[i])
    }

    fn reduce(&self) -> Reduce {
        self.device.profile.reduce
    }

    /// A kernel whose `threads` reduce together.
    fn reducing(&self, name: &'static str, threads: usize) -> Kernel {
        let mut kernel = Kernel::new(name).size("WG", threads);
        kernel.variant.reduce = self.reduce();
        kernel
    }

    /// Queues a dispatch that reads and writes `bytes` per run, and binds `entries`.
    fn push(
        &mut self,
        kernel: &Kernel,
        size: Size,
        rows: Rows,
        bytes: u64,
        entries: &[(u32, Bound)],
    ) -> Result<&mut Dispatch> {
        let pipeline = self.device.opened.pipeline(kernel)?;
        let bind_group = self.device.bind_group(&pipeline, entries);
        let kernel = kernel.clone();
        let dispatch = Dispatch {
            kernel,
            pipeline,
            bind_group,
            size,
            bytes,
            rows,
            adapter: self.adapter,
            kv: None,
        };
        self.dispatches.push(dispatch);
        let last = self.dispatches.len() - 1;
        Ok(&mut self.dispatches[last])
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Linear {
                linear,
                norm,
                residual,
                gated,
            } => {
                let out = self.plan.view(step.result());
                match self.graph().node(linear).op {
                    Op::ExpertUp { .. } => self.expert_up(out, linear, gated),
                    Op::ExpertDown { .. } => self.expert_down(out, linear, residual.is_some()),
                    _ => self.linear(out, linear, norm, residual.is_some(), gated),
                }
            }
            Step::NormAdd { norm, add } => self.rms_norm(norm, self.plan.view(add), true),
            Step::RopeAppend {
                q_norm,
                q_rope,
                k_norm,
                k_rope,
                append,
                attention,
            } => self.rope_append([q_norm, k_norm], [q_rope, k_rope], append, attention),
            Step::Single(id) => self.single(id),
        }
    }

    fn single(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id).clone();
        let n = node.cols;
        let bytes = (self.max_rows(node.rows) * n) as u64 * 4;
        let groups = n.div_ceil(64) as u32;
        match node.op {
            Op::Embed {
                table,
                scale,
                is_open,
            } => {
                let tokens = self.device.tokens.clone();
                let known = self.graph().weight(table).rows();
                let is_seen = !self.is_batch;
                let words = self.device.seen_words;
                let of_token = |k: Kernel| {
                    let k = k.set("SCALE", scale).flag("IS_SEEN", is_seen);
                    let k = k.size("SEEN", words);
                    match is_open {
                        true => k.size("KNOWN", known),
                        false => k,
                    }
                };
                self.embed(id, table, tokens, of_token)
            }
            Op::EmbedPlace { table, place } => {
                let (buffer, offset) = match place {
                    Place::Position { offset } => (&self.device.batch.positions, offset),
                    Place::Kind => (&self.device.batch.kinds, 0),
                };
                let is_position = matches!(place, Place::Position { .. }) && !self.is_batch;
                let of_place =
                    |k: Kernel| k.flag("IS_POSITION", is_position).size("OFFSET", offset);
                self.embed(id, table, buffer.clone(), of_place)
            }
            Op::RmsNorm { .. } => self.rms_norm(id, self.plan.view(id), false),
            Op::LayerNorm { weight, bias, eps } => self.layer_norm(id, weight, bias, eps),
            Op::Map { map } => self.map(id, map),
            Op::ScaleColumns { weight } => self.scale_columns(id, weight),
            Op::JoinHeads { spec } => self.join_heads(id, &spec),
            Op::Rope { spec, back } => self.rope(id, spec.head_dim, back),
            Op::KvAppend { cache } => self.kv_append(id, cache),
            Op::Attention { .. } => self.attention(id),
            Op::Choose => self.choose(id),
            Op::Route { spec } => self.route(id, &spec),
            Op::RowGate => self.row_gate(id),
            Op::LastRow => {
                let entries = [
                    (3, self.bound(self.input(id, 0))),
                    (6, self.bound(self.plan.view(id))),
                    (7, self.device.samples.clone().into()),
                ];
                let kernel = Kernel::new("last_row").size("N", n);
                let size = Size::Rows(groups);
                self.push(&kernel, size, Rows::Last, 2 * bytes, &entries)?;
                Ok(())
            }
            Op::Gated { activation } => self.gated(id, activation),
            Op::CausalConv { .. } | Op::DeltaRule { .. } | Op::SelectiveScan { .. } => {
                self.recurrent(id)
            }
            Op::Mix { spec } => self.mix(id, &spec),
            Op::Rescale { least } => self.rescale(id, least),
            Op::GaussianTopK { deviations } => self.gaussian_top_k(id, deviations),
            Op::Add => {
                let views = [self.input(id, 0), self.input(id, 1), self.plan.view(id)];
                if views.iter().any(|v| v.stride != n) {
                    return Err(Error::Unsupported("an add of slices".into()));
                }
                let [a, b, out] = views.map(|v| self.bound(v));
                let kernel = Kernel::new("add").size("N", n);
                let entries = [(3, a), (4, b), (6, out)];
                self.push(&kernel, Size::Rows(groups), node.rows, 3 * bytes, &entries)?;
                Ok(())
            }
            _ => self.batch_node(id),
        }
    }

    fn gated(&mut self, id: NodeId, activation: Activation) -> Result<()> {
        let (gate, up, rows) = (
            self.input(id, 0),
            self.input(id, 1),
            self.graph().node(id).rows,
        );
        let stacked = gate.offset == up.offset;
        let bound_up = match stacked {
            true => self.vector(None)?,
            false => self.bound(up),
        };
        let entries = [
            (3, self.bound(gate)),
            (4, bound_up),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = Kernel::new("gated")
            .size("N", gate.cols)
            .flag("STACKED", stacked)
            .size("STRIDE", gate.stride)
            .size("START", gate.start)
            .size("UP_STRIDE", up.stride)
            .size("UP_START", up.start)
            .set("ACTIVATION", code(activation));
        let bytes = 3 * (self.max_rows(rows) * gate.cols) as u64 * 4;
        let size = Size::Rows(gate.cols.div_ceil(64) as u32);
        self.push(&kernel, size, rows, bytes, &entries)?;
        Ok(())
    }

    /// The rows of a table that `ids` says.
    fn embed(
        &mut self,
        id: NodeId,
        table: WeightId,
        ids: wgpu::Buffer,
        more: impl Fn(Kernel) -> Kernel,
    ) -> Result<()> {
        let (runs, k) = self.runs(table)?;
        let out = self.bound(self.plan.view(id));
        for run in runs {
            let mut kernel = Kernel::new("embed")
                .size("K", k)
                .size("ROW0", run.row0)
                .size("ROWS", run.rows);
            kernel = more(kernel);
            kernel.variant.weights = run.ty;
            let mut entries = vec![
                (1, run.values.clone().into()),
                (3, ids.clone().into()),
                (4, self.device.seen.clone().into()),
                (5, self.device.rows.clone().into()),
                (6, out.clone()),
            ];
            entries.extend(run.scales.clone().map(|s| (2, s.into())));
            let bytes = self.plan.max_rows as u64 * (run.bytes / run.rows as u64 + k as u64 * 4);
            self.push(&kernel, Size::Tokens, Rows::All, bytes, &entries)?;
        }
        Ok(())
    }

    fn rms_norm(&mut self, id: NodeId, out: View, add: bool) -> Result<()> {
        let node = self.graph().node(id).clone();
        let Op::RmsNorm { weight, eps } = node.op else {
            return Err(Error::Unsupported(node.op.name().into()));
        };
        let x = self.input(id, 0);
        let (kernel, runs) = self.norm_runs("rms_norm", weight, x)?;
        let kernel = kernel.set("EPS", eps).flag("ADD", add);
        let entries = [
            (3, self.bound(x)),
            (4, self.vector(Some(weight))?),
            (6, self.bound(out)),
        ];
        let bytes = (self.max_rows(node.rows) * node.cols) as u64 * 4;
        let traffic = bytes * if add { 3 } else { 2 };
        self.push(&kernel, Size::Rows(runs), node.rows, traffic, &entries)?;
        Ok(())
    }

    fn layer_norm(
        &mut self,
        id: NodeId,
        weight: WeightId,
        bias: Option<WeightId>,
        eps: f32,
    ) -> Result<()> {
        let (x, rows) = (self.input(id, 0), self.graph().node(id).rows);
        let (kernel, runs) = self.norm_runs("layer_norm", weight, x)?;
        let kernel = kernel.set("EPS", eps).flag("HAS_BIAS", bias.is_some());
        let entries = [
            (3, self.bound(x)),
            (4, self.vector(Some(weight))?),
            (5, self.vector(bias)?),
            (6, self.bound(self.plan.view(id))),
        ];
        let traffic = self.traffic(id);
        self.push(&kernel, Size::Rows(runs), rows, traffic, &entries)?;
        Ok(())
    }

    fn map(&mut self, id: NodeId, map: Map) -> Result<()> {
        let x = self.input(id, 0);
        let entries = [(3, self.bound(x)), (6, self.bound(self.plan.view(id)))];
        let kernel = map_constants(Kernel::new("map"), map, x);
        self.push_values(id, &kernel, x.cols, &entries)
    }

    fn scale_columns(&mut self, id: NodeId, weight: WeightId) -> Result<()> {
        let x = self.input(id, 0);
        let entries = [
            (3, self.bound(x)),
            (4, self.vector(Some(weight))?),
            (6, self.bound(self.plan.view(id))),
        ];
        let kernel = Kernel::new("scale_columns")
            .flag("IS_ONE", self.graph().weight(weight).rows() == 1)
            .size("N", x.cols)
            .size("STRIDE", x.stride)
            .size("START", x.start);
        self.push_values(id, &kernel, x.cols, &entries)
    }

    /// A norm's kernel over runs of x as long as its weight, and how many there are.
    fn norm_runs(&self, name: &'static str, weight: WeightId, x: View) -> Result<(Kernel, u32)> {
        let k = self.graph().weight(weight).rows();
        if [k, x.stride, x.start].iter().any(|n| n % 4 != 0) {
            return Err(Error::Unsupported(
                "rms_norm whose columns are not a multiple of 4".into(),
            ));
        }
        let runs = x.cols / k;
        let kernel = self
            .reducing(name, threads_for(k / 32))
            .size("K", k)
            .size("RUNS", runs)
            .size("STRIDE", x.stride / 4)
            .size("START", x.start / 4);
        Ok((kernel, runs as u32))
    }

    fn choose(&mut self, id: NodeId) -> Result<()> {
        let logits = self.input(id, 0);
        let kernel = self
            .reducing("choose", 256)
            .size("N", logits.cols)
            .size("SAMPLES", self.device.max_samples)
            .size("SEEN", self.device.seen_words);
        let entries = vec![
            (0, self.step_uniform(Rows::Last)),
            (1, self.device.allowed.clone().into()),
            (ADDED, self.device.added.clone().into()),
            (3, self.bound(logits)),
            (4, self.device.seen.clone().into()),
            (5, self.device.tokens.clone().into()),
            (6, self.device.ring.clone().into()),
            (7, self.device.samples.clone().into()),
        ];
        let bytes = (self.plan.max_samples * logits.cols) as u64 * 4;
        self.push(&kernel, Size::Tokens, Rows::Last, bytes, &entries)?;
        let dispatch = self.dispatches.len() - 1;
        self.choosing = Some(Choosing { dispatch, entries });
        Ok(())
    }
}
