//! YAML as JSON. Plain scalars are what PyYAML makes of them, which reads lm-evaluation-harness's task files; tags, anchors
//! and merges are refused.

use anyhow::{Result, bail};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value as Json};

/// Deeper than any task.
const MAX_DEPTH: usize = 64;

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// The line of the last event.
    line: usize,
}

/// The value of a YAML text.
pub fn parse(text: &str) -> Result<Json> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        line: 1,
    };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd => return Ok(Json::Null),
            event => {
                let value = reader.value(event, 0)?;
                while let event = reader.next()?
                    && event != Event::StreamEnd
                {
                    if let Event::DocumentStart(_) = event {
                        bail!("line {}: there is a second document", reader.line);
                    }
                }
                return Ok(value);
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>> {
        match self.parser.next() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(e)) => bail!("line {}: not YAML ({})", e.marker().line(), e.info()),
            None => Ok(Event::StreamEnd),
        }
    }

    fn check(&self, anchor: usize, tag: Option<&saphyr_parser::Tag>) -> Result<()> {
        let line = self.line;
        if let Some(tag) = tag {
            let name = format!("{}{}", tag.handle, tag.suffix);
            match name.as_str() {
                "!function" => {
                    bail!("line {line}: `!function` runs Python, which is not supported")
                }
                _ => bail!("line {line}: the tag `{name}` is not supported"),
            }
        }
        if anchor > 0 {
            bail!("line {line}: anchors (&) are not supported");
        }
        Ok(())
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Json> {
        if depth > MAX_DEPTH {
            bail!("line {}: more than {MAX_DEPTH} levels", self.line);
        }
        Ok(match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check(anchor, tag.as_deref())?;
                match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => text.into_owned().into(),
                }
            }
            Event::SequenceStart(anchor, tag) => {
                self.check(anchor, tag.as_deref())?;
                let mut list = vec![];
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break Json::Array(list),
                        event => list.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(anchor, tag) => {
                self.check(anchor, tag.as_deref())?;
                self.mapping(depth)?
            }
            Event::Alias(_) => bail!("line {}: aliases (*) are not supported", self.line),
            _ => bail!("line {}: a value is missing", self.line),
        })
    }

    fn mapping(&mut self, depth: usize) -> Result<Json> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Json::Object(map)),
                Event::Scalar(key, _, anchor, tag) => {
                    self.check(anchor, tag.as_deref())?;
                    key.into_owned()
                }
                _ => bail!("line {}: a key is not a text", self.line),
            };
            let line = self.line;
            if key == "<<" {
                bail!("line {line}: merges (<<) are not supported");
            }
            let event = self.next()?;
            let value = match self.value(event, depth + 1) {
                Ok(value) => value,
                // Of a mapping, the innermost key says most.
                Err(e) if format!("{e}").contains('`') && depth > 0 => return Err(e),
                Err(e) => return Err(e.context(format!("`{key}`"))),
            };
            if map.insert(key.clone(), value).is_some() {
                bail!("line {line}: `{key}` is there twice");
            }
        }
    }
}

/// What a scalar without quotation marks is in YAML 1.1, as far as tasks have such.
fn plain(text: &str) -> Json {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Json::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => true.into(),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => false.into(),
        _ => number(text).unwrap_or_else(|| text.into()),
    }
}

fn number(text: &str) -> Option<Json> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        // With a zero in front it is octal, or a text: not what it looks like.
        let is_plain = digits == "0" || !digits.starts_with('0');
        return is_plain.then(|| {
            text.trim_start_matches('+')
                .parse::<i64>()
                .ok()
                .map(Json::from)
        })?;
    }
    // Without a point it is a text there: 1e5.
    let is_float = digits.contains('.') && digits.bytes().any(|b| b.is_ascii_digit());
    let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    (is_float && digits.chars().all(is_part)).then(|| text.parse::<f64>().ok().map(Json::from))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;

    #[test]
    fn scalars_are_those_of_pyyaml() {
        let text = "a: 1\nb: [no, 'no', 1.5, 1e5, ~, 2.0, -3, 1.2.3]\nc: \"x\\n\\\n  y\"\nd: |\n  e\n  f\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({"a": 1, "b": [false, "no", 1.5, "1e5", null, 2.0, -3, "1.2.3"], "c": "x\ny", "d": "e\nf\n"})
        );
        assert_eq!(parse("").unwrap(), json!(null));
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_line() {
        for (text, part) in [
            (
                "a: 1\nb: !function utils.f\n",
                "`b`: line 2: `!function` runs Python",
            ),
            ("a: &x 1\n", "anchors"),
            ("a: 1\na: 2\n", "line 2: `a` is there twice"),
            ("a: [1\nb: 2", "not YAML"),
            ("a: 1\n---\nb: 2", "second document"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
