use std::path::Path;
use std::sync::Arc;

use siskin_gpu::{Counts, GpuDevice, KernelTime};
use siskin_graph::{BLOCK_TOKENS, CacheTypes, Capacity, Graph, Sampling, StepInput, Weight};
use siskin_models::{Head, Model};
use siskin_text::TextModel;

use crate::adapters::Adapters;
use crate::backend::{Backend, DeviceRequest, PREFILL_ROWS};
use crate::embed::Texts;
use crate::files::WeightFiles;
use crate::load::{
    OpenOptions, Progress, WeightSource, check_cache_types, load_weights, read_vector,
};
use crate::recurrent::StateMarks;
use crate::schedule::Schedule;
#[cfg(feature = "training")]
use crate::training::Training;
use crate::{Error, ModelFiles, Result, backend};

/// The context of a session by default, if the model's own is longer.
pub(crate) const DEFAULT_CONTEXT: usize = 4096;

/// A model on a device, with the requests that it answers and the tokens in its KV cache.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::path::Path;
///
/// use siskin_engine::{GenerateOptions, Message, OpenOptions, Session};
///
/// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
/// # pollster::block_on(async {
/// let mut session = Session::open(path, &OpenOptions::default(), &mut |_| ()).await?;
/// let prompt = session.text.prompt(&[Message::new("user", "Hello!")], false)?;
/// let options = GenerateOptions {
///     max_tokens: 8,
///     ..GenerateOptions::default()
/// };
/// let answer = session
///     .generate(&prompt, &options, async |_| ControlFlow::Continue(()))
///     .await?;
/// assert!(answer.ids.len() <= 8);
/// println!("{}", answer.text);
/// # Ok::<(), siskin_engine::Error>(())
/// # }).unwrap();
/// ```
pub struct Session {
    /// Tokenizer and chat templates.
    pub text: Arc<TextModel>,
    /// The configuration, without an adapter.
    pub model: Model,
    pub(crate) files: WeightFiles,
    pub(crate) options: OpenOptions,
    pub(crate) device: Box<dyn Backend>,
    pub(crate) capacity: Capacity,
    pub(crate) schedule: Schedule,
    /// `None` for a model without recurrent states.
    pub(crate) states: Option<StateMarks>,
    pub(crate) adapters: Adapters,
    /// The smaller model that guesses.
    pub(crate) draft: Option<Box<Session>>,
    #[cfg(feature = "training")]
    pub(crate) training: Option<Training>,
    pub(crate) texts: Option<Texts>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut s = f.debug_struct("Session");
        s.field("model", &self.model)
            .field("device", &self.device.name())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The values of a vector of the model.
    pub(crate) async fn read_vector(&self, weight: &Weight) -> Result<Vec<f32>> {
        let source = WeightSource {
            model: &self.model,
            files: &self.files,
            adapter: None,
        };
        read_vector(&source, weight).await
    }

    /// Loads a GGUF file or a Hugging Face folder. `on_progress` is called after each tensor.
    ///
    /// # Errors
    /// If the model cannot be read or is not supported, or the device cannot be opened or lacks memory.
    pub async fn open(
        path: &Path,
        options: &OpenOptions,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        Self::load(ModelFiles::open(path)?, options, on_progress).await
    }

    /// Loads the weights of a model whose headers have been read.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the device cannot be opened or lacks memory.
    pub async fn load(
        files: ModelFiles,
        options: &OpenOptions,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let ModelFiles {
            model,
            text,
            weights,
        } = files;
        let trained = model.dims().context_length;
        // What makes no text has no cache that would grow with its context.
        let default = match model.makes_text() {
            true => trained.min(DEFAULT_CONTEXT),
            false => trained,
        };
        let context = options.context.unwrap_or(default);
        if context == 0 || context > trained {
            return Err(Error::Context {
                wanted: context,
                max: trained,
            });
        }
        let graph = model.graph(model.head())?;
        check_cache_types(&graph, options.cache_types)?;
        let has_states = !graph.states.is_empty();
        // Recurrent states are those of one sequence.
        let sequences = if has_states {
            1
        } else {
            options.sequences.max(1)
        };
        let guesses = if has_states { 0 } else { options.guesses };
        let tokens = options.cache_tokens.unwrap_or(context * sequences);
        let mut capacity = Capacity {
            context,
            blocks: tokens.max(context).div_ceil(BLOCK_TOKENS),
            windowed: None,
            sequences,
            choices: (sequences * (1 + guesses)).max(options.scores),
        };
        // Where recurrent states can be cut back to is known for whole sequences.
        if !has_states {
            capacity = capacity.with_windows(&graph, max_rows(capacity));
        }
        let none = Adapters::None;
        let device = open_device(&model, &weights, options, capacity, &none, on_progress).await?;
        Ok(Self {
            text,
            model,
            files: weights,
            options: options.clone(),
            device,
            capacity,
            schedule: Schedule::new(capacity, guesses),
            states: has_states.then(StateMarks::default),
            adapters: Adapters::None,
            draft: None,
            #[cfg(feature = "training")]
            training: None,
            texts: None,
        })
    }

    /// Opens the device and loads the weights again, after it was lost. The cache is then empty.
    pub(crate) async fn reopen(&mut self) -> Result<()> {
        self.schedule.forget();
        self.states = self.states.map(|_| StateMarks::default());
        // What was learned since the adapter was last read back is lost with the device.
        self.end_training();
        self.texts = None;
        self.device = open_device(
            &self.model,
            &self.files,
            &self.options,
            self.capacity,
            &self.adapters,
            &mut |_| (),
        )
        .await?;
        Ok(())
    }

    /// What was prepared does not hold for another adapter or device.
    pub(crate) fn end_training(&mut self) {
        #[cfg(feature = "training")]
        {
            self.training = None;
        }
    }

    /// The most rows of a step.
    pub(crate) fn max_rows(&self) -> usize {
        max_rows(self.capacity)
    }

    /// The forward pass with the adapter for all that runs.
    pub(crate) fn graph(&self, head: Head) -> Result<Graph> {
        self.adapters.graph(&self.model, head)
    }

    /// The model's tensors.
    pub fn files(&self) -> &WeightFiles {
        &self.files
    }

    /// The device it runs on.
    pub fn device(&self) -> &dyn Backend {
        &*self.device
    }

    /// The most tokens of a conversation, prompt and answer together.
    pub fn context(&self) -> usize {
        self.capacity.context
    }

    /// How the KV cache stores keys and values.
    pub fn cache_types(&self) -> CacheTypes {
        self.options.cache_types
    }

    /// The most requests that run at once.
    pub fn sequences(&self) -> usize {
        self.capacity.sequences
    }

    /// The tokens in the KV cache of the request that ended last.
    pub fn tokens(&self) -> &[u32] {
        let last = self.schedule.store.last();
        last.map_or(&[], |cached| &cached.tokens)
    }

    /// Drops what answered requests have left in the KV cache.
    pub fn reset(&mut self) {
        self.schedule.store.clear();
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.dims().vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocab) {
            _ if tokens.is_empty() => Err(Error::EmptyPrompt),
            Some(id) => Err(Error::Token { id: *id, vocab }),
            None => Ok(()),
        }
    }

    pub(crate) fn check_keep(&self, keep: usize) -> Result<()> {
        let context = self.context();
        match keep < context {
            true => Ok(()),
            false => Err(Error::Keep { keep, context }),
        }
    }

    pub(crate) fn check_length(&self, prompt: usize) -> Result<()> {
        let context = self.context();
        if prompt > context {
            let trained = self.model.dims().context_length;
            return Err(Error::PromptTooLong {
                prompt,
                context,
                trained,
            });
        }
        Ok(())
    }

    /// What one decode step at `position` does on a GPU; `None` on the CPU. The KV cache is then empty.
    ///
    /// # Errors
    /// If the position is beyond the context, or the GPU fails.
    pub async fn decode_counts(&mut self, position: usize) -> Result<Option<Counts>> {
        self.forget().await?;
        let Some(gpu) = self.device.gpu() else {
            return Ok(None);
        };
        gpu.take_counts();
        let step = StepInput::alone(&[0], position, Some(Sampling::default()));
        gpu.step(&step.within(self.capacity))?;
        gpu.take(false).await?;
        let counts = gpu.take_counts();
        self.note_fed(1);
        Ok(Some(counts))
    }

    /// What the GPU has done since the last call; `None` on the CPU.
    pub fn take_counts(&mut self) -> Option<Counts> {
        self.device.gpu().map(GpuDevice::take_counts)
    }

    /// The time of each kernel in that step; `None` on the CPU, or if the GPU has no timestamps. The KV cache is then empty.
    ///
    /// # Errors
    /// If the GPU fails.
    pub async fn decode_times(&mut self, position: usize) -> Result<Option<Vec<KernelTime>>> {
        self.forget().await?;
        let Some(gpu) = self.device.gpu() else {
            return Ok(None);
        };
        let times = gpu.time_decode(position).await?;
        self.note_fed(1);
        Ok(times)
    }

    /// Notes that recurrent states have absorbed more tokens.
    pub(crate) fn note_fed(&mut self, n: usize) {
        if let Some(states) = &mut self.states {
            states.fed += n;
        }
    }
}

/// The most rows of a step: those of a prefill, or one for each sequence and some more.
fn max_rows(capacity: Capacity) -> usize {
    PREFILL_ROWS.min(capacity.context.max(2 * capacity.choices))
}

/// A device with the weights, ready to run. [`DeviceRequest::Auto`] falls back to the CPU if the GPU cannot hold them.
async fn open_device(
    model: &Model,
    files: &WeightFiles,
    options: &OpenOptions,
    capacity: Capacity,
    adapters: &Adapters,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Box<dyn Backend>> {
    for bias in model.zero_biases(&files.checkpoint)? {
        model.check_zero(&files.checkpoint, bias, &files.read_f32(bias).await?)?;
    }
    let graph = adapters.step_graph(model)?;
    let source = WeightSource {
        model,
        files,
        adapter: adapters.all(),
    };
    let weights: Vec<&Weight> = graph.weights.iter().collect();
    let params = adapters.params(&graph)?;
    let mut open = async |request| -> Result<Box<dyn Backend>> {
        let mut device = backend::open(request, options.precision).await?;
        load_weights(&mut *device, &source, &weights, on_progress).await?;
        device.set_params(&graph, params.clone())?;
        // Plans over whole texts are made when they come.
        if model.makes_text() {
            let rows = max_rows(capacity);
            device
                .prepare(graph.clone(), capacity, options.cache_types, rows)
                .await?;
        }
        Ok(device)
    };
    match open(options.device).await {
        Err(Error::Gpu(_)) if options.device == DeviceRequest::Auto => {
            open(DeviceRequest::Cpu).await
        }
        other => other,
    }
}
