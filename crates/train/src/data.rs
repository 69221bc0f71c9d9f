//! Examples in the field's usual formats.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use siskin_text::Message;

use crate::{Error, Result};

/// One example to learn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Example {
    /// A conversation; the assistant's turns are what is learned.
    Chat { messages: Vec<Message> },
    /// Plain text, all of which is learned.
    Text { text: String },
}

/// How a file says its examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `{"messages": [{"role", "content"}]}`, as OpenAI and TRL have it.
    Messages,
    /// `{"conversations": [{"from", "value"}]}`.
    ShareGpt,
    /// `{"instruction", "input", "output"}`.
    Alpaca,
    /// `{"prompt", "completion"}`: a user's turn and an assistant's.
    PromptCompletion,
    /// `{"text"}`, or a text file with an empty line between examples.
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::ShareGpt => "ShareGPT",
            Self::Alpaca => "Alpaca",
            Self::PromptCompletion => "prompt and completion",
            Self::Text => "text",
        })
    }
}

/// An example and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Line of the file, or place in a JSON array; from 1.
    pub line: usize,
    #[serde(flatten)]
    pub example: Example,
}

/// A record that is no example, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadRecord {
    pub line: usize,
    pub reason: String,
}

/// What a file holds.
#[derive(Debug, Clone, Serialize)]
pub struct Dataset {
    /// Of the first example.
    pub format: Format,
    pub records: Vec<Record>,
    pub bad: Vec<BadRecord>,
}

impl Dataset {
    /// Reads a file's text; the name's ending tells CSV and plain text from JSON lines.
    ///
    /// # Errors
    /// If there is not one example in it. Bad records among good ones are listed, not dropped in silence.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ending = name.rsplit('.').next().unwrap_or_default().to_lowercase();
        let found = match ending.as_str() {
            "csv" => csv_records(text, b','),
            "tsv" => csv_records(text, b'\t'),
            "txt" | "md" => Ok(paragraphs(text)),
            _ if text.trim_start().starts_with('[') => array(text),
            _ => Ok(json_lines(text)),
        };
        let found = found.map_err(|what| Error::Data {
            name: name.into(),
            what,
        })?;
        let (mut records, mut bad, mut format) = (vec![], vec![], None);
        for (line, result) in found {
            match result {
                Ok((found, example)) => {
                    format = format.or(Some(found));
                    records.push(Record { line, example });
                }
                Err(reason) => bad.push(BadRecord { line, reason }),
            }
        }
        let Some(format) = format else {
            let what = match bad.first() {
                Some(b) => format!("record {}: {}", b.line, b.reason),
                None => "it is empty".into(),
            };
            return Err(Error::NoExamples {
                name: name.into(),
                what,
            });
        };
        Ok(Self {
            format,
            records,
            bad,
        })
    }
}

type Parsed = std::result::Result<(Format, Example), String>;

fn json_lines(text: &str) -> Vec<(usize, Parsed)> {
    let lines = text.lines().enumerate().filter(|l| !l.1.trim().is_empty());
    lines
        .map(|(i, line)| {
            let parsed = serde_json::from_str(line)
                .map_err(|e| format!("not JSON ({e})"))
                .and_then(|json: Json| example(&json));
            (i + 1, parsed)
        })
        .collect()
}

fn array(text: &str) -> std::result::Result<Vec<(usize, Parsed)>, String> {
    let items: Vec<Json> =
        serde_json::from_str(text).map_err(|e| format!("not a JSON array ({e})"))?;
    Ok(items
        .iter()
        .enumerate()
        .map(|(i, json)| (i + 1, example(json)))
        .collect())
}

fn paragraphs(text: &str) -> Vec<(usize, Parsed)> {
    let mut out: Vec<(usize, String)> = vec![];
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            open = false;
        } else if let (true, Some(last)) = (open, out.last_mut()) {
            last.1.push('\n');
            last.1.push_str(line);
        } else {
            out.push((i + 1, line.into()));
            open = true;
        }
    }
    out.into_iter()
        .map(|(line, text)| (line, Ok((Format::Text, Example::Text { text }))))
        .collect()
}

/// Named columns, as the keys of JSON records.
fn csv_records(text: &str, delimiter: u8) -> std::result::Result<Vec<(usize, Parsed)>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| e.to_string())?.clone();
    let mut out = vec![];
    for (i, row) in reader.records().enumerate() {
        let line = |row: &csv::StringRecord| row.position().map_or(i + 2, |p| p.line() as usize);
        out.push(match row {
            Ok(row) if row.len() != headers.len() => {
                let reason = format!("{} columns where there are {}", row.len(), headers.len());
                (line(&row), Err(reason))
            }
            Ok(row) => {
                let cells = headers.iter().zip(&row).map(|(key, cell)| {
                    let key = key.trim().to_lowercase();
                    (key, Json::String(cell.into()))
                });
                (line(&row), example(&Json::Object(cells.collect())))
            }
            Err(e) => (i + 2, Err(e.to_string())),
        });
    }
    Ok(out)
}

fn example(json: &Json) -> Parsed {
    let Some(record) = json.as_object() else {
        return Err("not an object with named fields".into());
    };
    let text = |keys: &[&str]| -> std::result::Result<Option<String>, String> {
        let Some((key, value)) = keys.iter().find_map(|k| Some((k, record.get(*k)?))) else {
            return Ok(None);
        };
        match value {
            Json::String(s) => Ok(Some(s.clone())),
            Json::Null => Ok(None),
            _ => Err(format!("`{key}` is no text")),
        }
    };
    let turn = |prompt: String, answer: Option<String>| {
        let answer = answer.filter(|a| !a.trim().is_empty());
        let answer = answer.ok_or("there is no answer to learn from")?;
        let system = text(&["system"])?.filter(|s| !s.trim().is_empty());
        let system = system.map(|s| Message::new("system", &s));
        let turns = [
            Message::new("user", &prompt),
            Message::new("assistant", &answer),
        ];
        let messages = system.into_iter().chain(turns).collect();
        Ok::<_, String>(Example::Chat { messages })
    };
    if let Some(list) = record.get("messages") {
        let messages = messages(list, "role", "content")?;
        return Ok((Format::Messages, Example::Chat { messages }));
    }
    if let Some(list) = record.get("conversations") {
        let mut messages = messages(list, "from", "value")?;
        if let (Some(system), false) = (text(&["system"])?, messages[0].role() == "system") {
            messages.insert(0, Message::new("system", &system));
        }
        return Ok((Format::ShareGpt, Example::Chat { messages }));
    }
    if let Some(instruction) = text(&["instruction"])? {
        let input = text(&["input"])?.filter(|i| !i.trim().is_empty());
        let prompt = match input {
            Some(input) => format!("{instruction}\n\n{input}"),
            None => instruction,
        };
        let answer = text(&["output", "response"])?;
        return Ok((Format::Alpaca, turn(prompt, answer)?));
    }
    if let Some(prompt) = text(&["prompt", "question", "user"])? {
        let answer = text(&["completion", "response", "answer", "assistant"])?;
        return Ok((Format::PromptCompletion, turn(prompt, answer)?));
    }
    match text(&["text"])? {
        Some(text) if text.trim().is_empty() => Err("the text is empty".into()),
        Some(text) => Ok((Format::Text, Example::Text { text })),
        None => {
            let keys: Vec<&str> = record.keys().map(String::as_str).collect();
            Err(format!(
                "none of messages, conversations, instruction, prompt, text among its fields ({})",
                keys.join(", ")
            ))
        }
    }
}

fn messages(
    list: &Json,
    role_key: &str,
    text_key: &str,
) -> std::result::Result<Vec<Message>, String> {
    let list = list.as_array().filter(|l| !l.is_empty());
    let list = list.ok_or("the conversation has no turns")?;
    let mut messages = vec![];
    for (i, turn) in list.iter().enumerate() {
        let field = |key: &str| {
            turn[key]
                .as_str()
                .ok_or_else(|| format!("turn {} has no `{key}`", i + 1))
        };
        let role = match field(role_key)? {
            "human" => "user",
            "gpt" | "model" | "bot" | "chatgpt" => "assistant",
            role @ ("system" | "user" | "assistant") => role,
            other => return Err(format!("turn {} is by `{other}`", i + 1)),
        };
        messages.push(Message::new(role, field(text_key)?));
    }
    if !messages.iter().any(|m| m.role() == "assistant") {
        return Err("there is no assistant's turn to learn from".into());
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(turns: &[(&str, &str)]) -> Example {
        let messages = turns.iter().map(|(r, c)| Message::new(r, c)).collect();
        Example::Chat { messages }
    }

    #[test]
    fn each_format_gives_the_same_conversation() {
        let wanted = chat(&[("user", "hi"), ("assistant", "yo")]);
        for (name, text, format) in [
            (
                "a.jsonl",
                r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}"#,
                Format::Messages,
            ),
            (
                "a.jsonl",
                r#"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"yo"}]}"#,
                Format::ShareGpt,
            ),
            (
                "a.json",
                r#"[{"instruction":"hi","input":"","output":"yo"}]"#,
                Format::Alpaca,
            ),
            (
                "a.jsonl",
                r#"{"prompt":"hi","completion":"yo"}"#,
                Format::PromptCompletion,
            ),
            (
                "a.csv",
                "Prompt,Completion\nhi,yo\n",
                Format::PromptCompletion,
            ),
            ("a.tsv", "instruction\toutput\nhi\tyo\n", Format::Alpaca),
        ] {
            let data = Dataset::parse(name, text).unwrap();
            assert_eq!(data.format, format, "{text}");
            assert_eq!(data.records[0].example, wanted, "{text}");
            assert!(data.bad.is_empty());
        }
    }

    #[test]
    fn bad_records_are_named_by_line() {
        let text = "{\"text\":\"a\"}\n\n{nonsense\n{\"messages\":[]}\n{\"x\":1}\n\
                    {\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n{\"prompt\":\"a\",\"completion\":\" \"}\n";
        let data = Dataset::parse("a.jsonl", text).unwrap();
        assert_eq!(data.records.len(), 1);
        let lines: Vec<usize> = data.bad.iter().map(|b| b.line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7]);
        assert!(data.bad[2].reason.contains("(x)"), "{}", data.bad[2].reason);
        assert!(data.bad[3].reason.contains("no assistant's turn"));
        let none = Dataset::parse("a.jsonl", "{}").unwrap_err().to_string();
        assert!(
            none.contains("a.jsonl") && none.contains("record 1"),
            "{none}"
        );
        assert!(
            Dataset::parse("a.jsonl", "")
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
    }

    #[test]
    fn quoted_cells_and_short_rows() {
        let text = "prompt,completion\n\"a, \"\"b\"\"\nc\",d\nonly\ne,f\n";
        let data = Dataset::parse("a.csv", text).unwrap();
        assert_eq!(
            data.records[0].example,
            chat(&[("user", "a, \"b\"\nc"), ("assistant", "d")])
        );
        assert_eq!((data.records.len(), data.bad[0].line), (2, 4));
    }

    #[test]
    fn paragraphs_of_a_text_file() {
        let data = Dataset::parse("a.txt", "one\ntwo\n\n\nthree\n").unwrap();
        let texts: Vec<_> = data.records.iter().map(|r| (r.line, &r.example)).collect();
        let text = |t: &str| Example::Text { text: t.into() };
        assert_eq!(texts, [(1, &text("one\ntwo")), (5, &text("three"))]);
    }
}
