//! Adapters, and what only training has.

use siskin_graph::{Activation, AttentionSpec, LoraId, NodeId, Op, Rows, View, WeightId};

use super::linear::spread;
use super::{Bound, Lowering, threads_for};
use crate::pipeline::Kernel;
use crate::prepared::Size;
use crate::weights::Run;
use crate::{Error, Profile, Result};

/// Tokens of the vocabulary whose logits exist at a time. A multiple of 256, so that each chunk of any
/// type's rows begins where a binding may.
const VOCABULARY_CHUNK: usize = 4096;

/// Threads for one value or column each.
fn groups(n: usize) -> u32 {
    n.div_ceil(64) as u32
}

/// Rows `first ..` of a run, of which there are `rows`.
struct Chunk {
    run: Run,
    first: usize,
    rows: usize,
}

impl Chunk {
    /// Bindings of its values and scales alone.
    fn entries(&self, cols: usize) -> Vec<(u32, Bound)> {
        let ty = self.run.ty;
        let part = |buffer: &wgpu::Buffer, bytes: &dyn Fn(usize) -> usize| {
            // The buffer's end is padded.
            let is_last = self.first + self.rows == self.run.rows;
            let (offset, end) = (bytes(self.first), bytes(self.first + self.rows));
            let end = if is_last { buffer.size() } else { end as u64 };
            Bound {
                buffer: buffer.clone(),
                offset: offset as u64,
                bytes: end - offset as u64,
            }
        };
        let mut entries = vec![(
            1,
            part(&self.run.values, &|rows| ty.value_bytes(rows * cols)),
        )];
        let scales = self.run.scales.as_ref();
        entries.extend(scales.map(|s| (2, part(s, &|rows| ty.scale_bytes(rows * cols)))));
        entries
    }
}

impl Lowering<'_> {
    fn dense(&self, view: View, what: &'static str) -> Result<Bound> {
        if view.start != 0 || view.stride != view.cols {
            return Err(Error::Unsupported(format!("{what} of a slice")));
        }
        Ok(self.bound(view))
    }

    fn batch(&self) -> Bound {
        self.device.training.batch.clone().into()
    }

    /// Room that is kept for all dispatches that name it.
    fn room(&mut self, what: &'static str, bytes: u64) -> Result<Bound> {
        let found = self.between.get(what).filter(|b| b.size() >= bytes);
        if let Some(found) = found {
            return Ok(found.clone().into());
        }
        let made = self.device.storage(what, bytes)?;
        self.between.insert(what, made.clone());
        Ok(made.into())
    }

    /// Some of the parameters, or of their gradients.
    fn params(&self, of: &wgpu::Buffer, at: usize, len: usize) -> Bound {
        Bound {
            buffer: of.clone(),
            offset: at as u64 * 4,
            bytes: len.next_multiple_of(64) as u64 * 4,
        }
    }

    /// Bytes of a node's value and of what it reads.
    fn traffic(&self, id: NodeId) -> u64 {
        let node = self.graph().node(id);
        let read: usize = node.inputs.iter().map(|i| self.graph().node(*i).cols).sum();
        (self.max_rows(node.rows) * (read + node.cols)) as u64 * 4
    }

    pub(super) fn training_node(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph().node(id).clone();
        let (n, traffic) = (node.cols, self.traffic(id));
        match node.op {
            Op::LoraDown { lora } => self.lora_down(id, lora),
            Op::LoraUp { lora } => self.lora_up(id, lora),
            Op::LoraUpGrad { lora } => self.lora_up_grad(id, lora),
            Op::LoraDownGrad { lora } => {
                let lora = self.graph().lora(lora).clone();
                let params = &self.device.training.params;
                let entries = [
                    (3, self.dense(self.input(id, 0), "lora_down_grad")?),
                    (4, self.params(params, lora.a, lora.a_len())),
                    (6, self.bound(self.plan.view(id))),
                ];
                let kernel = Kernel::new("lora_down_grad")
                    .size("INNER", lora.inner())
                    .size("K", lora.k);
                self.push(&kernel, Size::Rows(groups(n)), node.rows, traffic, &entries)?;
                Ok(())
            }
            Op::LoraGradA { lora } => {
                let lora = self.graph().lora(lora).clone();
                let (x, du) = (self.input(id, 0), self.input(id, 1));
                let kernel = Kernel::new("lora_grad")
                    .size("M", lora.inner())
                    .size("N", lora.k);
                self.lora_grad(kernel, du, x, lora.a, lora.a_len(), lora.a_len())
            }
            Op::LoraGradB { lora } => {
                let lora = self.graph().lora(lora).clone();
                let (u, dy) = (self.input(id, 0), self.input(id, 1));
                let mut row = 0;
                for (s, span) in lora.spans.iter().enumerate() {
                    let kernel = Kernel::new("lora_grad")
                        .size("M", span.len)
                        .size("N", lora.rank)
                        .set("SCALE", lora.scale)
                        .size("ROW", row);
                    let dy = View {
                        start: dy.start + span.start,
                        ..dy
                    };
                    let u = View {
                        start: u.start + s * lora.rank,
                        ..u
                    };
                    self.lora_grad(kernel, dy, u, lora.b, lora.b_len(), span.len * lora.rank)?;
                    row += span.len;
                }
                Ok(())
            }
            Op::Dropout { p, salt } => {
                let entries = [
                    (0, self.step_uniform()),
                    (3, self.dense(self.input(id, 0), "dropout")?),
                    (6, self.bound(self.plan.view(id))),
                ];
                let kernel = Kernel::new("dropout")
                    .size("N", n)
                    .set("P", p)
                    .set("SALT", salt);
                self.push(&kernel, Size::Rows(groups(n)), node.rows, traffic, &entries)?;
                Ok(())
            }
            Op::RmsNormGrad { weight, eps } => {
                let x = self.input(id, 0);
                let (kernel, runs) = self.norm_runs("rms_norm_grad", weight, x)?;
                let entries = [
                    (3, self.bound(x)),
                    (4, self.vector(Some(weight))?),
                    (5, self.dense(self.input(id, 1), "rms_norm_grad")?),
                    (6, self.bound(self.plan.view(id))),
                ];
                let kernel = kernel.set("EPS", eps);
                self.push(&kernel, Size::Rows(runs), node.rows, traffic, &entries)?;
                Ok(())
            }
            Op::Rope {
                inv_freq,
                head_dim,
                back,
            } => {
                let x = self.input(id, 0);
                let table = self
                    .device
                    .training
                    .tables
                    .get(&self.graph().weight(inv_freq).name);
                let table = table.ok_or_else(|| Error::Unsupported("rope by itself".into()))?;
                let entries = [
                    (2, self.batch()),
                    (3, self.bound(x)),
                    (4, table.clone().into()),
                    (6, self.bound(self.plan.view(id))),
                ];
                let kernel = Kernel::new("rope")
                    .size("HEAD_DIM", head_dim)
                    .size("N", n)
                    .size("STRIDE", x.stride)
                    .size("START", x.start)
                    .flag("BACK", back);
                let size = Size::Rows(groups(n / 2));
                self.push(&kernel, size, node.rows, traffic, &entries)?;
                Ok(())
            }
            Op::GatedGrad { activation } => {
                let (gate, up) = (self.input(id, 0), self.input(id, 1));
                let stacked = gate.offset == up.offset
                    && gate.stride == n
                    && (gate.start, up.start) == (0, n / 2);
                if !stacked {
                    return Err(Error::Unsupported(
                        "a gate and up that are not stacked".into(),
                    ));
                }
                let entries = [
                    (3, self.bound(gate)),
                    (4, self.dense(self.input(id, 2), "gated_grad")?),
                    (6, self.bound(self.plan.view(id))),
                ];
                let kernel = Kernel::new("gated_grad")
                    .size("N", n / 2)
                    .flag("GELU", activation == Activation::GeluTanh);
                let size = Size::Rows(groups(n / 2));
                self.push(&kernel, size, node.rows, traffic, &entries)?;
                Ok(())
            }
            Op::Concat => {
                let out = self.plan.view(id);
                let mut start = 0;
                for i in 0..node.inputs.len() {
                    let x = self.input(id, i);
                    let entries = [(3, self.bound(x)), (6, self.bound(out))];
                    let kernel = Kernel::new("concat")
                        .size("N", x.cols)
                        .size("X_STRIDE", x.stride)
                        .size("X_START", x.start)
                        .size("STRIDE", n)
                        .size("START", start);
                    let bytes = (self.plan.max_rows * x.cols) as u64 * 8;
                    let size = Size::Rows(groups(x.cols));
                    self.push(&kernel, size, node.rows, bytes, &entries)?;
                    start += x.cols;
                }
                Ok(())
            }
            Op::SelfAttention { spec } => self.self_attention(id, &spec),
            Op::SelfAttentionGrad { spec } => self.self_attention_grad(id, &spec),
            Op::LinearGrad { weight } => self.linear_grad(id, weight),
            Op::CrossEntropy { weight } => self.cross_entropy(id, weight),
            Op::CrossEntropyGrad { weight } => self.cross_entropy_grad(id, weight),
            op => Err(Error::Unsupported(format!("{op:?}"))),
        }
    }

    /// `x · Aᵀ` is a linear over weights that change.
    fn lora_down(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let lora = self.graph().lora(lora).clone();
        let rows = self.graph().node(id).rows;
        let (n, x, out) = (lora.inner(), self.input(id, 0), self.plan.view(id));
        let a = self.params(&self.device.training.params, lora.a, lora.a_len());
        let mut entries = vec![
            (1, a),
            (3, self.dense(x, "lora_down")?),
            (5, self.vector(None)?),
            (6, self.bound(out)),
        ];
        let bytes = self.traffic(id) + lora.a_len() as u64 * 4;
        if self.max_rows(rows) == 1 {
            entries.push((4, self.vector(None)?));
            let kernel = self
                .reducing("matvec", threads_for(lora.k / 32))
                .size("K", lora.k)
                .size("N", n);
            self.push(&kernel, spread(n.div_ceil(4)), rows, bytes, &entries)?;
        } else {
            entries.push((0, self.step_uniform()));
            let kernel = Kernel::new("matmul")
                .size("K", lora.k)
                .size("N", n)
                .size("STRIDE", n);
            let size = Size::Tiles {
                x: n.div_ceil(64) as u32,
                rows: 32,
            };
            self.push(&kernel, size, rows, bytes, &entries)?;
        }
        Ok(())
    }

    /// One dispatch a span, with what `lora_up` and its gradient share.
    fn each_span(
        &mut self,
        lora: LoraId,
        kernel: Kernel,
        wide: View,
        u: View,
    ) -> Vec<(Kernel, usize)> {
        let lora = self.graph().lora(lora);
        let mut row = 0;
        let mut out = vec![];
        for (s, span) in lora.spans.iter().enumerate() {
            let kernel = kernel
                .clone()
                .size("RANK", lora.rank)
                .set("SCALE", lora.scale)
                .size("LEN", span.len)
                .size("START", wide.start + span.start)
                .size("STRIDE", wide.stride)
                .size("U_START", u.start + s * lora.rank)
                .size("U_STRIDE", u.stride)
                .size("B_ROW", row);
            out.push((kernel, span.len));
            row += span.len;
        }
        out
    }

    fn lora_up(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let (rows, u, out) = (
            self.graph().node(id).rows,
            self.input(id, 1),
            self.plan.view(id),
        );
        let found = self.graph().lora(lora).clone();
        let b = self.params(&self.device.training.params, found.b, found.b_len());
        for (kernel, len) in self.each_span(lora, Kernel::new("lora_up"), out, u) {
            let entries = [(3, self.bound(u)), (4, b.clone()), (6, self.bound(out))];
            let bytes = (self.max_rows(rows) * 2 * len + len * found.rank) as u64 * 4;
            self.push(&kernel, Size::Rows(groups(len)), rows, bytes, &entries)?;
        }
        Ok(())
    }

    fn lora_up_grad(&mut self, id: NodeId, lora: LoraId) -> Result<()> {
        let (rows, dy, out) = (
            self.graph().node(id).rows,
            self.input(id, 0),
            self.plan.view(id),
        );
        let found = self.graph().lora(lora).clone();
        let b = self.params(&self.device.training.params, found.b, found.b_len());
        let kernel = self.reducing("lora_up_grad", 64);
        for (kernel, len) in self.each_span(lora, kernel, dy, out) {
            let entries = [(3, self.bound(dy)), (4, b.clone()), (6, self.bound(out))];
            let bytes = (self.max_rows(rows) + found.rank) as u64 * len as u64 * 4;
            let size = Size::Rows(found.rank as u32);
            self.push(&kernel, size, rows, bytes, &entries)?;
        }
        Ok(())
    }

    /// `values` of the gradient that begins at `at` among all gradients, and is `len` long.
    fn lora_grad(
        &mut self,
        kernel: Kernel,
        p: View,
        q: View,
        at: usize,
        len: usize,
        values: usize,
    ) -> Result<()> {
        let kernel = kernel
            .size("P_STRIDE", p.stride)
            .size("P_START", p.start)
            .size("Q_STRIDE", q.stride)
            .size("Q_START", q.start);
        let entries = [
            (0, self.step_uniform()),
            (3, self.bound(p)),
            (4, self.bound(q)),
            (6, self.params(&self.device.training.grads, at, len)),
        ];
        let bytes = (self.plan.max_rows * (p.cols + q.cols)) as u64 * 4 + values as u64 * 8;
        self.push(
            &kernel,
            spread(values.div_ceil(64)),
            Rows::All,
            bytes,
            &entries,
        )?;
        Ok(())
    }

    /// What lib/qkv.wgsl wants to know; `v` may be what stands in v's place.
    fn qkv(
        &self,
        name: &'static str,
        spec: &AttentionSpec,
        [q, k, v]: [View; 3],
    ) -> Result<(Kernel, Vec<(u32, Bound)>)> {
        if !spec.head_dim.is_multiple_of(4) {
            return Err(Error::Unsupported("heads of odd columns".into()));
        }
        let threads = (spec.head_dim / 4).next_power_of_two().max(64);
        let kernel = self
            .reducing(name, threads)
            .size("HEAD_DIM", spec.head_dim)
            .size("N_HEADS", spec.n_heads)
            .size("N_KV_HEADS", spec.n_kv_heads)
            .set("SCALE", spec.scale)
            .size("WINDOW", spec.window.unwrap_or(0))
            .size("Q_STRIDE", q.stride / 4)
            .size("K_STRIDE", k.stride / 4)
            .size("V_STRIDE", v.stride / 4)
            .size("V_START", v.start / 4);
        let entries = vec![
            (2, self.batch()),
            (3, self.dense(q, "attention")?),
            (4, self.dense(k, "attention")?),
            (5, self.bound(v)),
        ];
        Ok((kernel, entries))
    }

    fn self_attention(&mut self, id: NodeId, spec: &AttentionSpec) -> Result<()> {
        let views = [0, 1, 2].map(|i| self.input(id, i));
        let (kernel, mut entries) = self.qkv("self_attention", spec, views)?;
        entries.push((6, self.bound(self.plan.view(id))));
        let size = Size::Rows(spec.n_heads as u32);
        let traffic = self.traffic(id);
        self.push(&kernel, size, Rows::All, traffic, &entries)?;
        Ok(())
    }

    fn self_attention_grad(&mut self, id: NodeId, spec: &AttentionSpec) -> Result<()> {
        let [q, k, v, y, dy] = [0, 1, 2, 3, 4].map(|i| self.input(id, i));
        let (n_heads, out) = (spec.n_heads as u32, self.plan.view(id));
        let bytes = (self.plan.max_rows * spec.n_heads) as u64 * 8;
        let stats = self.room("statistics of attention", bytes)?;
        let (traffic, dy) = (self.traffic(id), self.dense(dy, "self_attention_grad")?);
        self.dense(y, "self_attention_grad")?;
        let (kernel, mut entries) = self.qkv("self_attention_stats", spec, [q, k, y])?;
        entries.extend([(6, dy.clone()), (7, stats.clone())]);
        self.push(&kernel, Size::Rows(n_heads), Rows::All, traffic, &entries)?;
        for (name, heads) in [
            ("self_attention_grad_q", spec.n_heads),
            ("self_attention_grad_kv", spec.n_kv_heads),
        ] {
            let (kernel, mut entries) = self.qkv(name, spec, [q, k, v])?;
            entries.extend([(6, dy.clone()), (7, stats.clone()), (8, self.bound(out))]);
            let kernel = kernel.size("OUT_STRIDE", out.stride / 4);
            let size = Size::Rows(heads as u32);
            self.push(&kernel, size, Rows::All, traffic, &entries)?;
        }
        Ok(())
    }

    fn linear_grad(&mut self, id: NodeId, weight: WeightId) -> Result<()> {
        let (runs, k) = self.runs(weight)?;
        let dy = self.input(id, 0);
        let (dy, stride) = (self.dense(dy, "linear_grad")?, dy.stride);
        let dx = self.bound(self.plan.view(id));
        for (i, run) in runs.into_iter().enumerate() {
            let row0 = run.row0;
            let chunk = Chunk {
                first: 0,
                rows: run.rows,
                run,
            };
            self.linear_grad_of(&chunk, k, (dy.clone(), stride, row0), dx.clone(), i > 0)?;
        }
        Ok(())
    }

    /// `dx (+)= dy · W` over some rows of W; dy's columns for them begin at the last of `dy`.
    fn linear_grad_of(
        &mut self,
        chunk: &Chunk,
        k: usize,
        (dy, stride, row0): (Bound, usize, usize),
        dx: Bound,
        add: bool,
    ) -> Result<()> {
        let mut kernel = Kernel::new("linear_grad")
            .size("K", k)
            .size("N", chunk.rows)
            .size("STRIDE", stride)
            .size("ROW0", row0)
            .flag("ADD", add);
        kernel.variant.weights = chunk.run.ty;
        let mut entries = chunk.entries(k);
        entries.extend([(0, self.step_uniform()), (3, dy), (6, dx)]);
        let size = Size::Tiles {
            x: k.div_ceil(64) as u32,
            rows: 32,
        };
        let bytes = chunk.run.bytes * chunk.rows as u64 / chunk.run.rows as u64
            + (self.plan.max_rows * (k + chunk.rows)) as u64 * 4;
        self.push(&kernel, size, Rows::All, bytes, &entries)?;
        Ok(())
    }

    /// The vocabulary in chunks, each with the id of its first token.
    fn vocabulary(&self, weight: WeightId) -> Result<(Vec<(usize, Chunk)>, usize)> {
        let (runs, k) = self.runs(weight)?;
        let mut chunks = vec![];
        for run in runs {
            for first in (0..run.rows).step_by(VOCABULARY_CHUNK) {
                let chunk = Chunk {
                    first,
                    rows: VOCABULARY_CHUNK.min(run.rows - first),
                    run: run.clone(),
                };
                chunks.push((run.row0 + first, chunk));
            }
        }
        Ok((chunks, k))
    }

    /// Room for the logits of one chunk, and how many it has a row.
    fn chunk_logits(&mut self, chunks: &[(usize, Chunk)]) -> Result<(Bound, usize)> {
        let stride = chunks.iter().map(|c| c.1.rows).max().unwrap_or(0);
        let bytes = (self.plan.max_rows * stride) as u64 * 4;
        Ok((
            self.room("logits of a part of the vocabulary", bytes)?,
            stride,
        ))
    }

    /// Logits of one chunk. `integers` are x's, where the profile wants them.
    fn logits_of(
        &mut self,
        chunk: &Chunk,
        k: usize,
        x: &Bound,
        integers: Option<&(Bound, Bound)>,
        (logits, stride): (Bound, usize),
    ) -> Result<()> {
        let mut entries = chunk.entries(k);
        let nothing = self.vector(None)?;
        entries.extend([(0, self.step_uniform()), (5, nothing), (6, logits)]);
        let by_rows = integers.filter(|_| chunk.run.ty.is_quantised());
        let (name, tile, tokens) = match by_rows {
            Some((q, s)) => {
                entries.extend([(3, q.clone()), (4, s.clone())]);
                ("matmul_rows", 64, 8)
            }
            None => {
                entries.push((3, x.clone()));
                ("matmul", 64, 32)
            }
        };
        let mut kernel = Kernel::new(name)
            .size("K", k)
            .size("N", chunk.rows)
            .size("STRIDE", stride);
        kernel.variant.weights = chunk.run.ty;
        let size = Size::Tiles {
            x: chunk.rows.div_ceil(tile) as u32,
            rows: tokens,
        };
        let bytes = chunk.run.bytes * chunk.rows as u64 / chunk.run.rows as u64
            + (self.plan.max_rows * (k + chunk.rows)) as u64 * 4;
        self.push(&kernel, size, Rows::All, bytes, &entries)?;
        Ok(())
    }

    /// x, and its integers where the profile computes with them.
    fn last_input(
        &mut self,
        x: View,
        k: usize,
        chunks: &[(usize, Chunk)],
    ) -> Result<(Bound, Option<(Bound, Bound)>)> {
        let is_quantised = |c: &(usize, Chunk)| c.1.run.ty.is_quantised();
        let by_rows = self.device.profile == Profile::Cpu && chunks.iter().any(is_quantised);
        let integers = if by_rows {
            Some(self.quantise(x, k)?)
        } else {
            None
        };
        Ok((self.dense(x, "cross_entropy")?, integers))
    }

    fn cross_entropy(&mut self, id: NodeId, weight: WeightId) -> Result<()> {
        let (chunks, k) = self.vocabulary(weight)?;
        let (logits, stride) = self.chunk_logits(&chunks)?;
        let sums = self.room("sums over the vocabulary", self.plan.max_rows as u64 * 16)?;
        let (x, integers) = self.last_input(self.input(id, 0), k, &chunks)?;
        let out = self.bound(self.plan.view(id));
        for (first, chunk) in &chunks {
            let to = (logits.clone(), stride);
            self.logits_of(chunk, k, &x, integers.as_ref(), to)?;
            let kernel = self
                .reducing("cross_entropy", 256)
                .size("N", chunk.rows)
                .size("FIRST", *first)
                .size("STRIDE", stride);
            let entries = [
                (2, self.batch()),
                (3, logits.clone()),
                (4, sums.clone()),
                (6, out.clone()),
            ];
            let bytes = (self.plan.max_rows * chunk.rows) as u64 * 4;
            self.push(&kernel, Size::Tokens, Rows::All, bytes, &entries)?;
        }
        Ok(())
    }

    fn cross_entropy_grad(&mut self, id: NodeId, weight: WeightId) -> Result<()> {
        let (chunks, k) = self.vocabulary(weight)?;
        let (logits, stride) = self.chunk_logits(&chunks)?;
        let (x, integers) = self.last_input(self.input(id, 0), k, &chunks)?;
        let stats = self.dense(self.input(id, 1), "cross_entropy_grad")?;
        let dx = self.bound(self.plan.view(id));
        for (i, (first, chunk)) in chunks.iter().enumerate() {
            let to = (logits.clone(), stride);
            self.logits_of(chunk, k, &x, integers.as_ref(), to)?;
            let kernel = Kernel::new("cross_entropy_grad")
                .size("N", chunk.rows)
                .size("FIRST", *first)
                .size("STRIDE", stride);
            let entries = [(2, self.batch()), (3, logits.clone()), (4, stats.clone())];
            let bytes = (self.plan.max_rows * chunk.rows) as u64 * 8;
            let size = Size::Rows(groups(chunk.rows));
            self.push(&kernel, size, Rows::All, bytes, &entries)?;
            let dy = (logits.clone(), stride, 0);
            self.linear_grad_of(chunk, k, dy, dx.clone(), i > 0)?;
        }
        Ok(())
    }
}
