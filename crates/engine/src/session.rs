use std::ops::ControlFlow;
use std::path::Path;

use siskin_formats::Checkpoint;
use siskin_gpu::{Counts, KernelTime};
use siskin_graph::Sampling;
use siskin_models::{Head, Model};
use siskin_text::{TextModel, TextStream};
use web_time::Instant;

use crate::answer::{Answer, Event, FinishReason, GenerateOptions, TokenLogprob, TopLogprob};
use crate::load::{OpenOptions, Progress, load_weights, read_text};
use crate::{Device, DeviceRequest, Error, Result};

/// Tokens of a prompt that run at once.
pub(crate) const PREFILL_ROWS: usize = 256;
/// The context that is prepared when none is asked for, if the model's own is longer.
const DEFAULT_CONTEXT: usize = 4096;
/// Tokens that [`Session::trace`] runs at once unless told otherwise: `[rows, vocab]` is large.
pub const TRACE_ROWS: usize = 32;

/// A value of every position, out of [`Session::trace`].
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    pub name: String,
    pub cols: usize,
    /// `[tokens, cols]`.
    pub values: Vec<f32>,
}

/// A model on a device, and the tokens in its KV cache.
#[derive(Debug)]
pub struct Session {
    pub text: TextModel,
    pub model: Model,
    device: Device,
    context: usize,
    /// Tokens in the cache.
    tokens: Vec<u32>,
}

impl Session {
    /// Loads a GGUF file or a Hugging Face folder.
    pub async fn open(
        path: &Path,
        options: &OpenOptions,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let model = Model::open(&checkpoint, path)?;
        let text = read_text(&checkpoint, path)?;
        let trained = model.dims().context_length;
        let context = options.context.unwrap_or(trained.min(DEFAULT_CONTEXT));
        if context == 0 || context > trained {
            return Err(Error::Context {
                wanted: context,
                max: trained,
            });
        }
        let graph = model.graph(Head::Next)?;
        let rows = PREFILL_ROWS.min(context);
        let mut load = async |request| -> Result<Device> {
            let mut device = Device::open(request, options.precision).await?;
            load_weights(
                &mut device,
                &model,
                &checkpoint,
                &graph.weights,
                on_progress,
            )?;
            device.prepare(graph.clone(), context, options.cache_type, rows)?;
            Ok(device)
        };
        let device = match load(options.device).await {
            // A model that a GPU cannot hold may still run.
            Err(Error::Gpu(_)) if options.device == DeviceRequest::Auto => {
                load(DeviceRequest::Cpu).await?
            }
            other => other?,
        };
        Ok(Self {
            text,
            model,
            device,
            context,
            tokens: vec![],
        })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Forgets all tokens.
    pub fn reset(&mut self) {
        self.tokens.clear();
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.dims().vocab_size;
        match tokens.iter().find(|id| **id as usize >= vocab) {
            _ if tokens.is_empty() => Err(Error::EmptyPrompt),
            Some(id) => Err(Error::Token { id: *id, vocab }),
            None => Ok(()),
        }
    }

    /// Logits `[tokens.len(), vocab]` of every position.
    pub async fn logits(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        Ok(self
            .trace(tokens, &[], TRACE_ROWS)
            .await?
            .swap_remove(0)
            .values)
    }

    /// Logits of every position, then the named values: `embed`, `model.layers.N.attention` (the
    /// heads' mix of values), `model.layers.N.hidden` (after the block), `model.norm`. The values
    /// are computed for this call; a session that never asks pays nothing.
    ///
    /// `rows` tokens run at once (at least 1): several take the prefill's kernels, 1 the decode
    /// step's.
    pub async fn trace(
        &mut self,
        tokens: &[u32],
        names: &[String],
        rows: usize,
    ) -> Result<Vec<Traced>> {
        let rows = rows.max(1);
        self.check_tokens(tokens)?;
        self.check_length(tokens.len())?;
        let mut graph = self.model.graph(Head::AllLogits)?;
        for name in names {
            graph.tap(name).map_err(siskin_models::Error::from)?;
        }
        self.tokens.clear();
        let labels = std::iter::once("logits").chain(names.iter().map(String::as_str));
        let mut traced: Vec<Traced> = labels
            .zip(&graph.outputs)
            .map(|(name, id)| Traced {
                name: name.into(),
                cols: graph.node(*id).cols,
                values: vec![],
            })
            .collect();
        for (i, chunk) in tokens.chunks(rows).enumerate() {
            let outputs = self.device.evaluate(&graph, chunk, i * rows).await?;
            traced
                .iter_mut()
                .zip(outputs)
                .for_each(|(t, values)| t.values.extend(values));
        }
        Ok(traced)
    }

    /// The names that [`Session::trace`] knows.
    pub fn trace_names(&self) -> Result<Vec<String>> {
        let graph = self.model.graph(Head::AllLogits)?;
        Ok(graph.names.into_iter().map(|n| n.0).collect())
    }

    fn check_length(&self, prompt: usize) -> Result<()> {
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

    /// Answers a prompt. The tokens it shares with the cache are not run again.
    ///
    /// `on_event` may break off: the answer ends as [`FinishReason::Cancelled`], and the session
    /// goes on to be usable.
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        check_sampling(&options.sampling)?;
        self.check_tokens(prompt)?;
        self.check_length(prompt.len())?;
        let start = Instant::now();
        let cached_tokens = self.keep_prefix(prompt);
        let mut answer = Answer {
            text: String::new(),
            ids: vec![],
            finish_reason: FinishReason::Length,
            prompt_tokens: prompt.len(),
            cached_tokens,
            prefill_time: Default::default(),
            decode_time: Default::default(),
            logprobs: vec![],
        };
        if options.max_tokens == 0 {
            return Ok(answer);
        }
        for chunk in prompt[cached_tokens..].chunks(PREFILL_ROWS) {
            let last = self.tokens.len() + chunk.len() == prompt.len();
            self.device
                .prefill(chunk, self.tokens.len(), &options.sampling, last)?;
            self.tokens.extend(chunk);
            let event = Event::Prefill {
                done: self.tokens.len(),
                total: prompt.len(),
            };
            if on_event(event).is_break() {
                self.device.discard().await?;
                answer.finish_reason = FinishReason::Cancelled;
                return Ok(answer);
            }
        }
        let mut stream = TextStream::new(&options.stop);
        // Steps that were started and whose tokens were not taken yet.
        let mut ahead = 1;
        let mut first_token = None;
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
                    .decode(self.tokens.len() + ahead - 1, &options.sampling)?;
                ahead += 1;
            }
            let (id, logits) = self.device.take(options.logprobs.is_some()).await?;
            ahead -= 1;
            let now = Instant::now();
            let first = *first_token.get_or_insert(now);
            answer.prefill_time = first - start;
            answer.decode_time = now - first;
            answer.ids.push(id);
            if let Some(n) = options.logprobs {
                answer.logprobs.push(logprob(&self.text, &logits, id, n));
            }
            if self.text.is_end(id) && !options.ignore_end {
                answer.finish_reason = FinishReason::Stop;
                break;
            }
            let emitted = stream.push(&self.text, id);
            answer.text.push_str(&emitted.text);
            let flow = on_event(Event::Token {
                id,
                text: &emitted.text,
            });
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
                self.device.decode(self.tokens.len(), &options.sampling)?;
                ahead = 1;
            }
            self.tokens.push(id);
        }
        self.device.discard().await?;
        let rest = stream.finish(&self.text);
        if !rest.is_empty() {
            answer.text.push_str(&rest);
            let id = answer.ids.last().copied().unwrap_or_default();
            let _ = on_event(Event::Token { id, text: &rest });
        }
        Ok(answer)
    }

    /// What one decode step after the tokens in the cache does on a GPU; `None` on the CPU.
    pub async fn decode_counts(&mut self) -> Result<Option<Counts>> {
        let position = self.tokens.len();
        let Device::Gpu(gpu) = &mut self.device else {
            return Ok(None);
        };
        gpu.take_counts();
        gpu.decode(position, &Sampling::default())?;
        gpu.take(false).await?;
        Ok(Some(gpu.take_counts()))
    }

    /// Time of each kernel in that step; `None` without a GPU or its timestamps.
    pub async fn decode_times(&mut self) -> Result<Option<Vec<KernelTime>>> {
        let position = self.tokens.len();
        let Device::Gpu(gpu) = &mut self.device else {
            return Ok(None);
        };
        Ok(gpu.time_decode(position).await?)
    }

    /// Cuts the cache back to what it shares with the prompt, whose last token always runs again:
    /// its logits are needed.
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

fn check_sampling(s: &Sampling) -> Result<()> {
    let check = |ok: bool, field, value, range| {
        if ok {
            Ok(())
        } else {
            Err(Error::Sampling {
                field,
                value,
                range,
            })
        }
    };
    let temperature = (0.0..=100.0).contains(&s.temperature);
    check(
        temperature,
        "temperature",
        s.temperature,
        "give 0 (greedy) to 100",
    )?;
    check(
        s.top_p > 0.0 && s.top_p <= 1.0,
        "top_p",
        s.top_p,
        "give more than 0, at most 1",
    )?;
    check(
        (0.0..1.0).contains(&s.min_p),
        "min_p",
        s.min_p,
        "give 0 to less than 1",
    )?;
    let penalty = s.repeat_penalty > 0.0 && s.repeat_penalty <= 100.0;
    check(
        penalty,
        "repeat_penalty",
        s.repeat_penalty,
        "give more than 0; 1 is no penalty",
    )
}

fn logprob(text: &TextModel, logits: &[f32], id: u32, n: usize) -> TokenLogprob {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    let of = |id: u32| (f64::from(logits[id as usize] - max) - total.ln()) as f32;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    let n = n.min(order.len());
    if n > 0 && n < order.len() {
        order.select_nth_unstable_by(n - 1, by_logit);
    }
    order.truncate(n);
    order.sort_by(by_logit);
    let top = |id: u32| TopLogprob {
        id,
        piece: text.piece(id),
        logprob: of(id),
    };
    TokenLogprob {
        id,
        piece: text.piece(id),
        logprob: of(id),
        top: order.into_iter().map(top).collect(),
    }
}
