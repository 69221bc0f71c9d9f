//! Takes an answer apart as it comes.

use serde_json::Value as Json;

use super::body::json;
use super::format::{AnswerFormat, CallStart, Calls, Marks};
use super::harmony::Harmony;
use super::{Part, tool_names};

/// Takes an answer apart as it comes: text, reasoning, calls. A call is whole once its end has come; what looks like one
/// but is none is text.
#[derive(Debug)]
pub struct AnswerParser {
    reasoning: Option<Marks>,
    calls: Option<Calls>,
    tools: Vec<Json>,
    harmony: Option<Harmony>,
    state: State,
    /// What may be the beginning of a mark, or is within a call.
    pending: String,
    /// Spaces that are part of the text if more of it follows.
    spaces: String,
    /// Whether spaces are left out: there is no text yet after a mark.
    is_after_mark: bool,
    has_called: bool,
    /// Whether JSON without marks may be a call.
    may_be_bare: bool,
}

/// What some put before JSON.
const FENCE: &str = "```json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come but spaces: what follows may be a call without marks.
    Beginning,
    Text,
    Reasoning,
    Call,
    /// What may be a call without marks.
    Whole,
}

impl AnswerParser {
    /// For the answer to a rendered prompt, which may have begun the reasoning. Without tools there are no calls.
    pub fn new(format: &AnswerFormat, prompt: &str, tools: &[Json]) -> Self {
        let is_reasoning = format.end_of_reasoning(prompt).is_some();
        Self {
            reasoning: format.reasoning,
            calls: (!tools.is_empty()).then_some(format.calls),
            tools: tools.into(),
            harmony: format.is_harmony.then(Harmony::default),
            state: match (is_reasoning, tools) {
                (true, _) => State::Reasoning,
                (false, []) => State::Text,
                (false, _) => State::Beginning,
            },
            pending: String::new(),
            spaces: String::new(),
            is_after_mark: is_reasoning,
            has_called: false,
            may_be_bare: !tools.is_empty(),
        }
    }

    /// For an answer that may be JSON itself: what has no marks is then no call, if this model's calls have some.
    pub fn of_json(mut self, format: &AnswerFormat) -> Self {
        self.may_be_bare &= format.call_start() == CallStart::Bare;
        if self.state == State::Beginning && !self.may_be_bare {
            self.state = State::Text;
        }
        self
    }

    /// Adds text in which marks are spelled out ([`AnswerFormat::marks`]), and returns the parts that are final.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        if let Some(harmony) = &mut self.harmony {
            return harmony.push(text);
        }
        self.pending.push_str(text);
        let mut parts = vec![];
        while self.advance(&mut parts) {}
        parts
    }

    /// The rest, when there is no more text.
    pub fn finish(&mut self) -> Vec<Part> {
        if let Some(harmony) = &mut self.harmony {
            return harmony.finish();
        }
        let mut parts = vec![];
        let text = std::mem::take(&mut self.pending);
        match self.state {
            State::Beginning | State::Text | State::Reasoning => self.say(&text, &mut parts),
            State::Call => self.call(&text, "", &mut parts),
            State::Whole => self.whole(&text, &mut parts),
        }
        if self.state != State::Reasoning && !self.has_called && !self.spaces.is_empty() {
            parts.push(Part::Content(std::mem::take(&mut self.spaces)));
        }
        parts
    }

    /// Returns whether there may be more in what is pending.
    fn advance(&mut self, parts: &mut Vec<Part>) -> bool {
        let calls = self.calls.map(|c| c.marks);
        match self.state {
            State::Beginning => {
                let text = self.pending.trim_start();
                if text.is_empty() {
                    return false;
                }
                let mut marks = self.reasoning.into_iter().chain(calls);
                let is_marked = marks.any(|m| text.starts_with(m.open) || m.open.starts_with(text));
                if FENCE.starts_with(text) && text != FENCE && !is_marked {
                    return false;
                }
                let is_json = text.starts_with(['{', '[']) || text.starts_with(FENCE);
                self.state = match is_json && !is_marked {
                    true => State::Whole,
                    false => State::Text,
                };
                true
            }
            State::Text => {
                let opens = [self.reasoning, calls].map(|m| m.map_or("", |m| m.open));
                let Some((at, open)) = first(&self.pending, opens) else {
                    self.say_all_but(opens, parts);
                    return false;
                };
                self.leave(at, open.len(), parts);
                self.state = match calls.is_some_and(|m| m.open == open) {
                    true => State::Call,
                    false => State::Reasoning,
                };
                true
            }
            State::Reasoning => {
                let close = [self.reasoning.map_or("", |m| m.close)];
                let Some((at, close)) = first(&self.pending, close) else {
                    self.say_all_but(close, parts);
                    return false;
                };
                self.leave(at, close.len(), parts);
                self.state = match self.may_be_bare {
                    true => State::Beginning,
                    false => State::Text,
                };
                true
            }
            State::Call => {
                let marks = calls.unwrap_or(Marks {
                    open: "",
                    close: "",
                });
                let end = if marks.close.is_empty() {
                    marks.open
                } else {
                    marks.close
                };
                let Some((at, _)) = first(&self.pending, [end]) else {
                    return false;
                };
                let text = self.pending[..at].to_string();
                self.pending.drain(..at + end.len());
                self.call(&text, marks.close, parts);
                // Without an end, the next call has begun.
                self.state = if marks.close.is_empty() {
                    State::Call
                } else {
                    State::Text
                };
                true
            }
            State::Whole => false,
        }
    }

    /// Says what is before a mark, and drops the mark.
    fn leave(&mut self, at: usize, mark: usize, parts: &mut Vec<Part>) {
        let text = self.pending[..at].to_string();
        self.pending.drain(..at + mark);
        self.say(&text, parts);
        self.spaces.clear();
        self.is_after_mark = true;
    }

    fn say_all_but<const N: usize>(&mut self, marks: [&str; N], parts: &mut Vec<Part>) {
        let held = beginning_of(&self.pending, marks);
        let end = self.pending.len() - held;
        let text: String = self.pending.drain(..end).collect();
        self.say(&text, parts);
    }

    /// Text without spaces at its ends, if there are marks.
    fn say(&mut self, text: &str, parts: &mut Vec<Part>) {
        let text = match self.is_after_mark {
            true => text.trim_start(),
            false => text,
        };
        if text.is_empty() {
            return;
        }
        let shown = text.trim_end();
        if shown.is_empty() {
            self.spaces.push_str(text);
            return;
        }
        self.is_after_mark = false;
        let mut said = std::mem::take(&mut self.spaces);
        said.push_str(shown);
        self.spaces.push_str(&text[shown.len()..]);
        parts.push(match self.state {
            State::Reasoning => Part::Reasoning(said),
            _ => Part::Content(said),
        });
    }

    /// The calls of a text between marks, or that text.
    fn call(&mut self, text: &str, close: &str, parts: &mut Vec<Part>) {
        let Some(calls) = self.calls else { return };
        let whole = format!("{}{text}{close}", calls.marks.open);
        match calls.body.parse(text, &whole, &self.tools) {
            Some(found) => {
                self.has_called = true;
                parts.extend(found.into_iter().map(Part::Call));
            }
            None => {
                self.is_after_mark = false;
                self.say(&whole, parts);
            }
        }
        self.is_after_mark = true;
    }

    /// A text that is a call of a known tool as a whole, or is said.
    fn whole(&mut self, text: &str, parts: &mut Vec<Part>) {
        let inner = text.trim();
        let inner = inner.strip_prefix(FENCE).unwrap_or(inner);
        let inner = inner.trim_end_matches('`');
        let found = json(inner, &self.tools);
        let is_known = |name: &str| tool_names(&self.tools).any(|tool| tool == name);
        match found.filter(|all| all.iter().all(|call| is_known(&call.name))) {
            Some(found) => {
                self.has_called = true;
                parts.extend(found.into_iter().map(Part::Call));
            }
            None => {
                self.state = State::Text;
                self.pending = text.into();
                while self.advance(parts) {}
                let rest = std::mem::take(&mut self.pending);
                match self.state {
                    State::Call => self.call(&rest, "", parts),
                    _ => self.say(&rest, parts),
                }
            }
        }
    }
}

/// Where the first of some marks is. An empty one is none.
fn first<'a, const N: usize>(text: &str, marks: [&'a str; N]) -> Option<(usize, &'a str)> {
    let marks = marks.into_iter().filter(|m| !m.is_empty());
    marks.filter_map(|m| Some((text.find(m)?, m))).min()
}

/// How many bytes at the end of a text may be the beginning of a mark.
pub(super) fn beginning_of<const N: usize>(text: &str, marks: [&str; N]) -> usize {
    let beginnings = marks
        .iter()
        .flat_map(|m| m.char_indices().skip(1).map(move |(i, _)| &m[..i]));
    let held = beginnings.filter(|b| text.ends_with(b)).map(str::len);
    held.max().unwrap_or(0)
}
