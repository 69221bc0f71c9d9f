//! What requests of completions have in common.

use serde_json::{Map, Value};
use siskin_engine::{GenerateOptions, Sampling, new_seed};

use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::shape::{self, Wanted};

/// The most answers to one prompt.
pub const MAX_N: usize = 128;

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
    pub grammar: Option<Wanted>,
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
            grammar: shape::wanted(fields)?,
            options: GenerateOptions {
                sampling,
                frequency_penalty: fields.take("frequency_penalty")?.unwrap_or(0.0),
                presence_penalty: fields.take("presence_penalty")?.unwrap_or(0.0),
                logit_bias: fields.take("logit_bias")?.unwrap_or_default(),
                max_tokens: limit.unwrap_or(usize::MAX),
                stop: stop_strings(fields)?,
                logprobs,
                ..GenerateOptions::default()
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
