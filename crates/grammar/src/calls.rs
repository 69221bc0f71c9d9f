//! Answers that may or must call tools, as a grammar in llguidance's dialect of Lark.

use serde_json::{Map, Value, json};
use siskin_text::{AnswerFormat, TextModel, tool_names};

/// The calls of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    /// As OpenAI's API describes them.
    pub tools: Vec<Value>,
    /// How the model writes calls.
    pub format: AnswerFormat,
    /// What ends the reasoning that the prompt has begun.
    pub end_of_reasoning: Option<&'static str>,
    /// Whether there must be one.
    pub is_required: bool,
    /// Whether there may be several.
    pub are_several: bool,
}

impl Calls {
    /// `None` if text and calls cannot be told apart in advance: an answer may then be anything.
    pub(crate) fn lark(&self, text: &TextModel) -> Option<String> {
        let mut rules = vec![];
        let mut begin = "";
        if let Some(end) = self.end_of_reasoning {
            begin = "reasoning ";
            rules.push(match special(text, end) {
                Some(id) => format!("reasoning: /(.|\\n)*/ {id} /\\n{{0,2}}/"),
                None => format!("reasoning[suffix={}]: /(.|\\n)*/", quoted(end)),
            });
        }
        let tools: Vec<&str> = tool_names(&self.tools).collect();
        let any_of = |rule: &str| {
            let all = (0..tools.len()).map(|i| format!("{rule}_{i}"));
            all.collect::<Vec<_>>().join(" | ")
        };
        let more = if self.are_several { " more*" } else { "" };
        // What of a call has been said once it has been told from text.
        let mut opened = None;
        if self.is_required {
            rules.push(format!("start: {begin}call{more}"));
        } else {
            let open = self.format.opening()?;
            if special(text, open).is_some() {
                let calls = if self.are_several {
                    "(call more*)?"
                } else {
                    "call?"
                };
                rules.push(format!("start: {begin}free {calls}"));
                rules.push(format!("free: {}", self.free(text)));
            } else {
                opened = Some(open);
                rules.push(format!("start: {begin}(FREE | opened rest{more})"));
                rules.push(format!(
                    "FREE: /(.|\\n)*/ & ~/(.|\\n)*{}(.|\\n)*/",
                    escaped(open)
                ));
                rules.push(format!("opened[suffix={}]: /(.|\\n)*/", quoted(open)));
                rules.push(format!("rest: {}", any_of("rest")));
            }
        }
        rules.push(format!("call: {}", any_of("call")));
        if self.are_several {
            rules.push("more: /\\n?/ call".into());
        }
        for (i, tool) in tools.iter().enumerate() {
            let [before, after] = self.format.call(tool);
            let rest = before.strip_prefix(opened.unwrap_or_default());
            let rest = pieces(text, &self.format, rest.unwrap_or_default());
            let before = pieces(text, &self.format, &before);
            let after = pieces(text, &self.format, &after);
            let schema = parameters(&self.tools[i]);
            rules.push(format!("arguments_{i}: %json {schema}"));
            rules.push(format!("call_{i}: {before} arguments_{i} {after}"));
            if opened.is_some() {
                rules.push(format!("rest_{i}: {rest} arguments_{i} {after}"));
            }
        }
        Some(rules.join("\n"))
    }

    /// Any text, and the special tokens that reasoning stands between.
    fn free(&self, text: &TextModel) -> String {
        let marks = self.format.reasoning_marks().into_iter().flatten();
        let marks: Vec<String> = marks.filter_map(|m| special(text, m)).collect();
        match marks.is_empty() {
            true => "/(.|\\n)*/".into(),
            false => format!("(/(.|\\n)+/ | {})*", marks.join(" | ")),
        }
    }
}

/// A special token, as Lark writes it.
fn special(text: &TextModel, mark: &str) -> Option<String> {
    let id = text.id_of(mark).filter(|id| text.is_special(*id))?;
    Some(format!("<[{id}]>"))
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
        let ends = text.id_of(mark).is_some_and(|id| text.is_end(id));
        if !mark.is_empty() && !ends {
            out.extend(special(text, mark));
        }
        rest = &rest[plain.len() + mark.len()..];
    }
    match out.is_empty() {
        true => "\"\"".into(),
        false => out.join(" "),
    }
}

/// The schema of a tool's arguments: an object with the properties that it names, in one form.
fn parameters(tool: &Value) -> Value {
    let given = tool["function"]["parameters"].as_object();
    let mut schema: Map<String, Value> = given.cloned().unwrap_or_default();
    schema.entry("type").or_insert("object".into());
    schema.entry("properties").or_insert(json!({}));
    schema.entry("additionalProperties").or_insert(false.into());
    let form = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    schema.insert("x-guidance".into(), form);
    Value::Object(schema)
}
