//! What a session needs from its device. [`Cpu`](crate::cpu::Cpu) and [`GpuDevice`] are the two devices; each owns its
//! weights, caches and plans.

use std::pin::Pin;
use std::str::FromStr;

use siskin_cpu::Precision;
use siskin_cpu::ops::attention;
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, Profile};
use siskin_graph::{AttentionSpec, Batch, CacheBytes, CacheTypes, Capacity, Graph, StepInput};

use crate::cpu::Cpu;
use crate::probe;
#[cfg(feature = "training")]
use crate::training_backend::TrainingBackend;
use crate::{Error, Result};

pub(crate) use siskin_cpu::ops::choose::NOT_FINITE;

/// The most tokens of a prompt that run at once.
pub(crate) const PREFILL_ROWS: usize = 256;

/// Which device a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRequest {
    /// A GPU that does not run shaders on the CPU, if there is one; otherwise the CPU.
    Auto,
    /// The CPU; no GPU driver is loaded.
    Cpu,
    /// A GPU, also one whose driver runs shaders on the CPU.
    Gpu {
        /// Its index in [`siskin_gpu::gpus`]; `None` for the most capable one.
        index: Option<usize>,
        /// The kernels to use; `None` for the adapter's own.
        profile: Option<Profile>,
    },
}

/// From `auto`, `cpu`, `gpu` or `gpu:N`, where N is an index in [`siskin_gpu::gpus`].
impl FromStr for DeviceRequest {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let gpu = |index| Self::Gpu {
            index,
            profile: None,
        };
        let index = |s: &str| s.strip_prefix("gpu:")?.parse().ok();
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(gpu(None)),
            _ => match index(s) {
                Some(index) => Ok(gpu(Some(index))),
                None => Err(Error::NoDevice(s.into())),
            },
        }
    }
}

/// A future of the thread that created it, since a page's GPU belongs to one thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// `Send`, except in a page, whose GPU belongs to one thread.
#[cfg(not(target_arch = "wasm32"))]
pub trait Movable: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send> Movable for T {}
/// `Send`, except in a page, whose GPU belongs to one thread.
#[cfg(target_arch = "wasm32")]
pub trait Movable {}
#[cfg(target_arch = "wasm32")]
impl<T> Movable for T {}

/// A chosen token, and the logits it was chosen from, if requested.
pub type Chosen = (u32, Vec<f32>);

/// Tokens with their logits `[tokens, vocab]`, which may be empty.
pub(crate) fn chosen(tokens: Vec<u32>, logits: &[f32]) -> Vec<Chosen> {
    let vocab = logits.len() / tokens.len().max(1);
    let logits = |i: usize| logits[i * vocab..][..vocab].to_vec();
    let tokens = tokens.into_iter().enumerate();
    tokens.map(|(i, token)| (token, logits(i))).collect()
}

/// A device with weights, caches and plans. Tokens are fed and chosen on it; a step's chosen tokens are pending until they
/// are taken, so that a GPU can be one step ahead.
///
/// Errors are those of the device: [`crate::Error::Gpu`] or [`crate::Error::Cpu`].
pub trait Backend: Movable {
    /// For display: `cpu`, or the GPU's name.
    fn name(&self) -> String;

    /// For display: the kernel profile, or the CPU's arithmetic.
    fn profile(&self) -> String;

    /// The GPU, for what only a GPU has: counts and times of its dispatches.
    fn gpu(&mut self) -> Option<&mut GpuDevice> {
        None
    }

    /// Whether it is a GPU.
    fn is_gpu(&self) -> bool;

    /// Adds a vector, or replaces the one of that name.
    ///
    /// # Errors
    /// If the device lacks memory.
    fn add_vector(&mut self, name: &str, values: Vec<f32>) -> Result<()>;

    /// Starts a matrix of `cols` columns that is the stack of `parts`: their types in the file, and their rows.
    ///
    /// # Errors
    /// If the device cannot store it.
    fn matrix<'a>(
        &'a mut self,
        name: &str,
        parts: &[(TensorType, usize)],
        cols: usize,
    ) -> Result<Box<dyn MatrixUpload + 'a>>;

    /// Sets the parameters of the adapters in the graphs that are prepared from now on, of which `graph` is one.
    ///
    /// # Errors
    /// If the device lacks memory.
    fn set_params(&mut self, graph: &Graph, params: Vec<f32>) -> Result<()>;

    /// Creates caches, and plans for steps of up to `rows` tokens and for decode steps.
    fn prepare(
        &mut self,
        graph: Graph,
        capacity: Capacity,
        cache_types: CacheTypes,
        rows: usize,
    ) -> LocalFuture<'_, ()>;

    /// Copies a block of all caches that hold all tokens over another one, and one of those that hold a window.
    fn copy_blocks(&mut self, copies: [Option<(u32, u32)>; 2]);

    /// What some blocks hold, and the recurrent states: blocks of caches that hold all tokens, and of those that hold a
    /// window.
    fn cache_bytes<'a>(&'a mut self, blocks: [&'a [u32]; 2]) -> LocalFuture<'a, CacheBytes>;

    /// Sets them to what [`Self::cache_bytes`] returned.
    ///
    /// # Errors
    /// If that is of other caches.
    fn set_cache_bytes(&mut self, blocks: [&[u32]; 2], bytes: &CacheBytes) -> Result<()>;

    /// Keeps a copy of the recurrent states, in place of the one before.
    fn keep_states(&mut self);

    /// Sets the recurrent states to those that were kept last.
    fn restore_states(&mut self);

    /// Runs some tokens of one or several sequences; those that it chooses are pending. Recurrent states must be those
    /// after the tokens before, and are cleared at position 0.
    ///
    /// # Errors
    /// If the step does not fit the plan or the caches.
    fn step(&mut self, step: &StepInput) -> Result<()>;

    /// The tokens that the oldest step chose whose tokens are pending, with their logits if requested: those of the last
    /// step.
    fn take(&mut self, logits: bool) -> LocalFuture<'_, Vec<Chosen>>;

    /// Drops all pending tokens.
    fn discard(&mut self) -> LocalFuture<'_, ()>;

    /// Sets which tokens are in the sequence of a slot, for the repeat penalty.
    fn set_seen(&mut self, slot: usize, tokens: &[u32]);

    /// The most tokens of one step.
    fn prefill_rows(&self) -> usize {
        PREFILL_ROWS
    }

    /// How many steps it may be ahead of the tokens taken: 0 if a step computes before it returns.
    fn lookahead(&self) -> usize;

    /// All outputs of a graph for `tokens`, the first of them at `position`: `[tokens.len(), columns]` each.
    fn evaluate<'a>(
        &'a mut self,
        graph: &'a Graph,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Vec<Vec<f32>>>;

    /// The weight of each query for each key, `[n_heads, T, T]`, from q and k as [`Self::evaluate`] returns them.
    fn attention_weights(
        &self,
        spec: &AttentionSpec,
        sinks: Option<&[f32]>,
        q: &[f32],
        k: &[f32],
    ) -> Vec<f32> {
        attention::attention_weights(spec, sinks, q, k)
    }

    /// Creates the plan of a graph over whole texts, for batches of up to `rows` tokens.
    fn prepare_texts(&mut self, graph: Graph, rows: usize) -> LocalFuture<'_, ()>;

    /// Runs that plan over a batch. Returns all outputs of its graph: `[rows, columns]` each, with a row for each token
    /// or for each text.
    fn run_texts<'a>(&'a mut self, batch: &'a Batch) -> LocalFuture<'a, Vec<Vec<f32>>>;

    /// What only training needs.
    #[cfg(feature = "training")]
    fn training(&mut self) -> &mut dyn TrainingBackend;
}

/// A matrix that is being brought onto a device, part by part.
pub trait MatrixUpload {
    /// Adds the next part, from its bytes in the file.
    ///
    /// # Errors
    /// If the device lacks memory.
    fn part(&mut self, bytes: Vec<u8>) -> Result<()>;

    /// Adds the matrix to the device's weights.
    ///
    /// # Errors
    /// If the device lacks memory.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Opens a device without a model.
pub(crate) async fn open(request: DeviceRequest, precision: Precision) -> Result<Box<dyn Backend>> {
    let cpu = || Box::new(Cpu::new(precision));
    Ok(match request {
        DeviceRequest::Cpu => cpu(),
        DeviceRequest::Gpu {
            index,
            profile: None,
        } => Box::new(probe::open(index).await?),
        DeviceRequest::Gpu { index, profile } => Box::new(GpuDevice::open(index, profile).await?),
        // A software driver is slower than the CPU path: it is used only on request.
        DeviceRequest::Auto => match probe::open(None).await {
            Ok(gpu) if !gpu.is_software() => Box::new(gpu),
            _ => cpu(),
        },
    })
}
