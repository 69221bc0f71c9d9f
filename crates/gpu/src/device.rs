use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use siskin_graph::{
    BLOCK_TOKENS, Capacity, Fusion, Graph, Op, Plan, Sampled, Sampling, StepInput, WeightKind,
};

use crate::adapter::Adapter;
use crate::batch::BatchBuffers;
use crate::opened::Opened;
use crate::prepared::{Extent, Prepared};
#[cfg(feature = "training")]
use crate::train::Training;
use crate::weights::GpuWeight;
use crate::{Counts, Error, Layout, LimitRequest, Profile, Result};

/// How many steps may be waiting for their chosen tokens to be read back.
const RING: usize = 4;

/// Of one sequence in the buffer of samples.
const SAMPLE_BYTES: u64 = 40;

/// Which plan runs a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Several tokens of one sequence.
    Prefill,
    /// One token.
    Decode,
    /// Tokens of several sequences, or several choices. Made when it is first needed.
    Several,
}

/// A GPU with weights, KV caches and prepared plans.
///
/// The methods run in this order: weights ([`Self::matrix`], [`Self::add_vector`]), [`Self::set_caches`],
/// [`Self::prepare`], then [`Self::step`], which submits work without waiting, and [`Self::take`], which waits for the
/// tokens that the oldest step chose. `siskin_engine::Session` does all of this.
///
/// ```
/// use siskin_formats::TensorType;
/// use siskin_gpu::{Error, GpuDevice};
/// use siskin_graph::{Capacity, Graph};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut gpu = match pollster::block_on(GpuDevice::open(None, None)) {
///     Err(Error::NoGpu) => return Ok(()),
///     opened => opened?,
/// };
/// // An embedding of 100 tokens in 32 dimensions, all of them 0.5.
/// let mut g = Graph::default();
/// let table = g.matrix("table", &[("table", 100)], 32);
/// let x = g.embed(table, 2.0);
/// g.output(x);
/// let mut upload = gpu.matrix("table", &[(TensorType::F32, 100)], 32)?;
/// upload.part(&0.5f32.to_le_bytes().repeat(100 * 32))?;
/// upload.finish()?;
/// gpu.set_caches(&g, Capacity::alone(16), false)?;
/// let outputs = pollster::block_on(gpu.evaluate(&g, &[7, 8], 0))?;
/// assert_eq!(outputs, [vec![1.0; 2 * 32]]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GpuDevice {
    pub(crate) opened: Arc<Opened>,
    pub(crate) profile: Profile,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) weights: HashMap<String, GpuWeight>,
    pub(crate) caches: Vec<(wgpu::Buffer, wgpu::Buffer)>,
    /// Recurrent states, and the copies of [`Self::keep_states`].
    pub(crate) states: Vec<wgpu::Buffer>,
    kept_states: Vec<wgpu::Buffer>,
    /// cos and sin of each position, by the name of their frequencies.
    pub(crate) tables: HashMap<String, wgpu::Buffer>,
    pub(crate) capacity: Capacity,
    pub(crate) kv_f32: bool,
    /// The step's uniform.
    pub(crate) step: wgpu::Buffer,
    /// The same for kernels over values that only last rows have.
    pub(crate) last_step: wgpu::Buffer,
    /// Token ids of the step; the first are those chosen last.
    pub(crate) tokens: wgpu::Buffer,
    /// Each row's place in its sequence, and from word `lists` on the blocks of all sequences (lib/rows.wgsl).
    pub(crate) rows: wgpu::Buffer,
    lists: usize,
    /// The blocks that were written last.
    written: Vec<u32>,
    /// How each sequence's token is chosen (lib/samples.wgsl).
    pub(crate) samples: wgpu::Buffer,
    /// The most tokens that a step chooses.
    pub(crate) max_samples: usize,
    /// For each slot a bit for each token id, set if its sequence contains it.
    pub(crate) seen: wgpu::Buffer,
    pub(crate) seen_words: usize,
    pub(crate) ring: wgpu::Buffer,
    /// What is bound where a kernel does not read.
    pub(crate) nothing: wgpu::Buffer,
    staging: Vec<wgpu::Buffer>,
    /// Where in the ring the next step's tokens go.
    slot: usize,
    /// Steps whose tokens are pending: their places in the ring, and how many tokens they chose.
    pending: VecDeque<(usize, usize)>,
    /// By [`Kind`].
    pub(crate) plans: [Option<Prepared>; 3],
    last: Kind,
    pub(crate) adapter: Adapter,
    #[cfg(feature = "training")]
    pub(crate) training: Training,
    /// What the plan that is being made reads, if it is for batches.
    pub(crate) batch: BatchBuffers,
    /// The plan over whole texts, and what it reads.
    pub(crate) texts: Option<(Prepared, BatchBuffers)>,
    pub(crate) counts: Counts,
}

impl GpuDevice {
    /// Opens the `index`-th GPU of [`gpus`](crate::gpus), or the most capable one, with its own profile or
    /// a forced one.
    ///
    /// # Errors
    /// If there is no such GPU, it cannot be opened, or it lacks the subgroups that the profile needs.
    pub async fn open(index: Option<usize>, profile: Option<Profile>) -> Result<Self> {
        Self::open_with(index, profile, LimitRequest::All).await
    }

    /// As [`Self::open`], with other limits than the adapter's.
    ///
    /// # Errors
    /// As [`Self::open`], and if the adapter does not have these limits.
    pub async fn open_with(
        index: Option<usize>,
        profile: Option<Profile>,
        limits: LimitRequest,
    ) -> Result<Self> {
        let opened = Opened::find_or_open(index, limits).await?;
        let profile = profile.unwrap_or(opened.profile);
        if profile.needs_subgroups() && !opened.has_subgroups() {
            return Err(Error::Profile {
                gpu: opened.name.clone(),
                profile,
            });
        }
        let (device, queue) = (opened.device.clone(), opened.queue.clone());
        let buffer = |what, size, usage| {
            let descriptor = wgpu::BufferDescriptor {
                label: Some(what),
                size,
                usage,
                mapped_at_creation: false,
            };
            device.create_buffer(&descriptor)
        };
        use wgpu::BufferUsages as Use;
        let state = Use::STORAGE | Use::COPY_DST | Use::COPY_SRC;
        let nothing = buffer("nothing", 16, state);
        Ok(Self {
            opened,
            profile,
            step: buffer("step", 16, Use::UNIFORM | Use::COPY_DST),
            last_step: buffer("step of last rows", 16, Use::UNIFORM | Use::COPY_DST),
            tokens: buffer("tokens", 16, state),
            rows: buffer("rows", 16, state),
            lists: 0,
            written: vec![],
            samples: buffer("samples", SAMPLE_BYTES, state),
            max_samples: 1,
            seen: buffer("seen", 16, state),
            seen_words: 0,
            ring: buffer("ring", 16, state),
            adapter: Adapter::none(&nothing),
            #[cfg(feature = "training")]
            training: Training::new(&nothing),
            batch: BatchBuffers::none(&nothing),
            texts: None,
            nothing,
            staging: vec![],
            device,
            queue,
            weights: HashMap::new(),
            caches: vec![],
            states: vec![],
            kept_states: vec![],
            tables: HashMap::new(),
            capacity: Capacity::alone(0),
            kv_f32: false,
            slot: 0,
            pending: VecDeque::new(),
            plans: [None, None, None],
            last: Kind::Prefill,
            counts: Counts::default(),
        })
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.opened.name
    }

    /// The profile whose kernels run.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether the GPU runs shaders on the CPU.
    pub fn is_software(&self) -> bool {
        self.opened.software
    }

    pub(crate) fn kv_bytes(&self) -> usize {
        if self.kv_f32 { 4 } else { 2 }
    }

    /// Creates empty caches, in f32 or f16, recurrent states, and the tables of rotations.
    ///
    /// # Errors
    /// If a layer's keys or states exceed the adapter's limit for one binding.
    pub fn set_caches(&mut self, graph: &Graph, capacity: Capacity, kv_f32: bool) -> Result<()> {
        self.capacity = capacity;
        // Step buffers are of this model.
        self.lists = 0;
        self.kv_f32 = kv_f32;
        self.caches.clear();
        // Their length is the context's, and another model's frequencies may have the same name.
        self.tables.clear();
        for cache in &graph.caches {
            let block = cache.n_kv_heads * BLOCK_TOKENS * cache.head_dim * self.kv_bytes();
            let bytes = (capacity.blocks * block) as u64;
            let pair = (self.storage("keys", bytes)?, self.storage("values", bytes)?);
            self.caches.push(pair);
        }
        self.states.clear();
        self.kept_states.clear();
        for len in &graph.states {
            let bytes = 4 * *len as u64;
            let pair = (
                self.storage("state", bytes)?,
                self.storage("kept state", bytes)?,
            );
            self.states.push(pair.0);
            self.kept_states.push(pair.1);
        }
        for node in &graph.nodes {
            let Op::Rope { spec, .. } = node.op else {
                continue;
            };
            let weight = graph.weight(spec.inv_freq);
            let WeightKind::Constant(freqs) = &weight.kind else {
                continue;
            };
            if self.tables.contains_key(&weight.name) {
                continue;
            }
            let table = self.rope_table(freqs, spec.scale, capacity.context)?;
            self.tables.insert(weight.name.clone(), table);
        }
        Ok(())
    }

    /// `scale` times cos and sin of each position times each frequency.
    pub(crate) fn rope_table(
        &mut self,
        freqs: &[f32],
        scale: f32,
        positions: usize,
    ) -> Result<wgpu::Buffer> {
        let turns: Vec<[f32; 2]> = (0..positions)
            .flat_map(|p| freqs.iter().map(move |f| (p as f32 * f).sin_cos()))
            .map(|(sin, cos)| [scale * cos, scale * sin])
            .collect();
        let table = self.storage("rope table", turns.len() as u64 * 8)?;
        self.queue
            .write_buffer(&table, 0, bytemuck::cast_slice(&turns));
        Ok(table)
    }

    /// Creates the plans, pipelines and bind groups of a graph, for steps of up to `rows` tokens and for decoding.
    ///
    /// # Errors
    /// If a weight is missing, an op has no kernel, or buffers exceed the adapter's limits or memory.
    pub fn prepare(&mut self, graph: Graph, rows: usize) -> Result<()> {
        self.make_step_buffers(&graph, rows)?;
        self.plans = [
            Some(self.lower_for(graph.clone(), rows, 1)?),
            Some(self.lower_for(graph, 1, 1)?),
            None,
        ];
        self.check()
    }

    /// The buffers of what a step reads and of what it chooses.
    fn make_step_buffers(&mut self, graph: &Graph, rows: usize) -> Result<()> {
        let Capacity {
            context,
            sequences,
            choices,
            ..
        } = self.capacity;
        self.max_samples = choices;
        self.seen_words = seen_words(graph);
        self.seen = self.storage("seen", (4 * sequences * self.seen_words) as u64)?;
        self.tokens = self.storage("tokens", rows as u64 * 4)?;
        self.lists = 3 * rows;
        let words = self.lists + sequences * context.div_ceil(BLOCK_TOKENS);
        self.rows = self.storage("rows", words as u64 * 4)?;
        self.written.clear();
        self.samples = self.storage("samples", choices as u64 * SAMPLE_BYTES)?;
        let bytes = choices as u64 * 4;
        self.ring = self.storage("ring", RING as u64 * bytes)?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = (0..RING).map(|_| self.buffer("chosen tokens", bytes, usage));
        self.staging = staging.collect();
        Ok(())
    }

    fn lower_for(&mut self, graph: Graph, rows: usize, samples: usize) -> Result<Prepared> {
        // Several tokens share a tile: norm and activation are computed once, separately.
        let single = rows == 1;
        let fusion = Fusion {
            norm: single,
            residual: true,
            gated: single,
            rope: true,
            // Its workgroups compute some values redundantly, which is cheap only on a GPU.
            attention: single && self.profile.layout == Layout::Shared,
        };
        let uniform: Vec<bool> = (0..graph.weights.len())
            .map(|i| self.is_one_run(&graph, siskin_graph::WeightId(i)))
            .collect();
        let plan = Plan::of_sequences(graph, [rows, samples], fusion, |w| uniform[w.0]);
        self.lower(plan, false)
    }

    /// Keeps a copy of the recurrent states, in place of the one before.
    pub fn keep_states(&mut self) {
        self.copy_states(&self.states, &self.kept_states);
    }

    /// Sets the recurrent states to those that were kept last.
    pub fn restore_states(&mut self) {
        self.copy_states(&self.kept_states, &self.states);
    }

    fn copy_states(&self, from: &[wgpu::Buffer], to: &[wgpu::Buffer]) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for (from, to) in from.iter().zip(to) {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        self.queue.submit([encoder.finish()]);
    }

    /// Copies a block of all caches over another one.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for cache in self.caches.iter().flat_map(|(keys, values)| [keys, values]) {
            let bytes = cache.size() / self.capacity.blocks as u64;
            let between = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("block"),
                size: bytes,
                usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            encoder.copy_buffer_to_buffer(cache, u64::from(from) * bytes, &between, 0, bytes);
            encoder.copy_buffer_to_buffer(&between, 0, cache, u64::from(to) * bytes, bytes);
        }
        self.queue.submit([encoder.finish()]);
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
        let (mut rows, mut lists) = (vec![], vec![]);
        for s in &step.sequences {
            let list = (self.lists + lists.len()) as u32;
            let positions = s.position as u32..s.end() as u32;
            rows.extend(positions.flat_map(|p| [p, list, s.slot as u32]));
            lists.extend(&s.blocks[..s.end().div_ceil(BLOCK_TOKENS)]);
        }
        let write = |at: usize, words: &[u32]| {
            self.queue
                .write_buffer(&self.rows, at as u64 * 4, bytemuck::cast_slice(words));
        };
        write(0, &rows);
        // They change once in a block's tokens.
        if self.written != lists {
            write(self.lists, &lists);
            self.written = lists;
        }
        let sample = |sampled: Sampled<'_>| -> [u32; 10] {
            let s = sampled.sampling;
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
            ]
        };
        let samples: Vec<_> = step.sampled().map(sample).collect();
        self.queue
            .write_buffer(&self.samples, 0, bytemuck::cast_slice(&samples));
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
        let Some(prepared) = self.plans[kind as usize].take() else {
            return Err(Error::Unsupported("a run before prepare".into()));
        };
        let result = self.run(&prepared, step);
        self.plans[kind as usize] = Some(prepared);
        self.last = kind;
        result
    }

    fn run(&mut self, prepared: &Prepared, step: &StepInput) -> Result<()> {
        let extent = Extent::of_step(step);
        let Capacity {
            context, blocks, ..
        } = self.capacity;
        let plan = &prepared.plan;
        let fits_plan = extent.rows <= plan.max_rows && extent.samples <= plan.max_samples;
        let fits_cache = plan.graph.caches.is_empty() || step.fits(blocks);
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
        let slot = self.slot;
        self.write_step(step, slot);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record(&mut encoder, prepared, extent);
        if extent.samples > 0 {
            let from = (4 * slot * self.max_samples) as u64;
            let bytes = 4 * extent.samples as u64;
            encoder.copy_buffer_to_buffer(&self.ring, from, &self.staging[slot], 0, bytes);
            self.pending.push_back((slot, extent.samples));
            self.slot = (slot + 1) % RING;
        }
        self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
        Ok(())
    }

    /// Waits for the tokens that the oldest step chose whose tokens have not been taken; with `logits`, the last step's
    /// logits, `[tokens, vocab]`, too.
    ///
    /// # Errors
    /// If no token is pending, or the GPU was lost or failed.
    pub async fn take(&mut self, logits: bool) -> Result<(Vec<u32>, Vec<f32>)> {
        let Some((slot, samples)) = self.pending.pop_front() else {
            return Err(Error::Unsupported("no token is pending".into()));
        };
        let staging = self.staging[slot].clone();
        let bytes = self.map(&staging, 4 * samples as u64).await?;
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

    /// All outputs of a graph for `tokens`, the first of them at `position`: `[tokens.len(), columns]` each. The plan
    /// is made for this call only.
    ///
    /// # Errors
    /// As [`Self::prepare`], and if the GPU was lost or failed.
    pub async fn evaluate(
        &mut self,
        graph: &Graph,
        tokens: &[u32],
        position: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let step = StepInput::alone(tokens, position, Some(Sampling::default()));
        let rows = tokens.len();
        if self.lists < 3 * rows {
            self.make_step_buffers(graph, rows)?;
        }
        let prepared = self.lower_for(graph.clone(), rows, 1)?;
        self.queue
            .write_buffer(&self.tokens, 0, bytemuck::cast_slice(tokens));
        self.write_step(&step, 0);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record(&mut encoder, &prepared, Extent::of_step(&step));
        self.queue.submit([encoder.finish()]);
        let mut out = vec![];
        for id in &graph.outputs {
            let view = prepared.plan.view(*id);
            out.push(self.read_view(&prepared.arena, view, rows).await?);
        }
        Ok(out)
    }
}

impl Drop for GpuDevice {
    /// Waits for what is in flight, so that the memory of unused buffers is released at once although
    /// wgpu's device is kept.
    fn drop(&mut self) {
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
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
