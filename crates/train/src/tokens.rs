//! Determines which tokens of an example are learned.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value as Json;
use siskin_text::{Message, TextModel, Token};

use crate::preference::Answered;
use crate::record::is_about_the_record;
use crate::spans::{Rendering, request};
use crate::turns::take_weight;
use crate::{Conversation, Example, LossOn, Result};

/// The number of tokens that are kept of an example, and whether that is the model's own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub tokens: usize,
    pub is_the_models: bool,
}

impl From<usize> for Limit {
    fn from(tokens: usize) -> Self {
        Self {
            tokens,
            is_the_models: false,
        }
    }
}

/// An example as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// For each token, whether it is a target. The first never is.
    pub learned: Vec<bool>,
    /// Tokens that were truncated at the end.
    pub cut: usize,
    /// For display: each token's byte range in `text`.
    #[serde(skip)]
    pub spans: Vec<(usize, usize)>,
    #[serde(skip)]
    pub text: String,
}

impl Tokens {
    /// Renders the model's template, or takes plain text followed by an end token; truncates to `limit` tokens.
    /// `Ok(Err(reason))` states why an example is unusable.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn of(
        model: &TextModel,
        example: &Example,
        loss_on: LossOn,
        limit: impl Into<Limit>,
    ) -> Result<std::result::Result<Self, String>> {
        let found = match example {
            Example::Chat(conversation) => chat(model, conversation, Learn::On(loss_on))?,
            Example::Preference(_) | Example::Rated(_) => {
                Err("it has preferences, of which each answer has tokens of its own".into())
            }
            Example::Prompt(_) => Err("it has no answer to learn from".into()),
            Example::Text { text } => {
                let tokens = ended(model, text)?;
                let learned = vec![true; tokens.len()];
                Ok((text.clone(), tokens, learned))
            }
        };
        Self::within(limit.into(), found)
    }

    /// A text in chunks of at most `limit` tokens, of which each begins with `overlap` tokens of the one before, as context
    /// that is not learned again.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(crate) fn chunks_of(
        model: &TextModel,
        text: &str,
        limit: usize,
        overlap: usize,
    ) -> Result<Vec<Self>> {
        let tokens = ended(model, text)?;
        // The first token of a chunk is never learned.
        let overlap = overlap.clamp(1, (limit / 2).max(1));
        let (mut chunks, mut at) = (vec![], 0);
        loop {
            let end = (at + limit).min(tokens.len());
            let context = if at == 0 { 1 } else { overlap };
            let part = &tokens[at..end];
            chunks.push(Self {
                ids: part.iter().map(|t| t.id).collect(),
                learned: (0..part.len()).map(|i| i >= context).collect(),
                cut: 0,
                spans: vec![],
                text: String::new(),
            });
            if end == tokens.len() {
                return Ok(chunks);
            }
            at = end - overlap;
        }
    }

    /// The tokens of a prompt with an answer, of which those after the prompt are learned, as in TRL.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(crate) fn of_answer(
        model: &TextModel,
        answered: &Answered,
        limit: Limit,
    ) -> Result<std::result::Result<Self, String>> {
        let found = match answered {
            Answered::Chat(conversation, turn) => chat(model, conversation, Learn::From(*turn))?,
            Answered::Text(text, start) => {
                let tokens = ended(model, text)?;
                let learned = inside(&tokens, std::slice::from_ref(&(*start..text.len())));
                Ok((text.clone(), tokens, learned))
            }
        };
        Self::within(limit, found)
    }

    /// Truncates what was found.
    fn within(
        limit: Limit,
        found: std::result::Result<Learned, String>,
    ) -> Result<std::result::Result<Self, String>> {
        let (text, tokens, learned) = match found {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        let cut = tokens.len().saturating_sub(limit.tokens);
        let keep = tokens.len() - cut;
        let mut out = Self {
            ids: tokens[..keep].iter().map(|t| t.id).collect(),
            learned: learned[..keep].to_vec(),
            cut,
            spans: tokens[..keep].iter().map(|t| (t.start, t.end)).collect(),
            text,
        };
        if let Some(first) = out.learned.first_mut() {
            *first = false;
        }
        if out.learned_len() > 0 {
            return Ok(Ok(out));
        }
        Ok(Err(if cut == 0 {
            "none of its tokens would be learned".into()
        } else {
            let (len, kept) = (tokens.len(), limit.tokens);
            let which = match limit.is_the_models {
                true => "which is the model's limit",
                false => "which is the limit set by max_seq_len",
            };
            format!("its learned part begins after {kept} tokens, {which} (it has {len})")
        }))
    }

    /// This prompt with the answer of another example, where each answer is learned from its beginning to its end.
    pub(crate) fn with_answer_of(&self, other: &Self, limit: Limit) -> Self {
        let start = |t: &Self| t.learned.iter().position(|l| *l).unwrap_or(t.ids.len());
        let prompt = self.ids[..start(self)].iter();
        let mut ids: Vec<u32> = prompt.chain(&other.ids[start(other)..]).copied().collect();
        let cut = ids.len().saturating_sub(limit.tokens);
        ids.truncate(limit.tokens);
        let learned = (0..ids.len()).map(|i| i >= start(self)).collect();
        Self {
            ids,
            learned,
            cut,
            spans: vec![],
            text: String::new(),
        }
    }

    pub fn learned_len(&self) -> usize {
        self.learned.iter().filter(|l| **l).count()
    }

    /// Rows that it occupies in a batch: each token but the last predicts the next.
    pub fn rows(&self) -> usize {
        self.ids.len() - 1
    }
}

/// A text, its tokens, and which of them are learned.
type Learned = (String, Vec<Token>, Vec<bool>);

/// Which tokens of a conversation are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learn {
    On(LossOn),
    /// All from the beginning of this turn's answer on.
    From(usize),
}

fn chat(
    model: &TextModel,
    conversation: &Conversation,
    learn: Learn,
) -> Result<std::result::Result<Learned, String>> {
    // The keys that mark a turn as learned or not are not for the template.
    let mut conversation = conversation.clone();
    let mut weights = vec![];
    for (i, message) in conversation.messages.iter_mut().enumerate() {
        match take_weight(message) {
            Ok(is_learned) => weights.push(is_learned),
            Err(what) => return Ok(Err(format!("turn {} {what}", i + 1))),
        }
    }
    if let Some(reason) = nothing_said(&conversation.messages, &weights) {
        return Ok(Err(reason));
    }
    let render = |c: &Conversation| model.render(&request(c, &c.messages, false));
    let mut rendered = render(&conversation);
    if rendered.is_err() && fill_contents(&mut conversation) {
        rendered = render(&conversation);
    }
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(siskin_text::Error::NoTemplate) => return completion(model, &conversation, learn),
        Err(e) => return Ok(Err(e.to_string())),
    };
    if let Some(reason) = not_read(model, &conversation, &rendered.text) {
        return Ok(Err(reason));
    }
    let tokens = model.encode_rendered(&rendered)?;
    let place = Rendering::new(model, &conversation, &rendered.text, &tokens);
    if let Some(turn) = place.left_out() {
        let role = conversation.messages[turn].role();
        return Ok(Err(format!(
            "the chat template omits turn {}, which has the role `{role}`",
            turn + 1
        )));
    }
    // Only answers with the wanted weight need to be found, unless some are excluded from what is learned.
    let answers = |wanted: bool| {
        let turns = conversation.messages.iter().enumerate();
        let turns = turns.filter(|(i, m)| m.role() == "assistant" && weights[*i] == wanted);
        let spans = turns.map(|(i, _)| place.answer(i));
        spans.collect::<std::result::Result<Vec<_>, _>>()
    };
    let loss_on = match learn {
        Learn::On(loss_on) => loss_on,
        Learn::From(turn) => {
            let answer = place.answer(turn);
            return Ok(answer.map(|answer| {
                let learned = inside(
                    &tokens,
                    std::slice::from_ref(&(answer.start..rendered.text.len())),
                );
                (rendered.text.clone(), tokens.clone(), learned)
            }));
        }
    };
    let mut learned = match (loss_on, &rendered.generation) {
        (LossOn::All, _) => vec![true; tokens.len()],
        (LossOn::Assistant, Some(spans)) => touched(&tokens, spans),
        (LossOn::Assistant, None) => match answers(true) {
            Ok(spans) => inside(&tokens, &spans),
            Err(reason) => return Ok(Err(reason)),
        },
    };
    if loss_on == LossOn::All || rendered.generation.is_some() {
        let left_out = match answers(false) {
            Ok(spans) => inside(&tokens, &spans),
            Err(reason) => return Ok(Err(reason)),
        };
        let both = learned.iter_mut().zip(left_out);
        both.for_each(|(l, out)| *l &= !out);
    }
    Ok(Ok((rendered.text, tokens, learned)))
}

/// Gives an empty content to turns that only call tools, for templates that read it unconditionally.
fn fill_contents(conversation: &mut Conversation) -> bool {
    let mut changed = false;
    for message in &mut conversation.messages {
        if message.0.get("content").is_none_or(Json::is_null) {
            message.0.insert("content".into(), "".into());
            changed = true;
        }
    }
    changed
}

/// A prompt and its completion as one text, joined as in TRL; other conversations need a template.
fn completion(
    model: &TextModel,
    conversation: &Conversation,
    learn: Learn,
) -> Result<std::result::Result<Learned, String>> {
    let [prompt, answer] = &conversation.messages[..] else {
        return Ok(Err(NO_TEMPLATE.into()));
    };
    if !conversation.is_completion {
        return Ok(Err(NO_TEMPLATE.into()));
    }
    let prompt = prompt.content();
    let text = format!("{prompt}{}", answer.content());
    let tokens = ended(model, &text)?;
    let learned = match learn {
        Learn::On(LossOn::All) => vec![true; tokens.len()],
        Learn::On(LossOn::Assistant) | Learn::From(_) => {
            inside(&tokens, std::slice::from_ref(&(prompt.len()..text.len())))
        }
    };
    Ok(Ok((text, tokens, learned)))
}

const NO_TEMPLATE: &str = "the model has no chat template, which conversations need; it is looked up in \
    chat_template.jinja, as `chat_template` in tokenizer_config.json, and as `tokenizer.chat_template` in GGUF files";

/// Learning from an empty answer would teach the model to say nothing.
fn nothing_said(messages: &[Message], weights: &[bool]) -> Option<String> {
    let says_else = |m: &Message| {
        ["tool_calls", "reasoning_content", "function_call"]
            .iter()
            .any(|key| m.0.get(*key).is_some_and(|v| !v.is_null()))
    };
    let empty = |(m, is_learned): (&Message, &bool)| {
        *is_learned
            && m.role() == "assistant"
            && m.content().trim().is_empty()
            && !m.0.get("content").is_some_and(|c| c.is_array())
            && !says_else(m)
    };
    let turn = messages.iter().zip(weights).position(empty)?;
    Some(format!("message {} is an empty answer", turn + 1))
}

/// What the template silently ignores: it does not mention it, and renders the same text without it.
fn not_read(model: &TextModel, conversation: &Conversation, text: &str) -> Option<String> {
    let template = model.template().unwrap_or_default();
    let is_lost = |key: &str, without: &dyn Fn(&mut Conversation)| {
        if template.contains(key) {
            return false;
        }
        let mut other = conversation.clone();
        without(&mut other);
        let rendered = model.render(&request(&other, &other.messages, false));
        rendered.is_ok_and(|r| r.text == text)
    };
    let lost = |what: String| {
        Some(format!(
            "the chat template ignores {what}, which would be lost"
        ))
    };
    if !conversation.tools.is_empty() && is_lost("tools", &|c| c.tools.clear()) {
        return lost("`tools`".into());
    }
    for key in conversation.chat_template_kwargs.keys() {
        let without = |c: &mut Conversation| _ = c.chat_template_kwargs.remove(key);
        if is_lost(key, &without) {
            return lost(format!("`{key}`"));
        }
    }
    // Names and call ids are for programs.
    let known = ["role", "content", "name", "tool_call_id"];
    for (i, message) in conversation.messages.iter().enumerate() {
        for (key, value) in &message.0 {
            let without = |c: &mut Conversation| _ = c.messages[i].0.remove(key);
            let says_nothing =
                value.is_null() || known.contains(&key.as_str()) || is_about_the_record(key);
            if !says_nothing && is_lost(key, &without) {
                return lost(format!("`{key}` of turn {}", i + 1));
            }
        }
    }
    None
}

/// Plain text between the model's beginning-of-text token, if it has one, and its end-of-text token: each
/// once, even if the text spells them too.
fn ended(model: &TextModel, text: &str) -> Result<Vec<Token>> {
    let mut tokens = model.encode(text)?;
    if let [first, second, ..] = &tokens[..]
        && first.id == second.id
        && first.special
        && first.start == first.end
    {
        tokens.remove(0);
    }
    let is_ended = |id| tokens.last().is_some_and(|t| t.id == id);
    let eos = model.eos_token().or_else(|| model.end_tokens().next());
    if let Some(id) = eos.filter(|id| !is_ended(*id)) {
        tokens.push(Token {
            id,
            piece: model.piece(id),
            start: text.len(),
            end: text.len(),
            special: true,
        });
    }
    Ok(tokens)
}

/// Tokens that lie entirely within the spans.
fn inside(tokens: &[Token], spans: &[Range<usize>]) -> Vec<bool> {
    let is_in = |t: &Token| spans.iter().any(|s| t.start >= s.start && t.end <= s.end);
    tokens.iter().map(is_in).collect()
}

/// Tokens that overlap the spans, as in transformers' assistant mask.
fn touched(tokens: &[Token], spans: &[Range<usize>]) -> Vec<bool> {
    let is_in = |t: &Token| spans.iter().any(|s| t.start < s.end && t.end > s.start);
    tokens.iter().map(is_in).collect()
}
