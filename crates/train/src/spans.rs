//! Locates turns in a rendered conversation.
//!
//! Templates rewrite turns depending on what follows (Qwen 3 drops the thoughts of earlier answers, Mistral puts the
//! system message into the last question), so the rendering of the first few turns need not be a
//! prefix of the rendering of the whole. Learned turns are therefore located in a single rendering of the whole: a mark
//! is put into a turn, the conversation is rendered again, and the turn is where the mark appears, provided that
//! the surrounding text is the same as without it.

use std::ops::Range;

use serde_json::Value as Json;
use siskin_text::{Message, RenderRequest, TextModel, Token};

use crate::Conversation;

/// Maximum number of lines of one text at which the mark is tried.
const MOST_LINES: usize = 64;

/// A conversation and its rendering.
pub(crate) struct Rendering<'a> {
    pub model: &'a TextModel,
    pub conversation: &'a Conversation,
    pub text: &'a str,
    pub tokens: &'a [Token],
    mark: char,
}

impl<'a> Rendering<'a> {
    pub fn new(
        model: &'a TextModel,
        conversation: &'a Conversation,
        text: &'a str,
        tokens: &'a [Token],
    ) -> Self {
        let turns = serde_json::to_string(&conversation.messages).unwrap_or_default();
        let mut private = '\u{e000}'..='\u{f8ff}';
        let mark = private.find(|c| !text.contains(*c) && !turns.contains(*c));
        Self {
            model,
            conversation,
            text,
            tokens,
            mark: mark.unwrap_or('\u{e000}'),
        }
    }

    /// From where the model would begin its answer to the token that ends the turn.
    pub fn answer(&self, turn: usize) -> Result<Range<usize>, String> {
        let messages = &self.conversation.messages;
        let before = self.render(&messages[..turn], true);
        let after = self.render(&messages[..=turn], false);
        // Most templates render one turn after another.
        if let (Some(before), Some(after)) = (&before, &after)
            && self.text.starts_with(before)
            && self.text.starts_with(after)
            && after.len() > before.len()
        {
            return Ok(self.with_its_end(turn, before.len()..after.len()));
        }
        let said = self.said(turn).ok_or_else(|| {
            format!(
                "turn {} cannot be found in the rendered conversation; the chat template omits \
                 or changes it",
                turn + 1
            )
        })?;
        let start = self.start(turn, said.start, before.as_deref());
        let end = self.end(turn, said.end, after.as_deref());
        Ok(self.with_its_end(turn, start..end))
    }

    /// A turn that the template omits, other than the assistant's.
    pub fn left_out(&self) -> Option<usize> {
        let messages = &self.conversation.messages;
        (0..messages.len()).find(|i| {
            let content = messages[*i].content().trim();
            let is_there = messages[*i].role() == "assistant"
                || content.is_empty()
                || self.text.contains(content)
                || self.said(*i).is_some();
            // The template may write it differently.
            let shows_marked = || {
                let marked = marked(&messages[*i], self.mark);
                marked.into_iter().any(|m| {
                    let changed = self.render(&with(messages, *i, m), false);
                    changed.is_none_or(|text| text.contains(self.mark))
                })
            };
            !is_there && !shows_marked()
        })
    }

    /// The range of a turn's text, including its thoughts and tool calls as far as they are rendered.
    fn said(&self, turn: usize) -> Option<Range<usize>> {
        self.find(&self.conversation.messages, turn, false, self.text)
    }

    /// The same in `text`, the rendering of other messages.
    fn find(
        &self,
        messages: &[Message],
        turn: usize,
        asks: bool,
        text: &str,
    ) -> Option<Range<usize>> {
        let places = marked(&messages[turn], self.mark)
            .into_iter()
            .filter_map(|message| {
                let changed = self.render(&with(messages, turn, message), asks)?;
                let (head, tail) = changed.split_once(self.mark)?;
                let same = text.len() == head.len() + tail.len()
                    && text.starts_with(head)
                    && text.ends_with(tail);
                same.then_some(head.len())
            });
        let places: Vec<usize> = places.collect();
        Some(*places.iter().min()?..*places.iter().max()?)
    }

    fn start(&self, turn: usize, said: usize, before: Option<&str>) -> usize {
        let messages = &self.conversation.messages;
        if let Some(before) = before.filter(|b| self.text.starts_with(*b) && b.len() <= said) {
            return before.len();
        }
        let previous = turn.checked_sub(1);
        let previous_end = previous.and_then(|p| Some(self.said(p)?.end));
        // The text between a question and the beginning of its answer.
        if let (Some(p), Some(end), Some(before)) = (previous, previous_end, before)
            && let Some(asked) = self.find(&messages[..turn], p, true, before)
        {
            let lead = &before[asked.end..];
            if self.text[end..].starts_with(lead) && end + lead.len() <= said {
                return end + lead.len();
            }
        }
        let from = previous_end.unwrap_or(0).min(said);
        let prompt = self.generation_prompt();
        let at = prompt.and_then(|p| Some(self.text[from..said].rfind(&p)? + p.len()));
        at.map_or(said, |at| from + at)
    }

    fn end(&self, turn: usize, said: usize, after: Option<&str>) -> usize {
        let messages = &self.conversation.messages;
        let Some(after) = after else {
            return said;
        };
        if self.text.starts_with(after) && after.len() >= said {
            return after.len();
        }
        let alone = self.find(&messages[..=turn], turn, false, after);
        let rest = alone.map(|a| &after[a.end..]);
        match rest.filter(|rest| self.text[said..].starts_with(rest)) {
            Some(rest) => said + rest.len(),
            None => said,
        }
    }

    /// Text after a turn's end token belongs to the template, not to the answer; an end token between this turn and
    /// the next belongs to this turn.
    fn with_its_end(&self, turn: usize, span: Range<usize>) -> Range<usize> {
        let ends = || {
            let ends = self.tokens.iter();
            ends.filter(|t| self.model.is_end(t.id) && t.start >= span.start)
        };
        if let Some(end) = ends().rfind(|t| t.end <= span.end) {
            return span.start..end.end;
        }
        let next = turn + 1;
        let bound = match next < self.conversation.messages.len() {
            true => self.said(next).map_or(span.end, |s| s.start),
            false => self.text.len(),
        };
        let own = ends().find(|t| t.start >= span.end && t.end <= bound);
        span.start..own.map_or(span.end, |t| t.end)
    }

    /// The text that the template puts before an answer.
    fn generation_prompt(&self) -> Option<String> {
        let messages = &self.conversation.messages;
        let question = messages.iter().rposition(|m| m.role() == "user");
        let lengths = [question.map_or(0, |q| q + 1), messages.len()];
        lengths.iter().find_map(|n| {
            let [without, with] = [false, true].map(|asks| self.render(&messages[..*n], asks));
            let prompt = with?.strip_prefix(without?.as_str())?.to_string();
            (!prompt.is_empty()).then_some(prompt)
        })
    }

    fn render(&self, messages: &[Message], asks: bool) -> Option<String> {
        let request = request(self.conversation, messages, asks);
        Some(self.model.render(&request).ok()?.text)
    }
}

/// Some of a conversation's turns, with the template's other inputs.
pub(crate) fn request<'a>(
    conversation: &'a Conversation,
    messages: &'a [Message],
    add_generation_prompt: bool,
) -> RenderRequest<'a> {
    RenderRequest {
        messages,
        tools: &conversation.tools,
        add_generation_prompt,
        kwargs: conversation.chat_template_kwargs.clone(),
        ..RenderRequest::default()
    }
}

fn with(messages: &[Message], turn: usize, message: Message) -> Vec<Message> {
    let mut messages = messages.to_vec();
    messages[turn] = message;
    messages
}

/// Copies of a message with the mark in one of its texts, at each position where rendered text may begin or end.
fn marked(message: &Message, mark: char) -> Vec<Message> {
    let mut out = vec![];
    for (key, value) in &message.0 {
        if ["role", "name", "tool_call_id"].contains(&key.as_str()) {
            continue;
        }
        let mut changed = |value: Json| {
            let mut message = message.clone();
            message.0.insert(key.clone(), value);
            out.push(message);
        };
        in_texts(value, mark, &mut changed);
    }
    out
}

/// The same for any value.
fn in_texts(value: &Json, mark: char, changed: &mut dyn FnMut(Json)) {
    match value {
        Json::String(text) => {
            for at in edges(text) {
                let mut text = text.clone();
                text.insert(at, mark);
                changed(text.into());
            }
        }
        Json::Array(list) => {
            for (i, inner) in list.iter().enumerate() {
                in_texts(inner, mark, &mut |v| {
                    let mut list = list.clone();
                    list[i] = v;
                    changed(list.into());
                });
            }
        }
        Json::Object(map) => {
            for (key, inner) in map {
                in_texts(inner, mark, &mut |v| {
                    let mut map = map.clone();
                    map.insert(key.clone(), v);
                    changed(map.into());
                });
            }
        }
        _ => (),
    }
}

/// Positions in a text where the rendered part may begin or end: both ends, with and without white space,
/// before and after each tag of thoughts, and the ends of lines.
fn edges(text: &str) -> Vec<usize> {
    let mut out = vec![0, text.len()];
    let mut around = |at: usize| {
        let (head, tail) = text.split_at(at);
        let after = tail.len() - tail.trim_start().len();
        out.extend([at, at + after, head.trim_end().len()]);
    };
    around(0);
    around(text.len());
    for tag in ["<think>", "</think>", "[THINK]", "[/THINK]"] {
        if let Some(at) = text.rfind(tag) {
            around(at);
            around(at + tag.len());
        }
    }
    for (at, _) in text.match_indices('\n').take(MOST_LINES) {
        around(at);
    }
    out.sort_unstable();
    out.dedup();
    out
}
