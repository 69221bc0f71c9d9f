use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use siskin_graph::{CacheTypes, Capacity, Fusion, Graph, Plan, Sampling, StepInput};

use crate::adapter::Adapter;
use crate::batch::BatchBuffers;
use crate::caches::CacheBuffers;
use crate::opened::Opened;
use crate::prepared::{Extent, Prepared};
use crate::step::Pending;
#[cfg(feature = "training")]
use crate::train::Training;
use crate::weights::GpuWeight;
use crate::{Counts, Error, Layout, LimitRequest, Profile, Result};

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
/// use siskin_graph::{CacheTypes, Capacity, Graph};
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
/// gpu.set_caches(&g, Capacity::alone(16), CacheTypes::default())?;
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
    pub(crate) caches: Vec<CacheBuffers>,
    /// Recurrent states, and the copies of [`Self::keep_states`].
    pub(crate) states: Vec<wgpu::Buffer>,
    pub(crate) kept_states: Vec<wgpu::Buffer>,
    /// cos and sin of each position, by the name of their frequencies.
    pub(crate) tables: HashMap<String, wgpu::Buffer>,
    pub(crate) capacity: Capacity,
    pub(crate) cache_types: CacheTypes,
    /// The step's uniform.
    pub(crate) step: wgpu::Buffer,
    /// The same for kernels over values that only last rows have.
    pub(crate) last_step: wgpu::Buffer,
    /// Token ids of the step; the first are those chosen last.
    pub(crate) tokens: wgpu::Buffer,
    /// Each row's place in its sequence, and from word `lists` on the blocks of all sequences (lib/rows.wgsl).
    pub(crate) rows: wgpu::Buffer,
    /// The same with the sequences' blocks of caches that hold a window.
    pub(crate) windowed_rows: wgpu::Buffer,
    pub(crate) lists: usize,
    /// The blocks that were written last to either.
    pub(crate) written: [Vec<u32>; 2],
    /// How each sequence's token is chosen (lib/samples.wgsl).
    pub(crate) samples: wgpu::Buffer,
    /// The most tokens that a step chooses.
    pub(crate) max_samples: usize,
    /// For each slot a bit for each token id, set if its sequence contains it.
    pub(crate) seen: wgpu::Buffer,
    /// The tokens that each slot may choose.
    pub(crate) allowed: wgpu::Buffer,
    /// What is added to logits, of one choice after another (choose.wgsl).
    pub(crate) added: wgpu::Buffer,
    pub(crate) seen_words: usize,
    pub(crate) ring: wgpu::Buffer,
    /// What is bound where a kernel does not read.
    pub(crate) nothing: wgpu::Buffer,
    pub(crate) staging: Vec<wgpu::Buffer>,
    /// Where in the ring the next step's tokens go.
    pub(crate) slot: usize,
    /// Steps whose tokens have not been taken, the oldest first.
    pub(crate) pending: VecDeque<Pending>,
    /// By [`Kind`].
    pub(crate) plans: [Option<Prepared>; 3],
    pub(crate) last: Kind,
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
        if profile.needs_subgroups() && !opened.has_subgroups {
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
            windowed_rows: nothing.clone(),
            lists: 0,
            written: [vec![], vec![]],
            samples: buffer("samples", 16, state),
            max_samples: 1,
            seen: buffer("seen", 16, state),
            allowed: buffer("allowed", 16, state),
            added: buffer("added to logits", 16, state),
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
            cache_types: CacheTypes::default(),
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

    /// Its place in [`gpus`](crate::gpus).
    pub fn index(&self) -> usize {
        self.opened.index
    }

    /// The profile whose kernels run.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Whether the GPU runs shaders on the CPU.
    pub fn is_software(&self) -> bool {
        self.opened.software
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

    /// The plan of a graph for steps of up to `rows` rows, which choose up to `samples` tokens.
    pub(crate) fn lower_for(
        &mut self,
        graph: Graph,
        rows: usize,
        samples: usize,
    ) -> Result<Prepared> {
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
        let step = step.within(self.capacity);
        let rows = tokens.len();
        if self.lists < crate::step::ROW_WORDS * rows {
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
