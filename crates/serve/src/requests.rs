//! Requests of completions, read field by field: what is not known is refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use siskin_engine::{GenerateOptions, Sampling, new_seed};
use siskin_text::{Message, RenderRequest, TextModel};

use crate::error::{ApiError, Result};
use crate::messages::message_of;
use crate::shape::{self, Wanted};
use crate::tools::Tools;

/// OpenAI's fields that do not affect the answer.
const WITHOUT_EFFECT: &[&str] = &[
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "store",
    "service_tier",
];

/// OpenAI's fields that are not supported: only values that request nothing are accepted.
const UNSUPPORTED: &[&str] = &[
    "functions",
    "function_call",
    "audio",
    "modalities",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
    "echo",
    "suffix",
];

/// The most answers to one prompt.
pub const MAX_N: usize = 128;

/// The fields of a request that have not been read.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    pub fn of(body: Value) -> Result<Self> {
        match body {
            Value::Object(mut fields) => {
                fields.retain(|_, value| !value.is_null());
                Ok(Self(fields))
            }
            _ => Err(ApiError::invalid("a request must be a JSON object")),
        }
    }

    /// A field's value, if it is given.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        let value = serde_json::from_value(value);
        value
            .map(Some)
            .map_err(|e| ApiError::field(name, format!("`{name}`: {e}")))
    }

    /// A field's value, which must be given.
    pub fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let missing = || ApiError::field(name, format!("`{name}` is missing"));
        self.take(name)?.ok_or_else(missing)
    }

    /// A field's value as it was written, to be read later.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Refuses what was not read.
    pub fn finish(self) -> Result<()> {
        for (name, value) in self.0 {
            if WITHOUT_EFFECT.contains(&name.as_str()) {
                continue;
            }
            let message = match UNSUPPORTED.contains(&name.as_str()) {
                true if asks_for_nothing(&name, &value) => continue,
                true => format!("`{name}` is not supported"),
                false => format!("a request has no field `{name}`"),
            };
            return Err(ApiError::field(&name, message));
        }
        Ok(())
    }
}

fn asks_for_nothing(name: &str, value: &Value) -> bool {
    match name {
        "modalities" => value
            .as_array()
            .is_some_and(|m| m.iter().all(|m| m == "text")),
        "frequency_penalty" | "presence_penalty" => value.as_f64() == Some(0.0),
        "logit_bias" => value.as_object().is_some_and(Map::is_empty),
        "suffix" => value == "",
        _ => *value == Value::Bool(false) || value.as_array().is_some_and(Vec::is_empty),
    }
}

/// What chat and text completions have in common.
#[derive(Debug)]
pub struct Common {
    pub model: Option<String>,
    pub stream: bool,
    pub include_usage: bool,
    pub options: GenerateOptions,
    /// Answers to each prompt.
    pub n: usize,
    /// What the answer must look like.
    pub shape: Option<Wanted>,
}

impl Common {
    /// With `logprobs` as they have been read: their names differ.
    pub fn of(fields: &mut Fields, logprobs: Option<usize>) -> Result<Self> {
        let limit: Option<usize> = fields.take("max_completion_tokens")?;
        let limit = match fields.take("max_tokens")? {
            Some(n) => limit.or(Some(n)),
            None => limit,
        };
        let sampling = sampling(fields)?;
        let n = fields.take("n")?.unwrap_or(1);
        if n == 0 || n > MAX_N {
            let message = format!("`n` is {n}; it must be from 1 to {MAX_N}");
            return Err(ApiError::field("n", message));
        }
        let include_usage = stream_options(fields)?;
        Ok(Self {
            model: fields.take("model")?,
            stream: fields.take("stream")?.unwrap_or(false),
            include_usage,
            n,
            shape: shape::wanted(fields)?,
            options: GenerateOptions {
                sampling,
                max_tokens: limit.unwrap_or(usize::MAX),
                stop: stop_strings(fields)?,
                shown: vec![],
                logprobs,
                ignore_end: false,
                keep: None,
                grammar: None,
                adapter: None,
            },
        })
    }
}

pub fn sampling(fields: &mut Fields) -> Result<Sampling> {
    let usual = Sampling::default();
    Ok(Sampling {
        temperature: fields.take("temperature")?.unwrap_or(usual.temperature),
        top_p: fields.take("top_p")?.unwrap_or(usual.top_p),
        top_k: fields.take("top_k")?.unwrap_or(usual.top_k),
        min_p: fields.take("min_p")?.unwrap_or(usual.min_p),
        repeat_penalty: fields
            .take("repeat_penalty")?
            .unwrap_or(usual.repeat_penalty),
        seed: fields.take("seed")?.unwrap_or_else(new_seed),
    })
}

/// Whether a stream's usage is wanted.
pub fn stream_options(fields: &mut Fields) -> Result<bool> {
    let mut include_usage = false;
    let given = fields.take::<Map<String, Value>>("stream_options")?;
    for (name, value) in given.unwrap_or_default() {
        match (name.as_str(), value.as_bool()) {
            ("include_usage", Some(wanted)) => include_usage = wanted,
            // Padding against those who see only the lengths of packets: there is none.
            ("include_obfuscation", Some(_)) => {}
            _ => {
                let message = format!(
                    "`stream_options`: `{name}` is {value}; use include_usage: true or false"
                );
                return Err(ApiError::field("stream_options", message));
            }
        }
    }
    Ok(include_usage)
}

fn stop_strings(fields: &mut Fields) -> Result<Vec<String>> {
    match fields.take::<Value>("stop")? {
        None => Ok(vec![]),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(several) => {
            let message = "`stop` must be a string or a list of strings";
            serde_json::from_value(several).map_err(|_| ApiError::field("stop", message))
        }
    }
}

/// A number of likeliest tokens.
pub fn top(fields: &mut Fields, name: &str) -> Result<Option<usize>> {
    let n = fields.take::<usize>(name)?;
    match n.filter(|n| *n > 20) {
        Some(n) => {
            let message = format!("`{name}` is {n}; it must be from 0 to 20");
            Err(ApiError::field(name, message))
        }
        None => Ok(n),
    }
}

/// A conversation, for the chat template.
#[derive(Debug)]
pub struct Conversation {
    /// The field that the messages come from.
    field: &'static str,
    messages: Vec<Message>,
    tools: Vec<Value>,
    kwargs: Map<String, Value>,
    allow_special_tokens: bool,
}

impl Conversation {
    pub fn of(fields: &mut Fields, tools: &Tools) -> Result<Self> {
        let given: Vec<Value> = fields.need("messages")?;
        if given.is_empty() {
            let message = "`messages` must be a list of at least one message";
            return Err(ApiError::field("messages", message));
        }
        let messages = given.into_iter().enumerate().map(|(i, m)| message_of(m, i));
        let messages: Vec<Message> = messages.collect::<Result<_>>()?;
        let mut conversation = Self::new("messages", messages, fields)?;
        conversation.tools.clone_from(&tools.all);
        Ok(conversation)
    }

    /// With what the other fields say about the template.
    pub fn new(field: &'static str, messages: Vec<Message>, fields: &mut Fields) -> Result<Self> {
        Ok(Self {
            field,
            messages,
            tools: vec![],
            kwargs: fields.take("chat_template_kwargs")?.unwrap_or_default(),
            allow_special_tokens: fields.take("allow_special_tokens")?.unwrap_or(false),
        })
    }

    /// Its text and tokens up to the beginning of the assistant's answer.
    pub fn prompt(self, text: &TextModel) -> Result<(String, Vec<u32>)> {
        let rendered = text.render_chat(&RenderRequest {
            messages: &self.messages,
            tools: &self.tools,
            add_generation_prompt: true,
            kwargs: self.kwargs,
            allow_special_tokens: self.allow_special_tokens,
        });
        let wrong = |e: siskin_text::Error| ApiError::field(self.field, e.to_string());
        let rendered = rendered.map_err(wrong)?;
        let tokens = text.encode_rendered(&rendered).map_err(wrong)?;
        Ok((rendered.text, tokens.iter().map(|t| t.id).collect()))
    }
}

/// The prompts of a text completion, as tokens: a text, its tokens, or a list of either.
pub fn prompts(fields: &mut Fields, text: &TextModel) -> Result<Vec<Vec<u32>>> {
    let wrong = |message: String| ApiError::field("prompt", message);
    let tokens = |prompt: &str| -> Result<Vec<u32>> {
        let tokens = text.encode(prompt).map_err(|e| wrong(e.to_string()))?;
        Ok(tokens.iter().map(|t| t.id).collect())
    };
    let given: Value = fields.need("prompt")?;
    let shape = || {
        wrong(
            "`prompt` must be a text, a list of texts, a list of tokens, or a list of such".into(),
        )
    };
    let ids = |value: &Value| serde_json::from_value(value.clone()).map_err(|_| shape());
    match &given {
        Value::String(prompt) => Ok(vec![tokens(prompt)?]),
        Value::Array(all) if all.is_empty() => Err(shape()),
        Value::Array(all) if all.iter().all(Value::is_u64) => Ok(vec![ids(&given)?]),
        Value::Array(all) => all
            .iter()
            .map(|one| match one {
                Value::String(prompt) => tokens(prompt),
                Value::Array(_) => ids(one),
                _ => Err(shape()),
            })
            .collect(),
        _ => Err(shape()),
    }
}
