//! `/v1/chat/completions`.

use siskin_text::TextModel;

use crate::chunks::Completion;
use crate::common::{Common, top};
use crate::conversation::Conversation;
use crate::ends::Ends;
use crate::error::{ApiError, Result};
use crate::exchange::{Exchange, Prompt, Reply};
use crate::fields::Fields;
use crate::parsing::{Parsing, Turn};
use crate::shapes::{Head, Kind};
use crate::tools::Tools;

/// A request that has been read.
#[derive(Debug)]
pub struct ChatRequest {
    pub(crate) common: Common,
    tools: Tools,
    conversation: Conversation,
}

impl ChatRequest {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let is_wanted = fields.take("logprobs")?.unwrap_or(false);
        let top = top(&mut fields, "top_logprobs")?;
        if top.is_some() && !is_wanted {
            let message = "`top_logprobs` needs `logprobs: true`";
            return Err(ApiError::field("top_logprobs", message));
        }
        let common = Common::of(&mut fields, is_wanted.then(|| top.unwrap_or(0)))?;
        let tools = Tools::of(&mut fields)?;
        let conversation = Conversation::of(&mut fields, &tools)?;
        fields.finish()?;
        Ok(Self {
            common,
            tools,
            conversation,
        })
    }

    pub(crate) fn exchange(self, text: &TextModel, name: &str) -> Result<Exchange> {
        let Self {
            mut common,
            tools,
            conversation,
        } = self;
        let Turn {
            prompt,
            parsing,
            grammar,
        } = Turn::of(text, conversation, &tools, common.grammar)?;
        common.options.shown = parsing.as_ref().map(Parsing::shown).unwrap_or_default();
        Ok(Exchange {
            prompts: Prompt::several(prompt, &common.options, common.n).collect(),
            field: "messages",
            grammar,
            is_stream: common.stream,
            reply: Reply::Completion(Completion {
                head: Head::new(Kind::Chat, name),
                per_prompt: common.n,
                best_of: common.n,
                n: common.n,
                include_usage: common.include_usage,
                include_logprobs: true,
                parsing,
                ends: Ends::of(text),
            }),
        })
    }
}
