//! A loaded model.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use js_sys::{Array, Float32Array, Function, Reflect};
use send_wrapper::SendWrapper;
use serde::Deserialize;
use serde_json::json as object;
use siskin_engine::{
    Answer, CacheTypes, DeviceRequest, GUESSES, GenerateOptions, LookOptions, MemoryFigure,
    ModelFiles, OpenOptions, Precision, RequestEvent, RequestId, Sampling, Update,
    read_cache_types,
};
use siskin_gpu::Profile;
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid, to_js};
use crate::exchange::Exchange;
use crate::grammar::{Compiled, CompiledGrammar};
use crate::{json, parse};

/// The most answers at once.
const SEQUENCES: usize = 4;

/// How to open a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadOptions {
    /// `webgpu`, `cpu`, or unset: whichever is faster.
    device: Option<String>,
    profile: Option<String>,
    context: Option<usize>,
    #[serde(deserialize_with = "read_cache_types")]
    cache_types: CacheTypes,
    /// `ngram`, or unset: whether the next tokens are guessed from those before.
    draft: Option<String>,
}

/// What to generate.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    temperature: f32,
    top_p: f32,
    top_k: u32,
    min_p: f32,
    repeat_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    logit_bias: BTreeMap<u32, f32>,
    /// As a string: a 64-bit number exceeds the precision of JSON numbers.
    seed: String,
    max_tokens: usize,
    stop: Vec<String>,
    top_logprobs: Option<usize>,
    ignore_end: bool,
}

impl Default for Request {
    fn default() -> Self {
        let sampling = Sampling::default();
        Self {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: sampling.seed.to_string(),
            max_tokens: GenerateOptions::default().max_tokens,
            stop: vec![],
            top_logprobs: None,
            ignore_end: false,
        }
    }
}

pub fn profile(name: &str) -> Result<Profile> {
    name.parse().map_err(|e: String| invalid(&e))
}

#[wasm_bindgen]
#[derive(Debug)]
pub struct Session {
    pub(crate) session: siskin_engine::Session,
    /// The requests that are answers of an exchange, and which.
    exchanged: HashMap<RequestId, (Exchange, usize)>,
    #[cfg(feature = "training")]
    pub(crate) trainer: Option<siskin_train::Trainer>,
    /// Answers that were drawn and are to be learned from.
    #[cfg(feature = "training")]
    pub(crate) drawn: Vec<siskin_train::Rollout>,
}

impl Session {
    pub(crate) async fn load(
        files: ModelFiles,
        options: LoadOptions,
        on_progress: &Function,
    ) -> Result<Self> {
        let profile = options.profile.as_deref().map(profile).transpose()?;
        let gpu = DeviceRequest::Gpu {
            index: None,
            profile,
        };
        let options = OpenOptions {
            device: match options.device.as_deref() {
                None if profile.is_none() => DeviceRequest::Auto,
                None | Some("webgpu") => gpu,
                Some("cpu") => DeviceRequest::Cpu,
                Some(other) => return Err(invalid(&format!("there is no device `{other}`"))),
            },
            context: options.context,
            // They share the cache of one conversation, so that each further one costs no memory.
            sequences: SEQUENCES,
            cache_tokens: Some(0),
            guesses: match options.draft.as_deref() {
                None => 0,
                Some("ngram") => GUESSES,
                Some(other) => {
                    return Err(invalid(&format!("there is no draft `{other}`; use ngram")));
                }
            },
            scores: 0,
            cache_types: options.cache_types,
            precision: Precision::Fast,
        };
        let report = &mut |p: siskin_engine::Progress| {
            let (done, total) = (p.done as f64, p.total as f64);
            let _ = on_progress.call2(&JsValue::NULL, &done.into(), &total.into());
        };
        let session = siskin_engine::Session::load(files, &options, report).await;
        let session = session.map_err(to_js)?;
        Ok(Self {
            session,
            exchanged: HashMap::new(),
            #[cfg(feature = "training")]
            trainer: None,
            #[cfg(feature = "training")]
            drawn: vec![],
        })
    }
}

#[wasm_bindgen]
impl Session {
    /// Device, profile, context and memory, as JSON.
    pub fn info(&self) -> Result<String> {
        let session = &self.session;
        let checkpoint = &session.files().checkpoint;
        let is_gpu = session.device().is_gpu();
        let (context, types) = (session.context(), session.cache_types());
        let memory = MemoryFigure::of(&session.model, checkpoint, context, types, is_gpu);
        json(&object!({
            "device": if is_gpu { "webgpu" } else { "cpu" },
            "deviceName": session.device().name(),
            "profile": session.device().profile(),
            "context": session.context(),
            "contextUsed": session.tokens().len(),
            "memory": memory_json(&memory.map_err(to_js)?),
        }))
    }

    /// Adds a prompt of token ids, to be answered by [`Self::step`] beside others; returns the request's number.
    pub fn submit(&mut self, prompt: Vec<u32>, request: String) -> Result<f64> {
        let request: Request = parse(&request)?;
        let seed = request.seed.parse();
        let options = GenerateOptions {
            sampling: Sampling {
                temperature: request.temperature,
                top_k: request.top_k,
                top_p: request.top_p,
                min_p: request.min_p,
                repeat_penalty: request.repeat_penalty,
                seed: seed.map_err(|_| invalid("`seed` must be an integer from 0"))?,
            },
            frequency_penalty: request.frequency_penalty,
            presence_penalty: request.presence_penalty,
            logit_bias: request.logit_bias,
            max_tokens: request.max_tokens,
            stop: request.stop,
            logprobs: request.top_logprobs,
            ignore_end: request.ignore_end,
            keep: None,
            shown: vec![],
            grammar: None,
            adapter: None,
        };
        let submitted = self.session.submit(&prompt, options);
        submitted.map(|id| id.0 as f64).map_err(to_js)
    }

    /// Adds the prompt of an exchange's answer, and what it must look like; returns the request's number.
    #[wasm_bindgen(js_name = submitExchange)]
    pub fn submit_exchange(
        &mut self,
        exchange: &Exchange,
        index: usize,
        grammar: Option<CompiledGrammar>,
    ) -> Result<f64> {
        let mut prompt = exchange.prompt(index)?;
        prompt.options.grammar = match grammar {
            Some(grammar) => Some(Arc::new(Compiled(SendWrapper::new(grammar)))),
            None => None,
        };
        let id = self.session.submit(&prompt.tokens, prompt.options);
        let id = id.map_err(to_js)?;
        self.exchanged.insert(id, (exchange.clone(), index));
        Ok(id.0 as f64)
    }

    /// Runs one step of all requests. Calls `on_event(request, kind, …)` with `prefill, done, total`; `token, id, text,
    /// logprob JSON or undefined`; `rest, text`; `lost`; and last for a request, `done, JSON` or `failed, error`. Of an
    /// exchange's answers, what is sent back is told instead of tokens and text: `reply, JSON`.
    pub async fn step(&mut self, on_event: Function) -> Result<()> {
        for update in self.session.step().await.map_err(to_js)? {
            self.tell(&on_event, update)?;
        }
        Ok(())
    }

    /// Ends a request; its answer so far is told as by [`Self::step`].
    pub fn cancel(&mut self, request: f64, on_event: Function) -> Result<()> {
        for update in self.session.cancel(RequestId(request as u64)) {
            self.tell(&on_event, update)?;
        }
        Ok(())
    }

    /// The sequence answered last with its keys and values, as the contents of a file.
    pub async fn save(&mut self, note: String) -> Result<Vec<u8>> {
        self.session.save(&note).await.map_err(to_js)
    }

    /// Puts a saved sequence into the KV cache; returns `{ tokens, note }` as JSON.
    pub async fn restore(&mut self, file: Vec<u8>) -> Result<String> {
        let restored = self.session.restore(&file).await.map_err(to_js)?;
        json(&object!({ "tokens": restored.tokens, "note": restored.note }))
    }

    /// Logits for the token after the prompt.
    #[wasm_bindgen(js_name = nextLogits)]
    pub async fn next_logits(&mut self, prompt: Vec<u32>) -> Result<Vec<f32>> {
        self.session.next_logits(&prompt).await.map_err(to_js)
    }

    /// `{ top, lens, nHeads }` as JSON in `json`, and a Float32Array per layer in `attention`.
    pub async fn look(&mut self, tokens: Vec<u32>, options: String) -> Result<JsValue> {
        let options: LookOptions = parse(&options)?;
        let look = self.session.look(&tokens, &options).await.map_err(to_js)?;
        let attention: Array = look
            .attention
            .iter()
            .map(|layer| Float32Array::from(&layer[..]))
            .collect();
        let out = js_sys::Object::new();
        Reflect::set(&out, &"json".into(), &json(&look)?.into())?;
        Reflect::set(&out, &"attention".into(), &attention)?;
        Ok(out.into())
    }

    /// What one decode step does on the GPU, as JSON; `null` on the CPU.
    #[wasm_bindgen(js_name = decodeCounts)]
    pub async fn decode_counts(&mut self) -> Result<String> {
        let position = self.session.tokens().len();
        let counts = self.session.decode_counts(position).await.map_err(to_js)?;
        json(&counts.map(|c| {
            object!({
                "dispatches": c.dispatches,
                "submits": c.submits,
                "readbacks": c.readbacks,
                "buffersCreated": c.buffers_created,
                "bindGroupsCreated": c.bind_groups_created,
                "bytesBound": c.bytes_bound,
            })
        }))
    }
}

impl Session {
    fn tell(&mut self, on_event: &Function, update: Update) -> Result<()> {
        let Update { request, event } = update;
        let tell = |args: Array| {
            args.unshift(&(request.0 as f64).into());
            on_event.apply(&JsValue::NULL, &args).map(drop)
        };
        let exchanged = self.exchanged.get(&request);
        if let Some((exchange, index)) = exchanged {
            for reply in exchange.take(*index, &event) {
                tell(Array::of2(&"reply".into(), &reply.into()))?;
            }
        }
        let is_exchanged = exchanged.is_some();
        match event {
            RequestEvent::Prefill { done, total } => tell(Array::of3(
                &"prefill".into(),
                &(done as f64).into(),
                &(total as f64).into(),
            )),
            RequestEvent::Token { .. } | RequestEvent::Rest { .. } if is_exchanged => Ok(()),
            RequestEvent::Token { id, text, logprob } => tell(Array::of4(
                &"token".into(),
                &id.into(),
                &text.into(),
                &match logprob {
                    Some(logprob) => json(&logprob)?.into(),
                    None => JsValue::UNDEFINED,
                },
            )),
            RequestEvent::Rest { text } => tell(Array::of2(&"rest".into(), &text.into())),
            RequestEvent::DeviceLost => tell(Array::of1(&"lost".into())),
            RequestEvent::Done(answer) => {
                self.exchanged.remove(&request);
                tell(Array::of2(&"done".into(), &answer_json(&answer)?.into()))
            }
            RequestEvent::Failed(e) => {
                self.exchanged.remove(&request);
                tell(Array::of2(&"failed".into(), &to_js(e)))
            }
        }
    }
}

/// In the package's names.
pub(crate) fn memory_json(memory: &MemoryFigure) -> serde_json::Value {
    object!({
        "weights": memory.weights,
        "kvCache": memory.kv_cache,
        "activations": memory.activations,
        "total": memory.total,
    })
}

fn answer_json(answer: &Answer) -> Result<String> {
    json(&object!({
        "ids": answer.ids,
        "finishReason": answer.finish_reason,
        "seed": answer.seed,
        "promptTokens": answer.prompt_tokens,
        "cachedTokens": answer.cached_tokens,
        "prefillSeconds": answer.prefill_time.as_secs_f64(),
        "decodeSeconds": answer.decode_time.as_secs_f64(),
    }))
}
