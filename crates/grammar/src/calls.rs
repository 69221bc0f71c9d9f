//! Answers that may or must call tools, as a grammar in llguidance's dialect of Lark.

use serde_json::{Map, Value, json};
use siskin_text::{AnswerFormat, CallStart, TextModel, tool_names};

use crate::Source;
use crate::source::{Notation, TOOLS};

/// How a grammar refers to the shape of the answer.
const SHAPE: &str = "@shape";

/// What an answer of a turn may be: reasoning, then text or calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// As OpenAI's API describes them; there may be none.
    pub tools: Vec<Value>,
    /// How the model writes calls.
    pub format: AnswerFormat,
    /// What ends the reasoning that the prompt has begun.
    pub end_of_reasoning: Option<&'static str>,
    /// Whether there must be a call.
    pub is_required: bool,
    /// Whether there may be several.
    pub are_several: bool,
    /// What an answer that calls nothing must look like.
    pub shape: Option<Source>,
}

/// Any text.
const ANY: &str = "/(.|\\n)*/";

impl Calls {
    /// The grammar that describes them; `None` if an answer may be anything, or the vocabulary lacks what marks its parts.
    pub fn source(&self, text: &TextModel) -> Option<Source> {
        let lark = self.lark(text)?;
        let shape = self.shape.as_ref().filter(|_| !self.is_required);
        Some(match shape {
            Some(shape) => Source {
                kind: shape.kind.clone(),
                grammar: Notation::Around(lark, shape.grammar.clone().into()),
            },
            None => Source {
                kind: TOOLS.into(),
                grammar: Notation::Lark(lark),
            },
        })
    }

    fn lark(&self, text: &TextModel) -> Option<String> {
        let mut rules = vec![];
        let mut begin = "";
        if let Some(end) = self.end_of_reasoning {
            begin = "reasoning ";
            rules.push(match special(text, end) {
                Some(id) => format!("reasoning: {ANY} {id} /\\n{{0,2}}/"),
                None => format!("reasoning[suffix={}]: {ANY}", quoted(end)),
            });
        }
        // What of a call has been said once it has been told from text.
        let mut opened = None;
        let mut is_json = false;
        let start = match (self.format.call_start(), &self.shape) {
            (CallStart::Channel, _) => self.channels(text, &mut rules)?,
            _ if self.is_required => self.calls().into(),
            (_, Some(_)) if self.tools.is_empty() => SHAPE.into(),
            (CallStart::Bare, Some(_)) => {
                // Token by token as the shape's, if that is JSON too: of one text and parts of it, the longest is taken.
                is_json = true;
                format!("({SHAPE} | {})", self.calls())
            }
            (_, Some(_)) => format!("({SHAPE} | {})", self.calls()),
            (CallStart::Bare, None) => {
                rules.push(format!("FREE: {ANY} & ~/{}/", self.bare()));
                format!("(FREE | {})", self.calls())
            }
            (CallStart::Mark(open), None) if special(text, open).is_some() => {
                rules.push(format!("free: {}", self.free(text)));
                format!("free ({})?", self.calls())
            }
            (CallStart::Mark(open), None) => {
                opened = Some(open);
                let calls = format!("/(.|\\n)*{}(.|\\n)*/", escaped(open));
                rules.push(format!("FREE: {ANY} & ~{calls}"));
                rules.push(format!("opened[suffix={}]: {ANY}", quoted(open)));
                rules.push(format!("rest: {}", self.any_of("rest")));
                let more = if self.are_several { " more*" } else { "" };
                format!("(FREE | opened rest{more})")
            }
        };
        rules.insert(0, format!("start: {begin}{start}"));
        if !self.tools.is_empty() {
            rules.push(format!("call: {}", self.any_of("call")));
            if self.are_several {
                rules.push("more: /\\n?/ call".into());
            }
        }
        for (i, tool) in tool_names(&self.tools).enumerate() {
            let schema = parameters(&self.tools[i]);
            if is_json {
                let call = json!({
                    "type": "object",
                    "properties": {"name": {"const": tool}, "parameters": schema},
                    "required": ["name", "parameters"],
                    "additionalProperties": false,
                });
                rules.push(format!("call_{i}: %json {call}"));
                continue;
            }
            let [before, after] = self.format.call(tool);
            let rest = before.strip_prefix(opened.unwrap_or_default());
            let rest = pieces(text, &self.format, rest.unwrap_or_default());
            let before = pieces(text, &self.format, &before);
            let after = pieces(text, &self.format, &after);
            let schema = in_one_form(schema);
            rules.push(format!("arguments_{i}: %json {schema}"));
            rules.push(format!("call_{i}: {before} arguments_{i} {after}"));
            if opened.is_some() {
                rules.push(format!("rest_{i}: {rest} arguments_{i} {after}"));
            }
        }
        Some(rules.join("\n"))
    }

    fn calls(&self) -> &'static str {
        match self.are_several {
            true => "call more*",
            false => "call",
        }
    }

    /// One of the rules for each tool.
    fn any_of(&self, rule: &str) -> String {
        let all = (0..self.tools.len()).map(|i| format!("{rule}_{i}"));
        all.collect::<Vec<_>>().join(" | ")
    }

    /// What a call without a mark begins with, for a regular expression: what else begins so is no text.
    fn bare(&self) -> String {
        let names: Vec<String> = tool_names(&self.tools).map(escaped).collect();
        let names = names.join("|");
        format!("\\s*\\{{\\s*\"name\"\\s*:\\s*\"({names})\"(.|\\n)*")
    }

    /// Messages in channels: whatever the model says to itself, then the answer or a call.
    fn channels(&self, text: &TextModel, rules: &mut Vec<String>) -> Option<String> {
        let marks = ["<|channel|>", "<|message|>", "<|end|>", "<|start|>"];
        let [Some(channel), Some(message), Some(end), Some(start)] =
            marks.map(|mark| special(text, mark).filter(|_| !is_end(text, mark)))
        else {
            return None;
        };
        rules.push(format!(
            "said: {channel} (\"analysis\" | \"commentary\") {message} {ANY} {end} {start} \"assistant\""
        ));
        let said = self.shape.as_ref().map_or(ANY, |_| SHAPE);
        rules.push(format!("final: {channel} \"final\" {message} {said}"));
        Some(match (self.is_required, self.tools.is_empty()) {
            (true, _) => "said* call".into(),
            (false, true) => "said* final".into(),
            (false, false) => "said* (final | call)".into(),
        })
    }

    /// Any text, and the special tokens that reasoning stands between.
    fn free(&self, text: &TextModel) -> String {
        let marks = self.format.reasoning_marks().into_iter().flatten();
        let marks: Vec<String> = marks.filter_map(|m| special(text, m)).collect();
        match marks.is_empty() {
            true => ANY.into(),
            false => format!("(/(.|\\n)+/ | {})*", marks.join(" | ")),
        }
    }
}

/// A special token, as Lark writes it.
fn special(text: &TextModel, mark: &str) -> Option<String> {
    let id = text.id_of(mark).filter(|id| text.is_special(*id))?;
    Some(format!("<[{id}]>"))
}

fn is_end(text: &TextModel, mark: &str) -> bool {
    text.id_of(mark).is_some_and(|id| text.is_end(id))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// For a regular expression.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "\\.+*?()|[]{}^$/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A text with marks that may be special tokens. Those that end an answer are left out: nothing follows.
fn pieces(text: &TextModel, format: &AnswerFormat, part: &str) -> String {
    let mut out = vec![];
    let mut rest = part;
    while !rest.is_empty() {
        let marks = format
            .marks()
            .into_iter()
            .filter(|m| special(text, m).is_some());
        let next = marks.filter_map(|m| Some((rest.find(m)?, m))).min();
        let (plain, mark) = match next {
            Some((at, mark)) => (&rest[..at], mark),
            None => (rest, ""),
        };
        if !plain.is_empty() {
            out.push(quoted(plain));
        }
        if !mark.is_empty() && !is_end(text, mark) {
            out.extend(special(text, mark));
        }
        rest = &rest[plain.len() + mark.len()..];
    }
    match out.is_empty() {
        true => "\"\"".into(),
        false => out.join(" "),
    }
}

/// The schema of a tool's arguments: an object with the properties that it names.
fn parameters(tool: &Value) -> Map<String, Value> {
    let given = tool["function"]["parameters"].as_object();
    let mut schema = given.cloned().unwrap_or_default();
    schema.entry("type").or_insert("object".into());
    schema.entry("properties").or_insert(json!({}));
    schema.entry("additionalProperties").or_insert(false.into());
    schema
}

fn in_one_form(mut schema: Map<String, Value>) -> Value {
    let form = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    schema.insert("x-guidance".into(), form);
    schema.into()
}
