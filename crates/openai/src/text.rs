//! `/v1/completions`.

use serde_json::Value;
use siskin_text::TextModel;

use crate::chunks::Completion;
use crate::common::{Common, MAX_N, top};
use crate::ends::Ends;
use crate::error::{ApiError, Result};
use crate::exchange::{Exchange, Prompt, Reply};
use crate::fields::Fields;
use crate::shapes::{Head, Kind};

/// A request that has been read.
#[derive(Debug)]
pub struct TextRequest {
    pub(crate) common: Common,
    prompt: Value,
    /// How many answers to a prompt are generated, of which `n` are returned.
    best_of: usize,
}

impl TextRequest {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let logprobs = top(&mut fields, "logprobs")?;
        let common = Common::of(&mut fields, logprobs)?;
        let prompt = fields.need("prompt")?;
        let best_of = best_of(&mut fields, &common)?;
        fields.finish()?;
        Ok(Self {
            common,
            prompt,
            best_of,
        })
    }

    pub(crate) fn exchange(self, text: &TextModel, name: &str) -> Result<Exchange> {
        let Self {
            mut common,
            prompt,
            best_of,
        } = self;
        let prompts = prompts(&prompt, text)?;
        let include_logprobs = common.options.logprobs.is_some();
        if best_of > common.n {
            // They are compared by it.
            common.options.logprobs = common.options.logprobs.or(Some(0));
        }
        let n = prompts.len() * best_of;
        let prompts = prompts
            .into_iter()
            .flat_map(|tokens| Prompt::several(tokens, &common.options, best_of));
        Ok(Exchange {
            prompts: prompts.collect(),
            field: "prompt",
            grammar: common.grammar,
            is_stream: common.stream,
            reply: Reply::Completion(Completion {
                head: Head::new(Kind::Text, name),
                per_prompt: common.n,
                best_of,
                n,
                include_usage: common.include_usage,
                include_logprobs,
                parsing: None,
                ends: Ends::of(text),
            }),
        })
    }
}

fn best_of(fields: &mut Fields, common: &Common) -> Result<usize> {
    let Some(best_of) = fields.take::<usize>("best_of")? else {
        return Ok(common.n);
    };
    let refused = |why: &str| {
        let message = format!("`best_of` is {best_of}; {why}");
        Err(ApiError::field("best_of", message))
    };
    if best_of < common.n || best_of > MAX_N {
        return refused(&format!("it must be from `n` to {MAX_N}"));
    }
    if best_of > common.n && common.stream {
        return refused("a stream cannot be compared with others; leave it out or do not stream");
    }
    Ok(best_of)
}

/// The prompts as tokens: a text, its tokens, or a list of either.
fn prompts(given: &Value, text: &TextModel) -> Result<Vec<Vec<u32>>> {
    let wrong = |message: String| ApiError::field("prompt", message);
    let tokens = |prompt: &str| -> Result<Vec<u32>> {
        let tokens = text.encode(prompt);
        let tokens = tokens.map_err(|e| ApiError::refused(e, "prompt"))?;
        Ok(tokens.iter().map(|t| t.id).collect())
    };
    let shape = || {
        wrong(
            "`prompt` must be a text, a list of texts, a list of tokens, or a list of such".into(),
        )
    };
    let ids = |value: &Value| serde_json::from_value(value.clone()).map_err(|_| shape());
    match given {
        Value::String(prompt) => Ok(vec![tokens(prompt)?]),
        Value::Array(all) if all.is_empty() => Err(shape()),
        Value::Array(all) if all.iter().all(Value::is_u64) => Ok(vec![ids(given)?]),
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
