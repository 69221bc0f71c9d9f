//! Steps of one or several sequences: what kernels read of them, running them, and the tokens that they choose.

use siskin_graph::{BLOCK_TOKENS, Capacity, Graph, Op, Sampled, StepInput};

use crate::device::Kind;
use crate::prepared::{Choosing, Extent, Prepared};
use crate::{Error, GpuDevice, Result};

/// How many steps may be waiting for their chosen tokens to be read back.
const RING: usize = 4;

/// Of one row in the buffer of rows (lib/rows.wgsl).
pub(crate) const ROW_WORDS: usize = 4;

/// The binding of what is added to logits (choose.wgsl).
pub(crate) const ADDED: u32 = 2;
/// Bytes of each token there.
const ADDED_BYTES: usize = 8;

/// Of one choice in the buffer of samples.
const SAMPLE_WORDS: usize = 13;

/// A step whose tokens have not been taken.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Its place in the ring.
    slot: usize,
    /// How many tokens it chose.
    samples: usize,
    submitted: wgpu::SubmissionIndex,
}

impl GpuDevice {
    /// The buffers of what a step reads and of what it chooses.
    pub(crate) fn make_step_buffers(&mut self, graph: &Graph, rows: usize) -> Result<()> {
        let Capacity {
            context,
            sequences,
            choices,
            ..
        } = self.capacity;
        self.max_samples = choices;
        self.seen_words = seen_words(graph);
        let sets = (4 * sequences * self.seen_words) as u64;
        self.seen = self.storage("seen", sets)?;
        self.allowed = self.storage("allowed", sets)?;
        self.tokens = self.storage("tokens", rows as u64 * 4)?;
        self.lists = ROW_WORDS * rows;
        let words = self.lists + sequences * context.div_ceil(BLOCK_TOKENS);
        self.rows = self.storage("rows", words as u64 * 4)?;
        self.windowed_rows = match self.capacity.windowed {
            Some(_) => self.storage("rows in windows", words as u64 * 4)?,
            None => self.nothing.clone(),
        };
        self.written = Default::default();
        self.samples = self.storage("samples", (4 * choices * SAMPLE_WORDS) as u64)?;
        let bytes = choices as u64 * 4;
        self.ring = self.storage("ring", RING as u64 * bytes)?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = (0..RING).map(|_| self.buffer("chosen tokens", bytes, usage));
        self.staging = staging.collect();
        Ok(())
    }

    /// The uniforms of a run: rows of values that all rows have, and of those that only last rows have.
    pub(crate) fn write_uniforms(&mut self, rows: [usize; 2], seed: u32, slot: usize) {
        for (buffer, rows) in [&self.step, &self.last_step].into_iter().zip(rows) {
            let words = [rows as u32, seed, slot as u32, 0];
            self.queue
                .write_buffer(buffer, 0, bytemuck::cast_slice(&words));
        }
    }

    /// What kernels read of a step, apart from its tokens.
    pub(crate) fn write_step(&mut self, step: &StepInput, slot: usize) {
        self.write_uniforms([step.rows(), step.samples()], 0, slot);
        for windowed in [false, true] {
            let buffer = match windowed {
                false => &self.rows,
                true if self.capacity.windowed.is_some() => &self.windowed_rows,
                true => continue,
            };
            let (mut rows, mut lists) = (vec![], vec![]);
            for s in &step.sequences {
                let list = (self.lists + lists.len()) as u32;
                let positions = s.position as u32..s.end() as u32;
                let adapter = s.adapter.unwrap_or(u32::MAX);
                rows.extend(positions.flat_map(|p| [p, list, s.slot as u32, adapter]));
                lists.extend(&s.list(windowed)[..s.end().div_ceil(BLOCK_TOKENS)]);
            }
            let write = |at: usize, words: &[u32]| {
                self.queue
                    .write_buffer(buffer, at as u64 * 4, bytemuck::cast_slice(words));
            };
            write(0, &rows);
            // They change once in a block's tokens.
            let written = &mut self.written[usize::from(windowed)];
            if *written != lists {
                write(self.lists, &lists);
                *written = lists;
            }
        }
        let mut added: Vec<[u32; 2]> = vec![];
        let mut sample = |sampled: Sampled<'_>| -> [u32; SAMPLE_WORDS] {
            let s = sampled.sampling;
            let first_added = added.len();
            added.extend(sampled.added.iter().map(|(id, v)| [*id, v.to_bits()]));
            [
                sampled.row as u32,
                sampled.slot as u32,
                sampled.position as u32,
                s.top_k,
                s.seed as u32,
                (s.seed >> 32) as u32,
                s.temperature.to_bits(),
                s.top_p.to_bits(),
                s.min_p.to_bits(),
                s.repeat_penalty.to_bits(),
                u32::from(sampled.allowed.is_some()),
                first_added as u32,
                sampled.added.len() as u32,
            ]
        };
        for s in &step.sequences {
            if let Some(allowed) = &s.allowed {
                let mut words = allowed.clone();
                words.resize(self.seen_words, 0);
                let at = (4 * s.slot * self.seen_words) as u64;
                self.queue
                    .write_buffer(&self.allowed, at, bytemuck::cast_slice(&words));
            }
        }
        let samples: Vec<_> = step.sampled().map(&mut sample).collect();
        self.queue
            .write_buffer(&self.samples, 0, bytemuck::cast_slice(&samples));
        if !added.is_empty() {
            self.queue
                .write_buffer(&self.added, 0, bytemuck::cast_slice(&added));
        }
    }

    /// Lets a plan add to as many logits as the step does.
    fn make_room_for_added(&mut self, prepared: &mut Prepared, step: &StepInput) -> Result<()> {
        let n: usize = step.sampled().map(|s| s.added.len()).sum();
        if n == 0 {
            return Ok(());
        }
        let needed = (ADDED_BYTES * n) as u64;
        if needed > self.added.size() {
            self.added = self.storage("added to logits", needed.next_power_of_two().max(1024))?;
        }
        let Some(Choosing { dispatch, entries }) = &mut prepared.choosing else {
            return Ok(());
        };
        let bound = entries.iter_mut().find(|(binding, _)| *binding == ADDED);
        if let Some((_, bound)) = bound.filter(|(_, bound)| bound.buffer != self.added) {
            *bound = self.added.clone().into();
            let choosing = &mut prepared.dispatches[*dispatch];
            choosing.bind_group = self.bind_group(&choosing.pipeline, entries);
        }
        Ok(())
    }

    /// Runs some tokens of one or several sequences. The tokens that it chooses are to be [taken](Self::take). Recurrent
    /// states must be those after the tokens before, and are cleared at position 0.
    ///
    /// # Errors
    /// If nothing was prepared, or the step does not fit the plan or the caches.
    pub fn step(&mut self, step: &StepInput) -> Result<()> {
        let kind = match (step.rows(), step.sequences.len(), step.samples()) {
            (1, ..) => Kind::Decode,
            (_, 1, 0 | 1) => Kind::Prefill,
            _ => Kind::Several,
        };
        if kind == Kind::Several && self.plans[kind as usize].is_none() {
            let prefill = self.plans[Kind::Prefill as usize].as_ref();
            let plan = prefill.map(|p| (p.plan.graph.clone(), p.plan.max_rows));
            if let Some((graph, rows)) = plan {
                self.plans[kind as usize] = Some(self.lower_for(graph, rows, self.max_samples)?);
            }
        }
        let Some(mut prepared) = self.plans[kind as usize].take() else {
            return Err(Error::Unsupported("a run before prepare".into()));
        };
        let result = self.run(&mut prepared, step);
        self.plans[kind as usize] = Some(prepared);
        self.last = kind;
        result
    }

    fn run(&mut self, prepared: &mut Prepared, step: &StepInput) -> Result<()> {
        let extent = Extent::of_step(step);
        let context = self.capacity.context;
        let plan = &prepared.plan;
        let fits_plan = extent.rows <= plan.max_rows && extent.samples <= plan.max_samples;
        let fits_cache = plan.graph.caches.is_empty() || step.fits(self.capacity);
        if !fits_plan || !fits_cache || step.sequences.iter().any(|s| s.end() > context) {
            return Err(Error::ContextFull {
                rows: extent.rows,
                position: step.sequences.first().map_or(0, |s| s.position),
                context,
            });
        }
        if !self.states.is_empty() && step.sequences.len() != 1 {
            return Err(Error::Unsupported(
                "several sequences of a model with recurrent states".into(),
            ));
        }
        if let Some(tokens) = &step.tokens {
            self.queue
                .write_buffer(&self.tokens, 0, bytemuck::cast_slice(tokens));
        }
        self.make_room_for_added(prepared, step)?;
        let slot = self.slot;
        self.write_step(step, slot);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record(&mut encoder, prepared, extent);
        if extent.samples > 0 {
            let from = (4 * slot * self.max_samples) as u64;
            let bytes = 4 * extent.samples as u64;
            encoder.copy_buffer_to_buffer(&self.ring, from, &self.staging[slot], 0, bytes);
        }
        let submitted = self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
        if extent.samples > 0 {
            self.pending.push_back(Pending {
                slot,
                samples: extent.samples,
                submitted,
            });
            self.slot = (slot + 1) % RING;
        }
        Ok(())
    }

    /// Waits for the tokens that the oldest step chose whose tokens have not been taken; with `logits`, the last step's
    /// logits, `[tokens, vocab]`, too.
    ///
    /// # Errors
    /// If no token is pending, or the GPU was lost or failed.
    pub async fn take(&mut self, logits: bool) -> Result<(Vec<u32>, Vec<f32>)> {
        let Some(Pending {
            slot,
            samples,
            submitted,
        }) = self.pending.pop_front()
        else {
            return Err(Error::Unsupported("no token is pending".into()));
        };
        let staging = self.staging[slot].clone();
        let bytes = self.map(&staging, 4 * samples as u64, submitted).await?;
        self.counts.readbacks += 1;
        let tokens = bytemuck::pod_collect_to_vec(&bytes);
        let Some(prepared) = self.plans[self.last as usize].as_ref().filter(|_| logits) else {
            return Ok((tokens, vec![]));
        };
        let view = prepared.plan.view(prepared.plan.graph.outputs[0]);
        let arena = prepared.arena.clone();
        let logits = self.read_view(&arena, view, samples).await?;
        Ok((tokens, logits))
    }

    /// Waits for the chosen tokens that have not been taken, and drops them.
    ///
    /// # Errors
    /// If the GPU was lost or failed.
    pub async fn discard(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.take(false).await?;
        }
        Ok(())
    }

    /// Sets which tokens are in the sequence of a slot, for the repeat penalty.
    pub fn set_seen(&mut self, slot: usize, tokens: &[u32]) {
        let mut bits = vec![0u32; self.seen_words];
        for id in tokens {
            bits[*id as usize / 32] |= 1 << (id % 32);
        }
        let at = (4 * slot * self.seen_words) as u64;
        self.queue
            .write_buffer(&self.seen, at, bytemuck::cast_slice(&bits));
    }
}

/// Words of a bit for each token that a graph reads or chooses.
fn seen_words(graph: &Graph) -> usize {
    let tokens = graph.nodes.iter().map(|n| match n.op {
        Op::Embed { table, .. } => graph.weight(table).rows(),
        Op::Choose => graph.node(n.inputs[0]).cols,
        _ => 0,
    });
    tokens.max().unwrap_or(0).div_ceil(32)
}
