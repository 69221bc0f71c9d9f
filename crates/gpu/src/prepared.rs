//! Plans that are ready to run, and running them.

use std::ops::Range;

use siskin_formats::sort_by;
use siskin_graph::{Plan, Rows, Sampling, SequenceRows, StepInput};

use crate::device::Kind;
use crate::lower::Bindings;
use crate::pipeline::Kernel;
use crate::{GpuDevice, KernelTime};

/// Adapters of which a step's sequences can have one each.
pub(crate) const MAX_ADAPTERS: u32 = u64::BITS;

/// How many workgroups a dispatch has, given the step's number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Fixed([u32; 3]),
    /// One per token.
    Tokens,
    /// x, and one per token.
    Rows(u32),
    /// x and y, and one per token.
    Planes([u32; 2]),
    /// x, and one per `rows` tokens.
    Tiles {
        x: u32,
        rows: u32,
    },
    /// One for each `group` of the blocks, of which a token has `per_row`.
    Blocks {
        per_row: u32,
        group: u32,
    },
}

impl Size {
    fn groups(self, rows: u32) -> [u32; 3] {
        match self {
            Self::Fixed(groups) => groups,
            Self::Tokens => [rows, 1, 1],
            Self::Rows(x) => [x, rows, 1],
            Self::Planes([x, y]) => [x, y, rows],
            Self::Tiles { x, rows: tile } => [x, rows.div_ceil(tile), 1],
            Self::Blocks { per_row, group } => [(per_row * rows).div_ceil(group), 1, 1],
        }
    }
}

/// What a run is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub rows: usize,
    /// Tokens that are chosen.
    pub samples: usize,
    /// Sequences or texts.
    pub segments: usize,
    /// Whether a sequence begins, so that recurrent states are cleared.
    pub begins: bool,
    /// Tokens of all sequences, these rows included.
    pub tokens: usize,
    /// The adapters of these sequences, a bit each.
    pub adapters: u64,
}

impl Extent {
    pub fn of_step(step: &StepInput) -> Self {
        let sequences = &step.sequences;
        Self {
            rows: step.rows(),
            samples: step.samples(),
            segments: sequences.len(),
            begins: sequences.iter().any(|s| s.position == 0),
            tokens: sequences.iter().map(SequenceRows::end).sum(),
            adapters: (sequences.iter().filter_map(|s| s.adapter))
                .fold(0, |all, a| all | 1u64.unbounded_shl(a)),
        }
    }

    /// Something that does not depend on rows.
    pub fn once() -> Self {
        Self::of_texts(1, 1)
    }

    /// Whole texts.
    pub fn of_texts(rows: usize, segments: usize) -> Self {
        Self {
            rows,
            samples: 1,
            segments,
            begins: true,
            tokens: rows,
            adapters: 0,
        }
    }

    /// How many rows a value has.
    pub fn of(self, rows: Rows) -> usize {
        match rows {
            Rows::All => self.rows,
            Rows::Last => self.samples,
            Rows::Segments => self.segments,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Dispatch {
    pub kernel: Kernel,
    pub pipeline: wgpu::ComputePipeline,
    pub bind_group: wgpu::BindGroup,
    pub size: Size,
    /// Bytes it reads and writes, apart from the KV cache.
    pub bytes: u64,
    /// Whether it runs for all tokens, for the last row only, or for each segment.
    pub rows: Rows,
    /// It is needed only if a sequence of the step has this adapter.
    pub adapter: Option<u32>,
    /// Bytes per token that it reads from the KV cache, and the window.
    pub kv: Option<(u64, Option<usize>)>,
}

#[derive(Debug)]
pub(crate) struct Prepared {
    pub plan: Plan,
    pub arena: wgpu::Buffer,
    /// Dispatches that compute DoRA's factors, run before all others once the parameters have changed.
    pub factors: Vec<Dispatch>,
    pub dispatches: Vec<Dispatch>,
    /// The first of the dispatches after those of the first output.
    pub after_output: usize,
    pub choosing: Option<Choosing>,
}

/// The dispatch that chooses tokens, whose bind group changes when more is to be added to logits than ever before.
#[derive(Debug)]
pub(crate) struct Choosing {
    pub dispatch: usize,
    pub entries: Bindings,
}

impl Dispatch {
    fn is_needed(&self, extent: Extent) -> bool {
        self.adapter
            .is_none_or(|a| extent.adapters & 1u64.unbounded_shl(a) != 0)
    }

    fn bytes_of(&self, extent: Extent) -> u64 {
        let kv = self.kv.map_or(0, |(bytes, window)| {
            let most = window.map_or(usize::MAX, |w| w * extent.segments);
            bytes * extent.tokens.min(most) as u64
        });
        self.bytes + kv
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>, extent: Extent) {
        let [x, y, z] = self.size.groups(extent.of(self.rows) as u32);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl GpuDevice {
    /// Records a prepared plan's dispatches; those for last rows only if tokens are chosen.
    pub(crate) fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        prepared: &Prepared,
        extent: Extent,
    ) {
        self.record_part(encoder, prepared, 0..prepared.dispatches.len(), extent);
    }

    /// Records some of a prepared plan's dispatches.
    pub(crate) fn record_part(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        prepared: &Prepared,
        part: Range<usize>,
        extent: Extent,
    ) {
        if extent.begins {
            let states = self.states.iter();
            states.for_each(|state| encoder.clear_buffer(state, 0, None));
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        self.record_factors(&mut pass, prepared);
        for dispatch in &prepared.dispatches[part] {
            if extent.samples == 0 && dispatch.rows == Rows::Last {
                break;
            }
            if !dispatch.is_needed(extent) {
                continue;
            }
            dispatch.record(&mut pass, extent);
            self.counts.dispatches += 1;
            self.counts.bytes_bound += dispatch.bytes_of(extent);
        }
    }

    /// Computes DoRA's factors if the parameters have changed.
    pub(crate) fn record_factors(&mut self, pass: &mut wgpu::ComputePass<'_>, prepared: &Prepared) {
        // A plan without magnitudes leaves them to the one that has them.
        if prepared.factors.is_empty() || !std::mem::take(&mut self.adapter.are_stale) {
            return;
        }
        for dispatch in &prepared.factors {
            dispatch.record(pass, Extent::once());
            self.counts.dispatches += 1;
            self.counts.bytes_bound += dispatch.bytes;
        }
    }

    /// Runs a decode step with a timestamp around each dispatch; `None` if the GPU has no timestamps, or nothing
    /// was prepared. Dispatches are timed one after another, while in normal operation a driver may overlap them.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn time_decode(&mut self, position: usize) -> crate::Result<Option<Vec<KernelTime>>> {
        let has_timestamps = self
            .device
            .features()
            .contains(wgpu::Features::TIMESTAMP_QUERY);
        if !has_timestamps {
            return Ok(None);
        }
        let Some(prepared) = self.plans[Kind::Decode as usize].take() else {
            return Ok(None);
        };
        let times = self.time(&prepared, position).await;
        self.plans[Kind::Decode as usize] = Some(prepared);
        times.map(Some)
    }

    async fn time(
        &mut self,
        prepared: &Prepared,
        position: usize,
    ) -> crate::Result<Vec<KernelTime>> {
        let step = StepInput::alone(&[0], position, Some(Sampling::default()));
        let step = step.within(self.capacity);
        let extent = Extent::of_step(&step);
        let needed = prepared.dispatches.iter().filter(|d| d.is_needed(extent));
        let needed: Vec<&Dispatch> = needed.collect();
        let n = needed.len() as u32;
        let queries = self.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2 * n,
        });
        let bytes = u64::from(2 * n) * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.buffer("timestamps", bytes, usage);
        self.write_step(&step, 0);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for (i, dispatch) in needed.iter().enumerate() {
            let i = i as u32;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * i),
                    end_of_pass_write_index: Some(2 * i + 1),
                }),
            });
            dispatch.record(&mut pass, extent);
        }
        encoder.resolve_query_set(&queries, 0..2 * n, &resolved, 0);
        self.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = self.read_buffer(&resolved, 0, bytes).await?;
        let period = f64::from(self.queue.get_timestamp_period());
        let mut times: Vec<KernelTime> = vec![];
        for (dispatch, pair) in needed.iter().zip(ticks.chunks_exact(2)) {
            let microseconds = pair[1].saturating_sub(pair[0]) as f64 * period / 1000.0;
            let bytes = dispatch.bytes_of(extent);
            match times
                .iter_mut()
                .find(|t| t.kernel == dispatch.kernel.label())
            {
                Some(t) => {
                    t.dispatches += 1;
                    t.microseconds += microseconds;
                    t.bytes += bytes;
                }
                None => times.push(KernelTime {
                    kernel: dispatch.kernel.label(),
                    dispatches: 1,
                    microseconds,
                    bytes,
                }),
            }
        }
        sort_by(&mut times, &mut |a, b| {
            b.microseconds.total_cmp(&a.microseconds)
        });
        Ok(times)
    }
}
