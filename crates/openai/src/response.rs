//! `/v1/responses`, without what needs storage: a response is answered and forgotten.

use serde_json::{Map, Value, json};
use siskin_engine::GenerateOptions;
use siskin_text::TextModel;

use crate::common::{sampling, stream_options, top};
use crate::conversation::Conversation;
use crate::ends::Ends;
use crate::error::{ApiError, Result};
use crate::exchange::{Exchange, Prompt, Reply};
use crate::fields::Fields;
use crate::input;
use crate::parsing::{Parsing, Turn};
use crate::response_shapes::ResponseHead;
use crate::shape::{self, Wanted};
use crate::tools::Tools;

/// Whether a field's value asks for nothing.
type AsksForNothing = fn(&Value) -> bool;

/// What cannot be had here, the values that do not ask for it, and why.
const REFUSED: &[(&str, AsksForNothing, &str)] = &[
    (
        "previous_response_id",
        |_| false,
        "responses are not stored; send the whole conversation as `input`",
    ),
    (
        "conversation",
        |_| false,
        "conversations are not stored; send the whole conversation as `input`",
    ),
    (
        "store",
        |v| *v == Value::Bool(false),
        "responses are not stored; leave it out",
    ),
    (
        "background",
        |v| *v == Value::Bool(false),
        "responses are not stored, so they cannot be fetched later; use `stream`",
    ),
    (
        "max_tool_calls",
        |_| false,
        "calls of an answer are not counted; set `parallel_tool_calls` to false for one",
    ),
    (
        "prompt",
        |_| false,
        "there are no stored prompts; use `instructions` and `input`",
    ),
    (
        "reasoning",
        |v| {
            v.as_object()
                .is_some_and(|fields| fields.values().all(Value::is_null))
        },
        "how much a model thinks cannot be set",
    ),
    (
        "truncation",
        |v| v == "disabled",
        "a conversation is never cut; shorten `input`",
    ),
    (
        "context_management",
        |v| v.as_array().is_some_and(Vec::is_empty),
        "a conversation is never cut; shorten `input`",
    ),
];

/// The one thing more that an answer may include.
const LOGPROBS: &str = "message.output_text.logprobs";

/// A request that has been read.
#[derive(Debug)]
pub struct ResponseRequest {
    pub(crate) model: Option<String>,
    conversation: Conversation,
    tools: Tools,
    options: GenerateOptions,
    grammar: Option<Wanted>,
    is_stream: bool,
    /// What is said of it in the answer.
    echo: Value,
}

impl ResponseRequest {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        for (name, asks_for_nothing, why) in REFUSED {
            let given = fields.take::<Value>(name)?;
            if given.is_some_and(|value| !asks_for_nothing(&value)) {
                let message = format!("`{name}` is not supported: {why}");
                return Err(ApiError::field(name, message));
            }
        }
        let include: Vec<String> = fields.take("include")?.unwrap_or_default();
        if let Some(other) = include.iter().find(|name| *name != LOGPROBS) {
            let message = format!("`include`: `{other}` is not supported; only `{LOGPROBS}` is");
            return Err(ApiError::field("include", message));
        }
        let top = top(&mut fields, "top_logprobs")?;
        if top.is_some_and(|n| n > 0) && include.is_empty() {
            let message = format!("`top_logprobs` needs `include: [\"{LOGPROBS}\"]`");
            return Err(ApiError::field("top_logprobs", message));
        }
        // As they were written: an f32 would be told as 0.800000011920929.
        let echo =
            |name: &str, usual: f64| fields.get(name).cloned().unwrap_or_else(|| usual.into());
        let (temperature, top_p) = (echo("temperature", 0.0), echo("top_p", 1.0));
        let sampling = sampling(&mut fields)?;
        let max_tokens: Option<usize> = fields.take("max_output_tokens")?;
        stream_options(&mut fields)?;
        let is_stream = fields.take("stream")?.unwrap_or(false);
        let model: Option<String> = fields.take("model")?;
        let instructions: Option<String> = fields.take("instructions")?;
        let metadata = fields.take::<Map<String, Value>>("metadata")?;
        let (grammar, format) = shape::of_text(&mut fields)?;
        let described = fields.get("tools").cloned();
        let choice = fields.get("tool_choice").cloned();
        let tools = Tools::of_response(&mut fields)?;
        let conversation = input::conversation(&mut fields, instructions.as_deref())?;
        fields.finish()?;
        let echo = json!({
            "instructions": instructions,
            "max_output_tokens": max_tokens,
            "metadata": metadata.unwrap_or_default(),
            "temperature": temperature,
            "top_p": top_p,
            "top_logprobs": top.unwrap_or(0),
            "text": {"format": format},
            "tools": described.unwrap_or_else(|| json!([])),
            "tool_choice": choice.unwrap_or_else(|| "auto".into()),
            "parallel_tool_calls": tools.are_parallel,
        });
        Ok(Self {
            model,
            conversation: conversation.with(&tools),
            tools,
            options: GenerateOptions {
                sampling,
                max_tokens: max_tokens.unwrap_or(usize::MAX),
                logprobs: (!include.is_empty()).then(|| top.unwrap_or(0)),
                ..GenerateOptions::default()
            },
            grammar,
            is_stream,
            echo,
        })
    }

    pub(crate) fn exchange(self, text: &TextModel, name: &str) -> Result<Exchange> {
        let Turn {
            prompt,
            parsing,
            grammar,
        } = Turn::of(text, self.conversation, &self.tools, self.grammar)?;
        let mut options = self.options;
        options.shown = parsing.as_ref().map(Parsing::shown).unwrap_or_default();
        let mut echo = self.echo;
        echo["model"] = name.into();
        Ok(Exchange {
            prompts: Prompt::several(prompt, &options, 1).collect(),
            field: "input",
            grammar,
            is_stream: self.is_stream,
            reply: Reply::Response(ResponseHead::new(echo, parsing, Ends::of(text))),
        })
    }
}
