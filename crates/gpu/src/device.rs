use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use siskin_graph::{Fusion, Graph, Op, Plan, Sampling, WeightKind};

use crate::adapter::Adapter;
use crate::batch::BatchBuffers;
use crate::opened::Opened;
use crate::prepared::{Extent, Prepared};
#[cfg(feature = "training")]
use crate::train::Training;
use crate::weights::GpuWeight;
use crate::{Counts, Error, Layout, LimitRequest, Profile, Result};

/// How many chosen tokens may be waiting to be read back.
const RING: usize = 4;

/// A GPU with weights, KV caches and prepared plans.
///
/// The methods run in this order: weights ([`Self::matrix`], [`Self::add_vector`]), [`Self::set_context`],
/// [`Self::prepare`], then [`Self::prefill`] and [`Self::decode`], which submit work without waiting, and
/// [`Self::take`], which waits for the token that was chosen first. `siskin_engine::Session` does all of this.
///
/// ```
/// use siskin_formats::TensorType;
/// use siskin_gpu::{Error, GpuDevice};
/// use siskin_graph::Graph;
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
/// gpu.set_context(&g, 16, false)?;
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
    pub(crate) context: usize,
    pub(crate) kv_f32: bool,
    /// The step's uniform.
    pub(crate) step: wgpu::Buffer,
    /// Token ids of the step; the first is the one chosen last.
    pub(crate) tokens: wgpu::Buffer,
    /// A bit for each token id, set if the context contains it.
    pub(crate) seen: wgpu::Buffer,
    pub(crate) ring: wgpu::Buffer,
    /// What is bound where a kernel does not read.
    pub(crate) nothing: wgpu::Buffer,
    staging: Vec<wgpu::Buffer>,
    slot: usize,
    /// Slots of pending tokens, oldest first.
    pending: VecDeque<usize>,
    pub(crate) prefill: Option<Prepared>,
    pub(crate) decode: Option<Prepared>,
    last_was_decode: bool,
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
        let staging = (0..RING).map(|_| buffer("token", 16, Use::MAP_READ | Use::COPY_DST));
        Ok(Self {
            opened,
            profile,
            step: buffer("step", 64, Use::UNIFORM | Use::COPY_DST),
            tokens: buffer("tokens", 16, state),
            seen: buffer("seen", 16, state),
            ring: buffer("ring", 4 * RING as u64, state),
            adapter: Adapter::none(&nothing),
            #[cfg(feature = "training")]
            training: Training::new(&nothing),
            batch: BatchBuffers::none(&nothing),
            texts: None,
            nothing,
            staging: staging.collect(),
            device,
            queue,
            weights: HashMap::new(),
            caches: vec![],
            states: vec![],
            kept_states: vec![],
            tables: HashMap::new(),
            context: 0,
            kv_f32: false,
            slot: 0,
            pending: VecDeque::new(),
            prefill: None,
            decode: None,
            last_was_decode: false,
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

    /// Creates empty caches for `context` tokens, in f32 or f16, recurrent states, and the tables of rotations.
    ///
    /// # Errors
    /// If a layer's keys or states exceed the adapter's limit for one binding.
    pub fn set_context(&mut self, graph: &Graph, context: usize, kv_f32: bool) -> Result<()> {
        self.context = context;
        self.kv_f32 = kv_f32;
        self.caches.clear();
        // Their length is the context's, and another model's frequencies may have the same name.
        self.tables.clear();
        for cache in &graph.caches {
            let bytes = (cache.n_kv_heads * cache.head_dim * context * self.kv_bytes()) as u64;
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
            let table = self.rope_table(freqs, spec.scale, context)?;
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

    /// Creates the plans, pipelines and bind groups of a graph, for prefills of up to `rows` tokens and for decoding.
    ///
    /// # Errors
    /// If a weight is missing, an op has no kernel, or buffers exceed the adapter's limits or memory.
    pub fn prepare(&mut self, graph: Graph, rows: usize) -> Result<()> {
        self.seen = self.storage("seen", seen_bytes(&graph))?;
        self.tokens = self.storage("tokens", rows as u64 * 4)?;
        self.prefill = Some(self.lower_for(graph.clone(), rows)?);
        self.decode = Some(self.lower_for(graph, 1)?);
        self.check()
    }

    fn lower_for(&mut self, graph: Graph, rows: usize) -> Result<Prepared> {
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
        let plan = Plan::new(graph, rows, fusion, |w| uniform[w.0]);
        self.lower(plan)
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

    pub(crate) fn write_step(&mut self, rows: usize, position: usize, s: &Sampling, slot: usize) {
        let words: [u32; 12] = [
            rows as u32,
            position as u32,
            s.seed as u32,
            (s.seed >> 32) as u32,
            s.temperature.to_bits(),
            s.top_p.to_bits(),
            s.min_p.to_bits(),
            s.repeat_penalty.to_bits(),
            s.top_k,
            slot as u32,
            0,
            0,
        ];
        self.queue
            .write_buffer(&self.step, 0, bytemuck::cast_slice(&words));
    }

    fn run(
        &mut self,
        prepared: &Prepared,
        rows: usize,
        position: usize,
        sampling: &Sampling,
        head: bool,
    ) -> Result<()> {
        if rows > prepared.plan.max_rows || position + rows > self.context {
            return Err(Error::ContextFull {
                rows,
                position,
                context: self.context,
            });
        }
        let slot = self.slot;
        self.write_step(rows, position, sampling, slot);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record(&mut encoder, prepared, Extent::step(rows, position), head);
        if head {
            let from = 4 * slot as u64;
            encoder.copy_buffer_to_buffer(&self.ring, from, &self.staging[slot], 0, 4);
            self.pending.push_back(slot);
            self.slot = (slot + 1) % RING;
        }
        self.queue.submit([encoder.finish()]);
        self.counts.submits += 1;
        Ok(())
    }

    /// Runs some tokens of a prompt, the first of them at `position`. With `head`, the next token is chosen, to be
    /// [taken](Self::take). Recurrent states must be those after the tokens before, and are cleared at position 0.
    ///
    /// # Errors
    /// If nothing was prepared, or the tokens exceed the plan or the context.
    pub fn prefill(
        &mut self,
        tokens: &[u32],
        position: usize,
        sampling: &Sampling,
        head: bool,
    ) -> Result<()> {
        self.queue
            .write_buffer(&self.tokens, 0, bytemuck::cast_slice(tokens));
        let single = tokens.len() == 1;
        let slot = if single {
            &mut self.decode
        } else {
            &mut self.prefill
        };
        let Some(prepared) = slot.take() else {
            return Err(Error::Unsupported("a run before prepare".into()));
        };
        let result = self.run(&prepared, tokens.len(), position, sampling, head);
        self.last_was_decode = single;
        *(if single {
            &mut self.decode
        } else {
            &mut self.prefill
        }) = Some(prepared);
        result
    }

    /// Feeds the token that was chosen last, at `position`; the next one is chosen, to be [taken](Self::take).
    ///
    /// # Errors
    /// If nothing was prepared, or the context is full.
    pub fn decode(&mut self, position: usize, sampling: &Sampling) -> Result<()> {
        let Some(prepared) = self.decode.take() else {
            return Err(Error::Unsupported("a run before prepare".into()));
        };
        let result = self.run(&prepared, 1, position, sampling, true);
        self.last_was_decode = true;
        self.decode = Some(prepared);
        result
    }

    /// Waits for the oldest chosen token that has not been taken; with `logits`, the last run's logits `[vocab]` too.
    ///
    /// # Errors
    /// If no token is pending, or the GPU was lost or failed.
    pub async fn take(&mut self, logits: bool) -> Result<(u32, Vec<f32>)> {
        let Some(slot) = self.pending.pop_front() else {
            return Err(Error::Unsupported("no token is pending".into()));
        };
        let staging = self.staging[slot].clone();
        let bytes = self.map(&staging, 4).await?;
        self.counts.readbacks += 1;
        let token = bytemuck::pod_read_unaligned(&bytes);
        if !logits {
            return Ok((token, vec![]));
        }
        let prepared = if self.last_was_decode {
            &self.decode
        } else {
            &self.prefill
        };
        let Some(prepared) = prepared else {
            return Ok((token, vec![]));
        };
        let view = prepared.plan.view(prepared.plan.graph.outputs[0]);
        let arena = prepared.arena.clone();
        let bytes = view.cols as u64 * 4;
        Ok((
            token,
            self.read_buffer(&arena, view.offset as u64 * 4, bytes)
                .await?,
        ))
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

    /// Sets which tokens are in the context, for the repeat penalty.
    pub fn set_seen(&mut self, tokens: &[u32]) {
        let mut bits = vec![0u32; (self.seen.size() / 4) as usize];
        for id in tokens {
            bits[*id as usize / 32] |= 1 << (id % 32);
        }
        self.queue
            .write_buffer(&self.seen, 0, bytemuck::cast_slice(&bits));
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
        let rows = tokens.len();
        if self.seen.size() < seen_bytes(graph) {
            self.seen = self.storage("seen", seen_bytes(graph))?;
        }
        if self.tokens.size() < rows as u64 * 4 {
            self.tokens = self.storage("tokens", rows as u64 * 4)?;
        }
        let prepared = self.lower_for(graph.clone(), rows)?;
        self.queue
            .write_buffer(&self.tokens, 0, bytemuck::cast_slice(tokens));
        self.write_step(rows, position, &Sampling::default(), 0);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.record(&mut encoder, &prepared, Extent::step(rows, position), true);
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

/// Bytes of a bit for each token that a graph reads or chooses.
pub(crate) fn seen_bytes(graph: &Graph) -> u64 {
    let tokens = graph.nodes.iter().map(|n| match n.op {
        Op::Embed { table, .. } => graph.weight(table).rows(),
        Op::Choose => graph.node(n.inputs[0]).cols,
        _ => 0,
    });
    tokens.max().unwrap_or(0).div_ceil(32) as u64 * 4
}
