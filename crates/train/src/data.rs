//! Files of examples, in the usual formats.

use serde::Serialize;
use serde_json::Value as Json;

use crate::file_kind::{broken_line, not_text};
use crate::record::example;
use crate::{BadRecord, Error, Example, Record, RecordFormat, Result};

/// The contents of a file.
#[derive(Debug, Clone, Serialize)]
pub struct Dataset {
    /// The format of the first example.
    pub format: RecordFormat,
    pub records: Vec<Record>,
    pub bad: Vec<BadRecord>,
}

impl Dataset {
    /// Reads a file's bytes, which must be UTF-8.
    ///
    /// # Errors
    /// As [`Self::parse`], and if the bytes are not text.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        let error = |what| Error::NotText {
            name: name.into(),
            what,
        };
        if let Some(what) = not_text(bytes) {
            return Err(error(what));
        }
        if let Some(line) = broken_line(bytes) {
            return Err(Error::Data {
                name: name.into(),
                what: format!("line {line} is not UTF-8"),
            });
        }
        Self::parse(name, &String::from_utf8_lossy(bytes))
    }

    /// Reads a file's text; the file extension distinguishes CSV and plain text from JSON lines.
    ///
    /// # Errors
    /// If it contains no examples. Bad records among good ones are listed, not silently dropped.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        if let Some(what) = not_text(text.as_bytes()) {
            return Err(Error::NotText {
                name: name.into(),
                what,
            });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ending = name.rsplit('.').next().unwrap_or_default().to_lowercase();
        let found = match ending.as_str() {
            "csv" => csv_records(text, b','),
            "tsv" => csv_records(text, b'\t'),
            "txt" | "md" => Ok(paragraphs(text)),
            _ if text.trim_start().starts_with('[') => array(text),
            _ => Ok(objects(text).unwrap_or_else(|| json_lines(text))),
        };
        let found = found.map_err(|what| Error::Data {
            name: name.into(),
            what,
        })?;
        let (mut records, mut bad, mut format) = (vec![], vec![], None);
        for (line, result) in found {
            match result.and_then(without_nul) {
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

type Parsed = std::result::Result<(RecordFormat, Example), String>;

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

/// JSON objects that span several lines each; `None` if each line is a record.
fn objects(text: &str) -> Option<Vec<(usize, Parsed)>> {
    let first = text.lines().find(|l| !l.trim().is_empty())?;
    let is_whole = serde_json::from_str::<Json>(first).is_ok();
    if is_whole || !first.trim_start().starts_with('{') {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Json>();
    let mut out = vec![];
    loop {
        let at = stream.byte_offset();
        let start = at + text[at..].len() - text[at..].trim_start().len();
        match stream.next() {
            Some(json) => out.push((
                1 + text[..start].matches('\n').count(),
                example(&json.ok()?),
            )),
            None => return Some(out),
        }
    }
}

/// A text file may contain a byte that no tokenizer can handle.
fn without_nul((format, example): (RecordFormat, Example)) -> Parsed {
    match &example {
        Example::Text { text } if text.contains('\0') => Err("it contains a NUL byte".into()),
        _ => Ok((format, example)),
    }
}

fn array(text: &str) -> std::result::Result<Vec<(usize, Parsed)>, String> {
    let items: Vec<Json> = match serde_json::from_str(text) {
        Ok(items) => items,
        // Each line may be a list of turns.
        Err(_)
            if text
                .lines()
                .take(2)
                .all(|l| serde_json::from_str::<Json>(l).is_ok()) =>
        {
            return Ok(json_lines(text));
        }
        Err(e) => return Err(format!("not a JSON array ({e})")),
    };
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
        .map(|(line, text)| (line, Ok((RecordFormat::Text, Example::Text { text }))))
        .collect()
}

/// Named columns, as the keys of JSON records.
fn csv_records(text: &str, delimiter: u8) -> std::result::Result<Vec<(usize, Parsed)>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| e.to_string())?;
    let headers: Vec<String> = headers.iter().map(|h| h.trim().to_lowercase()).collect();
    for (i, key) in headers.iter().enumerate() {
        if headers[..i].contains(key) {
            return Err(format!("two of its columns are named `{key}`"));
        }
    }
    let mut out = vec![];
    for (i, row) in reader.records().enumerate() {
        let line = |row: &csv::StringRecord| row.position().map_or(i + 2, |p| p.line() as usize);
        out.push(match row {
            Ok(row) if row.len() != headers.len() => {
                let reason = format!("{} columns instead of {}", row.len(), headers.len());
                (line(&row), Err(reason))
            }
            Ok(row) => {
                let cells = headers.iter().zip(&row);
                let cells = cells.map(|(key, cell)| (key.clone(), Json::String(cell.into())));
                let parsed = match row.iter().any(|cell| cell.contains('\0')) {
                    true => Err("it contains a NUL byte".into()),
                    false => example(&Json::Object(cells.collect())),
                };
                (line(&row), parsed)
            }
            Err(e) => (i + 2, Err(e.to_string())),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use siskin_text::Message;

    use super::*;
    use crate::Conversation;

    fn chat(turns: &[(&str, &str)]) -> Example {
        let messages = turns.iter().map(|(r, c)| Message::new(r, c)).collect();
        Example::Chat(Conversation::of(messages))
    }

    fn messages(example: &Example) -> &[Message] {
        match example {
            Example::Chat(c) => &c.messages,
            _ => &[],
        }
    }

    #[test]
    fn each_format_gives_the_same_conversation() {
        let wanted = chat(&[("user", "hi"), ("assistant", "yo")]);
        for (name, text, format) in [
            (
                "a.jsonl",
                r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}"#,
                RecordFormat::Messages,
            ),
            (
                "a.jsonl",
                r#"{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"yo"}]}"#,
                RecordFormat::ShareGpt,
            ),
            (
                "a.json",
                r#"[{"instruction":"hi","input":"","output":"yo"}]"#,
                RecordFormat::Alpaca,
            ),
            (
                "a.jsonl",
                r#"{"prompt":"hi","completion":"yo"}"#,
                RecordFormat::PromptCompletion,
            ),
            (
                "a.csv",
                "Prompt,Completion\nhi,yo\n",
                RecordFormat::PromptCompletion,
            ),
            (
                "a.tsv",
                "instruction\toutput\nhi\tyo\n",
                RecordFormat::Alpaca,
            ),
        ] {
            let data = Dataset::parse(name, text).unwrap();
            assert_eq!(data.format, format, "{text}");
            assert_eq!(
                messages(&data.records[0].example),
                messages(&wanted),
                "{text}"
            );
            assert!(data.bad.is_empty());
        }
    }

    #[test]
    fn bad_records_are_named_by_line() {
        let text = "{\"text\":\"a\"}\n\n{nonsense\n{\"messages\":[]}\n{\"x\":1}\n\
                    {\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n{\"prompt\":\"a\",\"completion\":\" \"}\n";
        let data = Dataset::parse("a.jsonl", text).unwrap();
        // What has no answer is a prompt.
        assert_eq!(data.records.len(), 2);
        assert!(matches!(data.records[1].example, Example::Prompt(_)));
        let lines: Vec<usize> = data.bad.iter().map(|b| b.line).collect();
        assert_eq!(lines, [3, 4, 5, 7]);
        assert!(data.bad[2].reason.contains("(x)"), "{}", data.bad[2].reason);
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
            messages(&data.records[0].example),
            messages(&chat(&[("user", "a, \"b\"\nc"), ("assistant", "d")]))
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
