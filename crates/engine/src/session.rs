use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use siskin_gpu::{Counts, KernelTime};
use siskin_graph::{Graph, Sampling, Weight};
use siskin_models::{Head, Model};
use siskin_text::{TextModel, TextStream};
use web_time::Instant;

use crate::answer::{Answer, Event, FinishReason, GenerateOptions, TokenLogprob, check_sampling};
use crate::backend::{Backend, DeviceRequest, NOT_FINITE, PREFILL_ROWS};
use crate::files::WeightFiles;
use crate::load::{OpenOptions, Progress, WeightSource, load_weights};
use crate::training::Training;
use crate::{Adapter, Error, ModelFiles, Result, backend};

/// The context of a session by default, if the model's own is longer.
pub(crate) const DEFAULT_CONTEXT: usize = 4096;
/// A model on a device, with the tokens in its KV cache.
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
#[derive(Debug)]
pub struct Session {
    /// Tokenizer and chat templates.
    pub text: Arc<TextModel>,
    /// The configuration, without an adapter.
    pub model: Model,
    files: WeightFiles,
    options: OpenOptions,
    pub(crate) device: Box<dyn Backend>,
    context: usize,
    /// The tokens in the cache.
    pub(crate) tokens: Vec<u32>,
    pub(crate) adapter: Option<Adapter>,
    pub(crate) training: Option<Training>,
}

impl Session {
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
        let context = options.context.unwrap_or(trained.min(DEFAULT_CONTEXT));
        if context == 0 || context > trained {
            return Err(Error::Context {
                wanted: context,
                max: trained,
            });
        }
        let device = open_device(&model, &weights, options, context, None, on_progress).await?;
        Ok(Self {
            text,
            model,
            files: weights,
            options: options.clone(),
            device,
            context,
            tokens: vec![],
            adapter: None,
            training: None,
        })
    }

    /// Opens the device and loads the weights again, after it was lost. The cache is then empty.
    pub(crate) async fn reopen(&mut self) -> Result<()> {
        self.tokens.clear();
        // What was learned since the adapter was last read back is lost with the device.
        self.training = None;
        self.device = open_device(
            &self.model,
            &self.files,
            &self.options,
            self.context,
            self.adapter.as_ref(),
            &mut |_| (),
        )
        .await?;
        Ok(())
    }

    /// The adapter in use.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Applies an adapter, or none; the weights do not change. The KV cache is cleared, and a training run ends.
    ///
    /// # Errors
    /// If the adapter does not fit the model; the session then continues with the one before.
    pub async fn set_adapter(&mut self, adapter: Option<Adapter>) -> Result<()> {
        let adapter = match adapter {
            Some(adapter) => Some(adapter.for_base(&self.model, &self.files).await?),
            None => None,
        };
        let before = std::mem::replace(&mut self.adapter, adapter);
        let applied = self.apply_adapter(before.as_ref()).await;
        if applied.is_err() {
            let failed = std::mem::replace(&mut self.adapter, before);
            self.apply_adapter(failed.as_ref()).await?;
        }
        applied
    }

    /// Sets the magnitudes of the adapter in use to the norms of the weights, with which DoRA starts, so that the
    /// adapter changes nothing yet. Without DoRA, this does nothing.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn begin_dora(&mut self) -> Result<()> {
        let graph = self.graph(Head::Next)?;
        let Some(adapter) = self.adapter.clone().filter(|a| a.config.use_dora) else {
            return Ok(());
        };
        let factors = self.device.factors(&graph).await?;
        self.set_adapter(Some(adapter.with_neutral_magnitudes(&graph, &factors)))
            .await
    }

    /// Puts the adapter onto the device in place of another, and prepares plans with it.
    async fn apply_adapter(&mut self, before: Option<&Adapter>) -> Result<()> {
        let graph = self.graph(Head::Next)?;
        let adapters = [before, self.adapter.as_ref()];
        let changes = |w: &&Weight| {
            let mut both = adapters.iter().flatten();
            both.any(|a| w.parts.iter().any(|p| a.replaced(&p.tensor).is_some()))
        };
        let changed: Vec<&Weight> = graph.weights.iter().filter(changes).collect();
        let source = WeightSource {
            model: &self.model,
            files: &self.files,
            adapter: self.adapter.as_ref(),
        };
        load_weights(&mut *self.device, &source, &changed, &mut |_| ()).await?;
        let params = self
            .adapter
            .as_ref()
            .map(|a| a.params(&graph))
            .transpose()?;
        self.tokens.clear();
        self.training = None;
        self.device.set_params(&graph, params.unwrap_or_default())?;
        let rows = PREFILL_ROWS.min(self.context);
        let cache_type = self.options.cache_type;
        self.device
            .prepare(graph, self.context, cache_type, rows)
            .await
    }

    /// The forward pass with the adapter in use.
    pub(crate) fn graph(&self, head: Head) -> Result<Graph> {
        adapted(&self.model, head, self.adapter.as_ref())
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
        self.context
    }

    /// The tokens in the KV cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Clears the KV cache.
    pub fn reset(&mut self) {
        self.tokens.clear();
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.dims().vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocab) {
            _ if tokens.is_empty() => Err(Error::EmptyPrompt),
            Some(id) => Err(Error::Token { id: *id, vocab }),
            None => Ok(()),
        }
    }

    /// The logits `[vocab]` of the token after the prompt. Tokens that are in the KV cache are not run again.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub async fn next_logits(&mut self, prompt: &[u32]) -> Result<Vec<f32>> {
        let options = GenerateOptions {
            max_tokens: 1,
            logprobs: Some(0),
            ..GenerateOptions::default()
        };
        let mut logits = vec![];
        self.run(
            prompt,
            &options,
            async |_| ControlFlow::Continue(()),
            &mut logits,
        )
        .await?;
        Ok(logits)
    }

    pub(crate) fn check_length(&self, prompt: usize) -> Result<()> {
        if prompt > self.context {
            let trained = self.model.dims().context_length;
            return Err(Error::PromptTooLong {
                prompt,
                context: self.context,
                trained,
            });
        }
        Ok(())
    }

    /// Answers a prompt. Tokens that are in the KV cache are not run again.
    ///
    /// `on_event` can stop it: the answer then ends with [`FinishReason::Cancelled`], and the session remains usable.
    /// If the GPU is lost, it is opened again, and the answer continues where it was.
    ///
    /// # Errors
    /// If a sampling parameter is out of range, the prompt is empty or longer than the context, the logits are not
    /// finite, or the device fails.
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        self.run(prompt, options, on_event, &mut vec![]).await
    }

    /// Feeds tokens into the cache; the one after the last is chosen, and pending.
    async fn feed(
        &mut self,
        tokens: &[u32],
        sampling: &Sampling,
        on_event: &mut impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let total = self.tokens.len() + tokens.len();
        for chunk in tokens.chunks(self.device.prefill_rows()) {
            let last = self.tokens.len() + chunk.len() == total;
            self.device
                .prefill(chunk, self.tokens.len(), sampling, last)?;
            self.tokens.extend(chunk);
            let done = self.tokens.len();
            if on_event(Event::Prefill { done, total }).await.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// `last_logits` are those that the last token was chosen from, if requested.
    async fn run(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        mut on_event: impl AsyncFnMut(Event<'_>) -> ControlFlow<()>,
        last_logits: &mut Vec<f32>,
    ) -> Result<Answer> {
        let sampling = &options.sampling;
        check_sampling(sampling)?;
        self.check_tokens(prompt)?;
        self.check_length(prompt.len())?;
        let start = Instant::now();
        let cached_tokens = self.keep_prefix(prompt);
        let mut answer = Answer {
            text: String::new(),
            ids: vec![],
            finish_reason: FinishReason::Length,
            prompt_tokens: prompt.len(),
            seed: sampling.seed,
            cached_tokens,
            prefill_time: Default::default(),
            decode_time: Default::default(),
            logprobs: vec![],
        };
        if options.max_tokens == 0 {
            return Ok(answer);
        }
        let flow = self
            .feed(&prompt[cached_tokens..], sampling, &mut on_event)
            .await?;
        if flow.is_break() {
            answer.finish_reason = FinishReason::Cancelled;
            // A token chosen by a device that was lost is not needed any more.
            match self.device.discard().await {
                Err(e) if e.is_device_lost() => self.reopen().await?,
                other => other?,
            }
            return Ok(answer);
        }
        let mut stream = TextStream::new(&options.stop);
        // Steps that were started, and whose tokens have not been taken.
        let mut ahead = 1;
        let mut first_token = None;
        let mut lost = false;
        loop {
            let room = self.context - self.tokens.len();
            let wanted = options.max_tokens - answer.ids.len();
            let lookahead = if options.logprobs.is_some() {
                0
            } else {
                self.device.lookahead()
            };
            while ahead <= lookahead && ahead < wanted && ahead <= room {
                self.device
                    .decode(self.tokens.len() + ahead - 1, sampling)?;
                ahead += 1;
            }
            let (id, logits) = match self.device.take(options.logprobs.is_some()).await {
                Ok(taken) => taken,
                Err(e) if e.is_device_lost() && !lost => {
                    lost = true;
                    let _ = on_event(Event::DeviceLost).await;
                    let tokens = std::mem::take(&mut self.tokens);
                    self.reopen().await?;
                    let silent = &mut async |_: Event<'_>| ControlFlow::Continue(());
                    let _ = self.feed(&tokens, sampling, silent).await?;
                    ahead = 1;
                    continue;
                }
                Err(e) => return Err(e),
            };
            lost = false;
            ahead -= 1;
            if id == NOT_FINITE {
                self.device.discard().await?;
                let tokens = std::mem::take(&mut self.tokens);
                return Err(self.not_finite(&tokens).await);
            }
            let now = Instant::now();
            let first = *first_token.get_or_insert(now);
            answer.prefill_time = first - start;
            answer.decode_time = now - first;
            answer.ids.push(id);
            let logprob = options
                .logprobs
                .map(|n| TokenLogprob::of(&self.text, &logits, id, n));
            *last_logits = logits;
            if self.text.is_end(id) && !options.ignore_end {
                answer.logprobs.extend(logprob);
                answer.finish_reason = FinishReason::Stop;
                break;
            }
            let emitted = stream.push(&self.text, id);
            answer.text.push_str(&emitted.text);
            let event = Event::Token {
                id,
                text: &emitted.text,
                logprob: logprob.as_ref(),
            };
            let flow = on_event(event).await;
            answer.logprobs.extend(logprob);
            if emitted.stop.is_some() {
                answer.finish_reason = FinishReason::Stop;
                stream = TextStream::default();
                break;
            }
            if flow.is_break() {
                answer.finish_reason = FinishReason::Cancelled;
                break;
            }
            if answer.ids.len() == options.max_tokens || room == 0 {
                break;
            }
            if ahead == 0 {
                self.device.decode(self.tokens.len(), sampling)?;
                ahead = 1;
            }
            self.tokens.push(id);
        }
        match self.device.discard().await {
            Err(e) if e.is_device_lost() => self.reopen().await?,
            other => other?,
        }
        let text = stream.finish(&self.text);
        if !text.is_empty() {
            answer.text.push_str(&text);
            let _ = on_event(Event::Rest { text: &text }).await;
        }
        Ok(answer)
    }

    /// What one decode step after the tokens in the cache does on a GPU; `None` on the CPU.
    ///
    /// # Errors
    /// If the GPU fails.
    pub async fn decode_counts(&mut self) -> Result<Option<Counts>> {
        let position = self.tokens.len();
        let Some(gpu) = self.device.gpu() else {
            return Ok(None);
        };
        gpu.take_counts();
        gpu.decode(position, &Sampling::default())?;
        gpu.take(false).await?;
        Ok(Some(gpu.take_counts()))
    }

    /// The time of each kernel in that step; `None` on the CPU, or if the GPU has no timestamps.
    ///
    /// # Errors
    /// If the GPU fails.
    pub async fn decode_times(&mut self) -> Result<Option<Vec<KernelTime>>> {
        let position = self.tokens.len();
        let Some(gpu) = self.device.gpu() else {
            return Ok(None);
        };
        Ok(gpu.time_decode(position).await?)
    }

    /// Cuts the cache down to what it shares with the prompt, whose last token always runs again, since its logits are
    /// needed.
    fn keep_prefix(&mut self, prompt: &[u32]) -> usize {
        let same = self
            .tokens
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        self.tokens.truncate(same.min(prompt.len() - 1));
        self.device.set_seen(&self.tokens);
        self.tokens.len()
    }
}

fn adapted(model: &Model, head: Head, adapter: Option<&Adapter>) -> Result<Graph> {
    let Some(adapter) = adapter else {
        return Ok(model.graph(head)?);
    };
    let graph = adapter.model(model).graph(head)?;
    Ok(graph.with_lora(&adapter.spec(&graph)?))
}

/// A device with the weights, ready to run. [`DeviceRequest::Auto`] falls back to the CPU if the GPU cannot hold them.
async fn open_device(
    model: &Model,
    files: &WeightFiles,
    options: &OpenOptions,
    context: usize,
    adapter: Option<&Adapter>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Box<dyn Backend>> {
    let graph = adapted(model, Head::Next, adapter)?;
    let source = WeightSource {
        model,
        files,
        adapter,
    };
    let weights: Vec<&Weight> = graph.weights.iter().collect();
    let params = adapter.map(|a| a.params(&graph)).transpose()?;
    let mut open = async |request| -> Result<Box<dyn Backend>> {
        let mut device = backend::open(request, options.precision).await?;
        load_weights(&mut *device, &source, &weights, on_progress).await?;
        device.set_params(&graph, params.clone().unwrap_or_default())?;
        let rows = PREFILL_ROWS.min(context);
        device
            .prepare(graph.clone(), context, options.cache_type, rows)
            .await?;
        Ok(device)
    };
    match open(options.device).await {
        Err(Error::Gpu(_)) if options.device == DeviceRequest::Auto => {
            open(DeviceRequest::Cpu).await
        }
        other => other,
    }
}
