//! What a session asks of the device it runs on. [`Cpu`](crate::cpu::Cpu) and [`GpuDevice`] are the two devices;
//! each owns its weights, caches and plans.

use std::fmt::Debug;
use std::pin::Pin;

use siskin_cpu::ops::attention;
use siskin_cpu::{CacheType, Precision};
use siskin_formats::TensorType;
use siskin_gpu::{GpuDevice, Profile};
use siskin_graph::{AdamW, AttentionSpec, Batch, Graph, MomentType, Sampling};

use crate::Result;
use crate::cpu::Cpu;
use crate::training::TrainingState;

pub(crate) use siskin_cpu::ops::choose::NOT_FINITE;

/// The most tokens of a prompt that run at once.
pub(crate) const PREFILL_ROWS: usize = 256;

/// Which device a model shall run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRequest {
    /// A real GPU where there is one, else the CPU.
    Auto,
    Cpu,
    /// The `index`-th GPU, or the best one; with a profile forced or the GPU's own.
    Gpu {
        index: Option<usize>,
        profile: Option<Profile>,
    },
}

/// A future of the thread that made it: a page's GPU belongs to one.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// `Send`, but in a page, whose GPU belongs to one thread.
#[cfg(not(target_arch = "wasm32"))]
pub trait Movable: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send> Movable for T {}
#[cfg(target_arch = "wasm32")]
pub trait Movable {}
#[cfg(target_arch = "wasm32")]
impl<T> Movable for T {}

/// A chosen token, and the logits it was chosen from where they were asked for.
pub type Chosen = (u32, Vec<f32>);

/// A device with weights, caches and plans. Tokens are fed and chosen on it; those chosen wait in line until they
/// are taken, so that a GPU can be a step ahead.
pub trait Backend: Debug + Movable {
    /// For people: `cpu`, or the GPU's name.
    fn name(&self) -> String;

    /// The kernel profile, or the CPU's arithmetic.
    fn profile(&self) -> String;

    /// The GPU, for what only a GPU has: counts and times of its dispatches.
    fn gpu(&mut self) -> Option<&mut GpuDevice> {
        None
    }

    fn is_gpu(&self) -> bool;

    fn add_vector(&mut self, name: &str, values: Vec<f32>) -> Result<()>;

    /// Begins a matrix of `cols` columns that is the stack of `parts`: their types in the file, and their rows.
    fn matrix<'a>(
        &'a mut self,
        name: &str,
        parts: &[(TensorType, usize)],
        cols: usize,
    ) -> Result<Box<dyn MatrixUpload + 'a>>;

    /// Parameters of the adapters in the graphs that are prepared from now on, of which `graph` is one.
    fn set_params(&mut self, graph: &Graph, params: Vec<f32>) -> Result<()>;

    /// Caches for `context` tokens, and plans for prefills of up to `rows` tokens and for decode steps.
    fn prepare(
        &mut self,
        graph: Graph,
        context: usize,
        cache_type: CacheType,
        rows: usize,
    ) -> LocalFuture<'_, ()>;

    /// Runs some tokens of a prompt. With `head`, the next token is chosen and waits to be taken.
    fn prefill(
        &mut self,
        tokens: &[u32],
        position: usize,
        sampling: &Sampling,
        head: bool,
    ) -> Result<()>;

    /// Feeds the token that was chosen last, at `position`; the next one waits to be taken.
    fn decode(&mut self, position: usize, sampling: &Sampling) -> Result<()>;

    /// The token chosen first of those that wait, with its logits if asked.
    fn take(&mut self, logits: bool) -> LocalFuture<'_, Chosen>;

    /// Forgets the tokens that wait.
    fn discard(&mut self) -> LocalFuture<'_, ()>;

    /// Says which tokens are in the context, for the repeat penalty.
    fn set_seen(&mut self, tokens: &[u32]);

    /// Tokens of a prompt that run at once.
    fn prefill_rows(&self) -> usize {
        PREFILL_ROWS
    }

    /// How many steps it may be ahead of the tokens taken.
    fn lookahead(&self) -> usize;

    /// All outputs, `[tokens.len(), columns]` each, of a graph that has every row.
    fn evaluate<'a>(
        &'a mut self,
        graph: &'a Graph,
        tokens: &'a [u32],
        position: usize,
    ) -> LocalFuture<'a, Vec<Vec<f32>>>;

    /// What each query gives each key, `[n_heads, T, T]`, from q and k as [`Self::evaluate`] returns them.
    fn attention_weights(&self, spec: &AttentionSpec, q: &[f32], k: &[f32]) -> Vec<f32> {
        attention::attention_weights(spec, q, k)
    }

    /// What DoRA's magnitudes multiply columns by, with the parameters as they are now.
    fn factors<'a>(&'a mut self, graph: &'a Graph) -> LocalFuture<'a, Vec<f32>>;

    /// Plans for batches of up to `rows` tokens: of a graph with its backward pass, and of the loss alone.
    fn prepare_training(
        &mut self,
        graphs: TrainingGraphs,
        rows: usize,
        moments: MomentType,
    ) -> LocalFuture<'_, ()>;

    /// Runs a batch; gradients are added to those that are there. Returns the sum of the rows' losses.
    fn run_batch<'a>(&'a mut self, which: BatchPlan, batch: &'a Batch) -> LocalFuture<'a, f32>;

    /// Makes all gradients 0.
    fn forget_gradients(&mut self);

    /// One step of the optimiser. Returns the gradients' norm before clipping; if that is not finite, nothing is
    /// changed.
    fn optimise<'a>(&'a mut self, step: &'a AdamW) -> LocalFuture<'a, f32>;

    /// Sums of gradients since the last step of the optimiser.
    fn gradients(&mut self) -> LocalFuture<'_, Vec<f32>>;

    fn training_state(&mut self) -> LocalFuture<'_, TrainingState>;

    fn set_training_state(&mut self, state: TrainingState) -> Result<()>;
}

/// A matrix on its way to a device, part by part.
pub trait MatrixUpload {
    /// The next part's bytes, as the file has them.
    fn part(&mut self, bytes: Vec<u8>) -> Result<()>;

    fn finish(self: Box<Self>) -> Result<()>;
}

/// What training runs.
#[derive(Debug)]
pub struct TrainingGraphs {
    /// The loss with its backward pass.
    pub backward: Graph,
    /// The loss alone, without dropout.
    pub loss: Graph,
}

/// Which of the two graphs a batch runs through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchPlan {
    Backward,
    Loss,
}

/// Opens a device without a model.
pub(crate) async fn open(request: DeviceRequest, precision: Precision) -> Result<Box<dyn Backend>> {
    let cpu = || Box::new(Cpu::new(precision));
    Ok(match request {
        DeviceRequest::Cpu => cpu(),
        DeviceRequest::Gpu { index, profile } => Box::new(GpuDevice::open(index, profile).await?),
        // A software driver is slower than the CPU path: it is used only when asked for.
        DeviceRequest::Auto => match GpuDevice::open(None, None).await {
            Ok(gpu) if !gpu.is_software() => Box::new(gpu),
            _ => cpu(),
        },
    })
}
