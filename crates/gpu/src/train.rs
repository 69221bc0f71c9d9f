//! Training on the GPU: batches, gradients, the optimiser.

use siskin_formats::dynamic_map;
use siskin_graph::{
    AdamW, Batch, BatchPart, BatchPlan, Fusion, MOMENT_BLOCK, MomentType, Moments, Plan,
    TrainingGraphs,
};

use crate::batch::BatchBuffers;
use crate::lower::Bound;
use crate::pipeline::Kernel;
use crate::prepared::Prepared;
use crate::{Error, GpuDevice, Result};

/// Workgroups that share the sum of squares.
const PARTIALS: u64 = 256;

/// The plans of the graphs of [`TrainingGraphs`].
#[derive(Debug, Default)]
struct Plans {
    learn: Option<Prepared>,
    score: Option<Prepared>,
    reference: Option<Prepared>,
}

impl Plans {
    fn of(&mut self, which: BatchPlan) -> &mut Option<Prepared> {
        match which {
            BatchPlan::Learn(_) => &mut self.learn,
            BatchPlan::Score => &mut self.score,
            BatchPlan::Reference => &mut self.reference,
        }
    }
}

/// The state of a training run on the device.
#[derive(Debug)]
pub(crate) struct Training {
    /// Of all parameters, in their order.
    pub grads: wgpu::Buffer,
    moment_type: MomentType,
    /// In f32, or the codes.
    moments: wgpu::Buffer,
    peaks: wgpu::Buffer,
    /// The values of the codes of both moments.
    maps: wgpu::Buffer,
    /// How many parameters there are.
    len: usize,
    batch: BatchBuffers,
    partials: wgpu::Buffer,
    norm: wgpu::Buffer,
    optimiser: wgpu::Buffer,
    plans: Plans,
    /// Whether the moments hold anything yet.
    has_moments: bool,
}

impl Training {
    pub fn new(nothing: &wgpu::Buffer) -> Self {
        let none = || nothing.clone();
        Self {
            grads: none(),
            moment_type: MomentType::F32,
            moments: none(),
            peaks: none(),
            maps: none(),
            len: 0,
            batch: BatchBuffers::none(nothing),
            partials: none(),
            norm: none(),
            optimiser: none(),
            plans: Plans::default(),
            has_moments: false,
        }
    }
}

impl GpuDevice {
    /// Creates plans for batches of up to `rows` tokens.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_training(
        &mut self,
        graphs: TrainingGraphs,
        rows: usize,
        moments: MomentType,
    ) -> Result<()> {
        let n = graphs.learn.params_len();
        self.training.len = n;
        self.training.grads = self.storage("gradients", n as u64 * 4)?;
        self.training.moment_type = moments;
        if moments == MomentType::Int8 {
            self.training.moments = self.storage("moments", 2 * n as u64)?;
            self.training.peaks = self.storage("peaks", (n / MOMENT_BLOCK) as u64 * 8)?;
            self.training.maps = self.storage("maps", 2048)?;
            let maps = [dynamic_map(true), dynamic_map(false)];
            self.queue
                .write_buffer(&self.training.maps, 0, bytemuck::cast_slice(&maps));
        } else {
            self.training.moments = self.storage("moments", 8 * n as u64)?;
        }
        self.training.has_moments = false;
        self.training.partials = self.storage("sums of squares", PARTIALS * 4)?;
        self.training.norm = self.storage("norm", 4)?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        self.training.optimiser = self.buffer("optimiser", 32, usage);
        let buffers = self.batch_buffers(&graphs.learn, rows)?;
        let mut prepare = |graph| {
            let plan = Plan::new(graph, rows, Fusion::NONE, |_| false);
            self.lower_batch(plan, &buffers)
        };
        self.training.plans = Plans {
            learn: Some(prepare(graphs.learn)?),
            score: Some(prepare(graphs.score)?),
            reference: graphs.reference.map(prepare).transpose()?,
        };
        self.training.batch = buffers;
        self.check()
    }

    /// Runs a batch; gradients are added to those there are. Returns each row's loss times its weight; nothing for
    /// gradients alone.
    ///
    /// # Errors
    /// If the plan was not prepared, the batch has more rows than it, or the GPU was lost or failed.
    pub async fn run_batch(&mut self, which: BatchPlan, batch: &Batch) -> Result<Vec<f32>> {
        let Some(prepared) = self.training.plans.of(which).take() else {
            return Err(Error::Unsupported("a batch before prepare_training".into()));
        };
        let buffers = self.training.batch.clone();
        let (loss_end, end) = (prepared.after_output, prepared.dispatches.len());
        let part = match which.part() {
            BatchPart::Whole => 0..end,
            BatchPart::Losses => 0..loss_end,
            BatchPart::Gradients => loss_end..end,
        };
        let submitted = self.submit_batch(&prepared, part, &buffers, batch);
        let view = prepared.plan.view(prepared.plan.graph.outputs[0]);
        let arena = prepared.arena.clone();
        *self.training.plans.of(which) = Some(prepared);
        let bytes = submitted?.rows as u64 * 8;
        if which.part() == BatchPart::Gradients {
            return Ok(vec![]);
        }
        let at = view.offset as u64 * 4;
        let losses: Vec<f32> = self.read_buffer(&arena, at, bytes).await?;
        self.counts.readbacks += 1;
        Ok(losses.into_iter().step_by(2).collect())
    }

    /// Updates the parameters by one step of AdamW, and clears the gradients. Returns their norm before clipping; if
    /// that is not finite, no parameter changes.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn optimise(&mut self, step: &AdamW) -> Result<f32> {
        let (rate, root) = step.corrections();
        let words = [
            rate,
            step.beta1,
            step.beta2,
            step.eps,
            1.0 - step.learning_rate * step.weight_decay,
            step.max_grad_norm,
            root,
            0.0,
        ];
        self.queue
            .write_buffer(&self.training.optimiser, 0, bytemuck::cast_slice(&words));
        let len = self.training.len;
        let reduce = self.profile.reduce;
        let kernel = |name, threads| {
            let mut kernel = Kernel::new(name).size("WG", threads).size("N", len);
            kernel.variant.reduce = reduce;
            kernel
        };
        let t = &self.training;
        let bound = |b: &wgpu::Buffer| Bound::from(b.clone());
        let (grads, partials, norm) = (bound(&t.grads), bound(&t.partials), t.norm.clone());
        let sum = [(3, grads.clone()), (6, partials.clone())];
        let mut update = vec![
            (0, bound(&t.optimiser)),
            (3, grads),
            (4, bound(&t.moments)),
            (5, bound(&self.adapter.params)),
            (6, partials),
            (7, bound(&norm)),
        ];
        // One workgroup for 256 parameters, whichever it is.
        let update_kernel = match t.moment_type {
            MomentType::F32 => kernel("adamw", 256),
            MomentType::Int8 => {
                update.extend([(1, bound(&t.maps)), (8, bound(&t.peaks))]);
                kernel("adamw_8bit", MOMENT_BLOCK / 4)
            }
        };
        let groups = len.div_ceil(256);
        let y = groups.div_ceil(65_535).max(1);
        let sizes = [[PARTIALS as u32, 1], [groups.div_ceil(y) as u32, y as u32]];
        let kernels = [
            (kernel("square_sum", 256), &sum[..]),
            (update_kernel, &update[..]),
        ];
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for ((kernel, entries), [x, y]) in kernels.into_iter().zip(sizes) {
            let pipeline = self.opened.pipeline(&kernel)?;
            let group = self.bind_group(&pipeline, entries);
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, 1);
            self.counts.dispatches += 1;
        }
        self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
        let norm: Vec<f32> = self.read_buffer(&norm, 0, 4).await?;
        self.counts.readbacks += 1;
        self.training.has_moments |= norm[0].is_finite();
        self.adapter.are_stale = true;
        Ok(norm[0])
    }

    /// The gradients of all parameters, accumulated since the last step of the optimiser.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn grads(&mut self) -> Result<Vec<f32>> {
        let grads = self.training.grads.clone();
        self.read_buffer(&grads, 0, self.training.len as u64 * 4)
            .await
    }

    /// Clears the gradients.
    pub fn forget_gradients(&mut self) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.training.grads, 0, None);
        self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
    }

    /// Parameters and their moments; no moments before the first step.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn training_state(&mut self) -> Result<(Vec<f32>, Moments)> {
        let t = &self.training;
        let (n, ty, has_moments) = (t.len as u64, t.moment_type, t.has_moments);
        let (params, moments, peaks) = (
            self.adapter.params.clone(),
            t.moments.clone(),
            t.peaks.clone(),
        );
        let params = self.read_buffer(&params, 0, 4 * n).await?;
        let moments = match ty {
            _ if !has_moments => Moments::default(),
            MomentType::F32 => Moments::F32(self.read_buffer(&moments, 0, 8 * n).await?),
            MomentType::Int8 => Moments::Int8 {
                codes: self.read_buffer(&moments, 0, 2 * n).await?,
                peaks: self
                    .read_buffer(&peaks, 0, n / MOMENT_BLOCK as u64 * 8)
                    .await?,
            },
        };
        Ok((params, moments))
    }

    /// Continues from such a state, whose moments are empty or of the type that was prepared for.
    ///
    /// # Errors
    /// If the parameters exceed the adapter's limits.
    pub fn set_training_state(&mut self, params: &[f32], moments: &Moments) -> Result<()> {
        let t = &self.training;
        self.queue
            .write_buffer(&self.adapter.params, 0, bytemuck::cast_slice(params));
        match moments {
            Moments::F32(moments) => {
                self.queue
                    .write_buffer(&t.moments, 0, bytemuck::cast_slice(moments));
            }
            Moments::Int8 { codes, peaks } => {
                self.queue.write_buffer(&t.moments, 0, codes);
                self.queue
                    .write_buffer(&t.peaks, 0, bytemuck::cast_slice(peaks));
            }
        }
        self.training.has_moments = !moments.is_empty();
        self.adapter.are_stale = true;
        Ok(())
    }
}
