//! A loaded model.

use std::ops::ControlFlow;

use js_sys::{Array, Float32Array, Function, Promise, Reflect};
use serde::Deserialize;
use serde_json::json as object;
use siskin_engine::{
    Answer, CacheType, DeviceRequest, Event, GenerateOptions, LookOptions, MemoryFigure,
    ModelFiles, OpenOptions, Precision, Sampling,
};
use siskin_gpu::Profile;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::error::{Result, invalid, to_js};
use crate::{json, parse};

/// How to open a model.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadOptions {
    /// `webgpu`, `cpu`, or unset: whichever is faster.
    device: Option<String>,
    profile: Option<String>,
    context: Option<usize>,
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
    #[cfg(feature = "training")]
    pub(crate) trainer: Option<siskin_train::Trainer>,
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
            cache_type: CacheType::F16,
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
            #[cfg(feature = "training")]
            trainer: None,
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
        let memory = MemoryFigure::of(&session.model, checkpoint, session.context(), 2, is_gpu);
        json(&object!({
            "device": if is_gpu { "webgpu" } else { "cpu" },
            "deviceName": session.device().name(),
            "profile": session.device().profile(),
            "context": session.context(),
            "contextUsed": session.tokens().len(),
            "memory": memory_json(&memory.map_err(to_js)?),
        }))
    }

    /// Answers a prompt of token ids. Calls `on_event(kind, …)` with `prefill, done, total`;
    /// `token, id, text, logprob JSON or undefined`; `rest, text`; `lost`. The callback returns, or promises,
    /// whether to continue.
    pub async fn generate(
        &mut self,
        prompt: Vec<u32>,
        request: String,
        on_event: Function,
    ) -> Result<String> {
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
            max_tokens: request.max_tokens,
            stop: request.stop,
            logprobs: request.top_logprobs,
            ignore_end: request.ignore_end,
        };
        let mut thrown = None;
        let answer = self
            .session
            .generate(&prompt, &options, async |event| {
                match call(&on_event, &event).await {
                    Ok(go_on) if go_on.is_truthy() => ControlFlow::Continue(()),
                    Ok(_) => ControlFlow::Break(()),
                    Err(e) => {
                        thrown = Some(e);
                        ControlFlow::Break(())
                    }
                }
            })
            .await
            .map_err(to_js)?;
        match thrown {
            Some(e) => Err(e),
            None => answer_json(&answer),
        }
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

/// In the package's names.
pub(crate) fn memory_json(memory: &MemoryFigure) -> serde_json::Value {
    object!({
        "weights": memory.weights,
        "kvCache": memory.kv_cache,
        "activations": memory.activations,
        "total": memory.total,
    })
}

async fn call(on_event: &Function, event: &Event<'_>) -> Result<JsValue> {
    let args = match event {
        Event::Prefill { done, total } => Array::of3(
            &"prefill".into(),
            &(*done as f64).into(),
            &(*total as f64).into(),
        ),
        Event::Token { id, text, logprob } => Array::of4(
            &"token".into(),
            &(*id).into(),
            &(*text).into(),
            &match logprob {
                Some(logprob) => json(logprob)?.into(),
                None => JsValue::UNDEFINED,
            },
        ),
        Event::Rest { text } => Array::of2(&"rest".into(), &(*text).into()),
        Event::DeviceLost => Array::of1(&"lost".into()),
    };
    let returned = on_event.apply(&JsValue::NULL, &args)?;
    match returned.dyn_into::<Promise>() {
        Ok(promise) => JsFuture::from(promise).await,
        Err(value) => Ok(value),
    }
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
