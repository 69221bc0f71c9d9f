//! From a plan's steps to dispatches: which kernel, which constants, what it binds.

use siskin_graph::{Activation, Graph, NodeId, Op, Plan, Rows, Step, View, WeightId};

use crate::pipeline::Kernel;
use crate::prepared::{Dispatch, Prepared, Size};
use crate::weights::{GpuWeight, Run};
use crate::{Error, GpuDevice, Profile, Reduce, Result};

/// Blocks of 32 columns decide how many threads share a row.
fn threads_for(blocks: usize) -> usize {
    blocks.next_power_of_two().clamp(32, 128)
}

/// Threads of an attention: at least one for each four columns.
fn attention_threads(head_dim: usize) -> usize {
    (head_dim / 4).next_power_of_two().max(64)
}

/// Dispatches have at most 65535 workgroups a dimension: more go into the second.
fn spread(n: usize) -> Size {
    const MOST: usize = 65_535;
    let y = n.div_ceil(MOST);
    Size::Fixed([n.div_ceil(y) as u32, y as u32, 1])
}

/// Some of a buffer, bound.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
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
    arena: wgpu::Buffer,
    /// Integer activations and their scales, where a kernel wants them made beforehand.
    scratch: Option<(wgpu::Buffer, wgpu::Buffer)>,
    dispatches: Vec<Dispatch>,
}

impl GpuDevice {
    /// Pipelines and bind groups for every step of the plan.
    pub(crate) fn lower(&mut self, plan: Plan) -> Result<Prepared> {
        let arena = self.storage("activations", plan.arena_bytes() as u64)?;
        let mut lowering = Lowering {
            device: self,
            plan: &plan,
            arena: arena.clone(),
            scratch: None,
            dispatches: vec![],
        };
        for step in &plan.steps {
            lowering.step(step)?;
        }
        let dispatches = lowering.dispatches;
        Ok(Prepared {
            plan,
            arena,
            dispatches,
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

    /// A vector's buffer; for none, a buffer that stands in for what the kernel does not read.
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
        if rows == Rows::All {
            self.plan.max_rows
        } else {
            1
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

    fn step_uniform(&self) -> Bound {
        self.device.step.clone().into()
    }

    fn input(&self, node: NodeId, i: usize) -> View {
        self.plan.view(self.graph().node(node).inputs[i])
    }

    fn reduce(&self) -> Reduce {
        if self.device.profile.needs_subgroups() {
            Reduce::Subgroup
        } else {
            Reduce::Workgroup
        }
    }

    /// A kernel whose `threads` add up.
    fn reducing(&self, name: &'static str, threads: usize) -> Kernel {
        let mut kernel = Kernel::new(name).size("WG", threads);
        kernel.variant.reduce = self.reduce();
        kernel
    }

    /// Queues a dispatch that reads and writes `bytes` a run, and binds `entries`.
    fn push(
        &mut self,
        kernel: &Kernel,
        size: Size,
        rows: Rows,
        bytes: u64,
        entries: &[(u32, Bound)],
    ) -> Result<&mut Dispatch> {
        let pipeline = self.device.pipeline(kernel)?;
        let bind_group = self.device.bind_group(&pipeline, entries);
        let kernel = kernel.clone();
        let dispatch = Dispatch {
            kernel,
            pipeline,
            bind_group,
            size,
            bytes,
            rows,
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
                self.linear(out, linear, norm, residual.is_some(), gated)
            }
            Step::NormAdd { norm, add } => self.rms_norm(norm, self.plan.view(add), true),
            Step::RopeAppend {
                q_norm,
                q_rope,
                k_norm,
                k_rope,
                append,
            } => self.rope_append([q_norm, k_norm], [q_rope, k_rope], append),
            Step::Single(id) => self.single(id),
        }
    }

    fn single(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id).clone();
        let n = node.cols;
        let bytes = (self.max_rows(node.rows) * n) as u64 * 4;
        let groups = n.div_ceil(64) as u32;
        match node.op {
            Op::Embed { table, scale } => self.embed(id, table, scale),
            Op::RmsNorm { .. } => self.rms_norm(id, self.plan.view(id), false),
            Op::Attention { .. } => self.attention(id),
            Op::Choose => self.choose(id),
            Op::LastRow => {
                let entries = [
                    (0, self.step_uniform()),
                    (3, self.bound(self.input(id, 0))),
                    (6, self.bound(self.plan.view(id))),
                ];
                let kernel = Kernel::new("last_row").size("N", n);
                self.push(
                    &kernel,
                    Size::Fixed([groups, 1, 1]),
                    Rows::Last,
                    2 * bytes,
                    &entries,
                )?;
                Ok(())
            }
            Op::Gated { activation } => {
                let (gate, up) = (self.input(id, 0), self.input(id, 1));
                if gate.offset != up.offset
                    || gate.stride != 2 * n
                    || (gate.start, up.start) != (0, n)
                {
                    return Err(Error::Unsupported(
                        "a gate and up that are not stacked".into(),
                    ));
                }
                let entries = [(3, self.bound(gate)), (6, self.bound(self.plan.view(id)))];
                let gelu = activation == Activation::GeluTanh;
                let kernel = Kernel::new("gated").size("N", n).flag("GELU", gelu);
                self.push(&kernel, Size::Rows(groups), node.rows, 3 * bytes, &entries)?;
                Ok(())
            }
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
            _ => Err(Error::Unsupported(format!("{:?}", node.op))),
        }
    }

    fn embed(&mut self, id: NodeId, table: WeightId, scale: f32) -> Result<()> {
        let (runs, k) = self.runs(table)?;
        let out = self.bound(self.plan.view(id));
        for run in runs {
            let mut kernel = Kernel::new("embed")
                .size("K", k)
                .set("SCALE", scale)
                .size("ROW0", run.row0)
                .size("ROWS", run.rows);
            kernel.variant.weights = run.ty;
            let mut entries = vec![
                (1, run.values.clone().into()),
                (3, self.device.tokens.clone().into()),
                (4, self.device.seen.clone().into()),
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
            return Err(Error::Unsupported(format!("{:?}", node.op)));
        };
        let x = self.input(id, 0);
        if self.graph().weight(weight).rows() != node.cols || x.stride != node.cols {
            return Err(Error::Unsupported(
                "an rms_norm of heads outside rope".into(),
            ));
        }
        let kernel = self
            .reducing("rms_norm", threads_for(node.cols / 32))
            .size("K", node.cols)
            .set("EPS", eps)
            .flag("ADD", add);
        let entries = [
            (3, self.bound(x)),
            (4, self.vector(Some(weight))?),
            (6, self.bound(out)),
        ];
        let bytes = (self.max_rows(node.rows) * node.cols) as u64 * 4;
        let traffic = bytes * if add { 3 } else { 2 };
        self.push(&kernel, Size::Tokens, node.rows, traffic, &entries)?;
        Ok(())
    }

    fn linear(
        &mut self,
        out: View,
        id: NodeId,
        norm: Option<NodeId>,
        accumulate: bool,
        gated: Option<NodeId>,
    ) -> Result<()> {
        let node = self.graph().node(id).clone();
        let Op::Linear { weight, bias } = node.op else {
            return Err(Error::Unsupported(format!("{:?}", node.op)));
        };
        let (runs, k) = self.runs(weight)?;
        let (norm_weight, eps) = match norm.map(|n| self.graph().node(n).op) {
            Some(Op::RmsNorm { weight, eps }) => (Some(weight), eps),
            _ => (None, 0.0),
        };
        let x = self
            .plan
            .view(norm.map_or(node.inputs[0], |n| self.graph().node(n).inputs[0]));
        let mode = match gated.map(|g| self.graph().node(g).op) {
            Some(Op::Gated {
                activation: Activation::Silu,
            }) => 2,
            Some(_) => 3,
            None => u8::from(accumulate),
        };
        let rows = self.max_rows(node.rows);
        for run in &runs {
            let n = if gated.is_some() {
                run.rows / 2
            } else {
                run.rows
            };
            let common = |kernel: Kernel| {
                let mut kernel = kernel
                    .size("K", k)
                    .size("N", n)
                    .set("MODE", mode)
                    .size("ROW0", run.row0)
                    .flag("HAS_BIAS", bias.is_some());
                kernel.variant.weights = run.ty;
                kernel
            };
            let mut entries = vec![
                (1, run.values.clone().into()),
                (5, self.vector(bias)?),
                (6, self.bound(out)),
            ];
            entries.extend(run.scales.clone().map(|s| (2, s.into())));
            let bytes = run.bytes + (rows * (k + n)) as u64 * 4;
            let by_rows = self.device.profile == Profile::Cpu && run.ty.is_quantised();
            if rows == 1 {
                entries.extend([(3, self.bound(x)), (4, self.vector(norm_weight)?)]);
                let threads = threads_for(k / 32);
                let dot4 = self.device.profile == Profile::SgDot4 && run.ty.is_quantised();
                let (kernel, size) = if by_rows {
                    let wg = 32;
                    (
                        Kernel::new("matvec_rows").size("WG", wg),
                        spread(n.div_ceil(4 * wg)),
                    )
                } else {
                    let mut kernel = self.reducing("matvec", threads);
                    kernel.variant.integer = dot4;
                    (kernel, spread(n.div_ceil(4)))
                };
                let kernel = common(kernel)
                    .flag("HAS_NORM", norm.is_some())
                    .set("EPS", eps);
                self.push(&kernel, size, node.rows, bytes, &entries)?;
            } else {
                entries.push((0, self.step_uniform()));
                if by_rows {
                    let (q, s) = self.quantise(x, k)?;
                    entries.extend([(3, q), (4, s)]);
                    let kernel = common(Kernel::new("matmul_rows")).size("STRIDE", out.stride);
                    let size = Size::Tiles {
                        x: n.div_ceil(64) as u32,
                        rows: 8,
                    };
                    self.push(&kernel, size, node.rows, bytes, &entries)?;
                } else {
                    entries.push((3, self.bound(x)));
                    let kernel = common(Kernel::new("matmul")).size("STRIDE", out.stride);
                    let size = Size::Tiles {
                        x: n.div_ceil(64) as u32,
                        rows: 32,
                    };
                    self.push(&kernel, size, node.rows, bytes, &entries)?;
                }
            }
        }
        Ok(())
    }

    /// Makes integers of x [T, k] in the scratch buffers, which are as large as the largest needs.
    fn quantise(&mut self, x: View, k: usize) -> Result<(Bound, Bound)> {
        let blocks = self.plan.max_rows * k / 32;
        let large_enough = |s: &&(wgpu::Buffer, wgpu::Buffer)| s.0.size() >= blocks as u64 * 64;
        let (q, s) = match self.scratch.as_ref().filter(large_enough) {
            Some(found) => found.clone(),
            None => {
                let widest = self.graph().nodes.iter().map(|n| n.cols);
                let widest = widest
                    .filter(|c| c % 32 == 0 && *c <= 1 << 16)
                    .max()
                    .unwrap_or(k);
                let most = self.plan.max_rows * widest.max(k) / 32;
                let q = self
                    .device
                    .storage("integer activations", most as u64 * 64)?;
                let s = self
                    .device
                    .storage("scales of activations", most as u64 * 16)?;
                self.scratch.insert((q, s)).clone()
            }
        };
        let (q, s) = (Bound::from(q), Bound::from(s));
        let entries = [
            (0, self.step_uniform()),
            (3, self.bound(x)),
            (4, q.clone()),
            (6, s.clone()),
        ];
        let kernel = Kernel::new("quantise_q16").size("K", k);
        let size = Size::Blocks {
            per_row: (k / 32) as u32,
            group: 32,
        };
        self.push(&kernel, size, Rows::All, blocks as u64 * 208, &entries)?;
        Ok((q, s))
    }

    fn rope_append(
        &mut self,
        norms: [Option<NodeId>; 2],
        ropes: [NodeId; 2],
        append: NodeId,
    ) -> Result<()> {
        let graph = self.graph();
        let (Op::KvAppend { cache }, Op::Rope { inv_freq, head_dim }) =
            (graph.node(append).op, graph.node(ropes[0]).op)
        else {
            return Err(Error::Unsupported("rope".into()));
        };
        let [q, k] = ropes.map(|r| self.plan.view(r));
        let v = self.input(append, 1);
        if [k, v].iter().any(|view| view.offset != q.offset) {
            return Err(Error::Unsupported("q, k and v that are not stacked".into()));
        }
        let norm_of = |n: Option<NodeId>| match n.map(|n| graph.node(n).op) {
            Some(Op::RmsNorm { weight, eps }) => (Some(weight), eps),
            _ => (None, 0.0),
        };
        let [(q_norm, eps), (k_norm, _)] = norms.map(norm_of);
        let n_kv_heads = graph.caches[cache.0].n_kv_heads;
        let n_heads = q.cols / head_dim;
        let table = graph.weight(inv_freq).name.clone();
        let table = self.device.tables.get(&table).cloned();
        let table = table.ok_or_else(|| Error::MissingWeight("rope table".into()))?;
        let mut kernel = self
            .reducing("rope_append", 32)
            .size("HEAD_DIM", head_dim)
            .size("N_HEADS", n_heads)
            .size("N_KV_HEADS", n_kv_heads)
            .size("CONTEXT", self.device.context)
            .size("STRIDE", q.stride)
            .size("Q_START", q.start)
            .size("K_START", k.start)
            .size("V_START", v.start)
            .flag("HAS_NORM", q_norm.is_some())
            .set("EPS", eps);
        kernel.variant.kv_f32 = self.device.kv_f32;
        let (keys, values) = self.device.caches[cache.0].clone();
        let entries = [
            (0, self.step_uniform()),
            (1, keys.into()),
            (2, values.into()),
            (3, self.bound(q)),
            (4, self.vector(q_norm)?),
            (5, self.vector(k_norm)?),
            (6, table.into()),
        ];
        let heads = (n_heads + 2 * n_kv_heads) as u32;
        let bytes = (self.plan.max_rows * q.stride) as u64 * 8;
        self.push(&kernel, Size::Rows(heads), Rows::All, bytes, &entries)?;
        Ok(())
    }

    fn attention(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id).clone();
        let Op::Attention { cache, spec } = node.op else {
            return Err(Error::Unsupported(format!("{:?}", node.op)));
        };
        let q = self.input(id, 0);
        let mut kernel = self
            .reducing("attention", attention_threads(spec.head_dim))
            .size("HEAD_DIM", spec.head_dim)
            .size("N_HEADS", spec.n_heads)
            .size("N_KV_HEADS", spec.n_kv_heads)
            .size("CONTEXT", self.device.context)
            .size("STRIDE", q.stride)
            .size("Q_START", q.start)
            .set("SCALE", spec.scale)
            .size("WINDOW", spec.window.unwrap_or(0));
        kernel.variant.kv_f32 = self.device.kv_f32;
        let (keys, values) = self.device.caches[cache.0].clone();
        let entries = [
            (0, self.step_uniform()),
            (1, keys.into()),
            (2, values.into()),
            (3, self.bound(q)),
            (6, self.bound(self.plan.view(id))),
        ];
        let bytes = (self.max_rows(node.rows) * node.cols) as u64 * 8;
        let bytes_per_token = 2 * spec.n_kv_heads * spec.head_dim * self.device.kv_bytes();
        let size = Size::Rows(spec.n_heads as u32);
        let dispatch = self.push(&kernel, size, node.rows, bytes, &entries)?;
        dispatch.kv = Some((bytes_per_token as u64, spec.window));
        Ok(())
    }

    fn choose(&mut self, id: NodeId) -> Result<()> {
        let logits = self.input(id, 0);
        let kernel = self.reducing("choose", 256).size("N", logits.cols);
        let entries = [
            (0, self.step_uniform()),
            (3, self.bound(logits)),
            (4, self.device.seen.clone().into()),
            (5, self.device.tokens.clone().into()),
            (6, self.device.ring.clone().into()),
        ];
        let bytes = logits.cols as u64 * 4;
        self.push(&kernel, Size::Fixed([1, 1, 1]), Rows::Last, bytes, &entries)?;
        Ok(())
    }
}
