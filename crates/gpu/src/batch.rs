//! Runs over batches of whole texts: in training, and to embed them.

use std::collections::HashMap;
use std::ops::Range;

use siskin_graph::{Batch, Fusion, Graph, Op, Plan, WeightKind};

use crate::prepared::{Extent, Prepared};
use crate::{Error, GpuDevice, Result};

/// What the plans for one kind of batches read: of each row its token and its place, and tables of rotations.
#[derive(Debug, Clone)]
pub(crate) struct BatchBuffers {
    pub tokens: wgpu::Buffer,
    /// Position, target, weight, and the end and number of its segment.
    pub rows: wgpu::Buffer,
    pub positions: wgpu::Buffer,
    /// Which of two texts it belongs to.
    pub kinds: wgpu::Buffer,
    /// cos and sin of each position of a batch, by the name of their frequencies.
    pub tables: HashMap<String, wgpu::Buffer>,
}

impl BatchBuffers {
    pub fn none(nothing: &wgpu::Buffer) -> Self {
        let none = || nothing.clone();
        Self {
            tokens: none(),
            rows: none(),
            positions: none(),
            kinds: none(),
            tables: HashMap::new(),
        }
    }
}

impl GpuDevice {
    /// Buffers for batches of up to `rows` tokens.
    pub(crate) fn batch_buffers(&mut self, graph: &Graph, rows: usize) -> Result<BatchBuffers> {
        let n = rows as u64;
        let mut buffers = BatchBuffers {
            tokens: self.storage("tokens", n * 4)?,
            rows: self.storage("batch", n * 20)?,
            positions: self.storage("positions", n * 4)?,
            kinds: self.storage("kinds of texts", n * 4)?,
            tables: HashMap::new(),
        };
        for node in &graph.nodes {
            let Op::Rope { spec, .. } = node.op else {
                continue;
            };
            let weight = graph.weight(spec.inv_freq);
            let (WeightKind::Constant(freqs), false) =
                (&weight.kind, buffers.tables.contains_key(&weight.name))
            else {
                continue;
            };
            let table = self.rope_table(freqs, spec.scale, rows)?;
            buffers.tables.insert(weight.name.clone(), table);
        }
        Ok(buffers)
    }

    /// Pipelines and bind groups of a plan that reads these buffers.
    pub(crate) fn lower_batch(&mut self, plan: Plan, buffers: &BatchBuffers) -> Result<Prepared> {
        // Batches may be longer than prefills: they have their own tokens to embed.
        let before = std::mem::replace(&mut self.tokens, buffers.tokens.clone());
        self.batch = buffers.clone();
        let prepared = self.lower(plan, true);
        self.tokens = before;
        prepared
    }

    /// Runs some of a prepared plan's dispatches over a batch.
    ///
    /// # Errors
    /// If the batch has more rows than the plan.
    pub(crate) fn submit_batch(
        &mut self,
        prepared: &Prepared,
        part: Range<usize>,
        buffers: &BatchBuffers,
        batch: &Batch,
    ) -> Result<Extent> {
        let rows = batch.rows();
        if rows > prepared.plan.max_rows {
            return Err(Error::ContextFull {
                rows,
                position: 0,
                context: prepared.plan.max_rows,
            });
        }
        let mut info: Vec<[u32; 5]> = vec![];
        let mut segments = 0;
        for (at, segment) in batch.segments().enumerate() {
            let row = |t: usize| {
                let target = batch.targets.get(t).copied().unwrap_or_default();
                let weight = batch.weights.get(t).copied().unwrap_or_default().to_bits();
                let end = segment.end as u32;
                [batch.positions[t], target, weight, end, at as u32]
            };
            info.extend(segment.clone().map(row));
            segments = at + 1;
        }
        let mut kinds = batch.kinds.clone();
        kinds.resize(rows, 0);
        self.queue
            .write_buffer(&buffers.rows, 0, bytemuck::cast_slice(&info));
        for (buffer, ids) in [
            (&buffers.tokens, &batch.tokens),
            (&buffers.positions, &batch.positions),
            (&buffers.kinds, &kinds),
        ] {
            self.queue
                .write_buffer(buffer, 0, bytemuck::cast_slice(ids));
        }
        self.write_uniforms([rows, 1], batch.seed, 0);
        let extent = Extent::of_texts(rows, segments);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record_part(&mut encoder, prepared, part, extent);
        self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
        Ok(extent)
    }

    /// Creates the plan of a graph over whole texts, for batches of up to `rows` tokens.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_texts(&mut self, graph: Graph, rows: usize) -> Result<()> {
        let buffers = self.batch_buffers(&graph, rows)?;
        let fusion = Fusion {
            residual: true,
            ..Fusion::NONE
        };
        let plan = Plan::new(graph, rows, fusion, |_| false);
        let prepared = self.lower_batch(plan, &buffers)?;
        self.texts = Some((prepared, buffers));
        self.check()
    }

    /// Runs the plan over the texts of a batch. Returns all outputs of its graph: `[rows, columns]` each, with a row for
    /// each token or for each segment.
    ///
    /// # Errors
    /// If nothing was prepared, the batch has more rows than the plan, or the GPU was lost or failed.
    pub async fn run_texts(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let Some((prepared, buffers)) = self.texts.take() else {
            return Err(Error::Unsupported("a batch before prepare_texts".into()));
        };
        let all = 0..prepared.dispatches.len();
        let submitted = self.submit_batch(&prepared, all, &buffers, batch);
        let mut views = vec![];
        for id in &prepared.plan.graph.outputs {
            views.push(prepared.plan.view(*id));
        }
        let arena = prepared.arena.clone();
        self.texts = Some((prepared, buffers));
        let extent = submitted?;
        let mut out = vec![];
        for view in views {
            out.push(self.read_view(&arena, view, extent.of(view.rows)).await?);
            self.counts.readbacks += 1;
        }
        Ok(out)
    }
}
