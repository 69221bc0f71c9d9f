//! Values as Python writes them, and as Gemma's templates do, whose strings stand between marks of their own.

use serde_json::{Map, Value as Json};

/// Values nested deeper than any call's.
const MAX_DEPTH: usize = 64;

/// A text that is read from its beginning.
pub(crate) struct Reader<'a> {
    rest: &'a str,
    /// What strings stand between, apart from quotation marks.
    quote: Option<&'a str>,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str, quote: Option<&'a str>) -> Self {
        Self {
            rest: text,
            quote,
            depth: 0,
        }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    pub fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Reads this text, after spaces; `None` if something else stands there.
    pub fn take(&mut self, text: &str) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// A name: letters, digits, and what tools' names have besides.
    pub fn name(&mut self) -> Option<&'a str> {
        self.skip_space();
        let is_part = |c: char| c.is_alphanumeric() || "_-.$".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty()).then_some(name)
    }

    pub fn value(&mut self) -> Option<Json> {
        self.skip_space();
        if let Some(quote) = self.quote
            && let Some(rest) = self.rest.strip_prefix(quote)
        {
            let (text, rest) = rest.split_once(quote)?;
            self.rest = rest;
            return Some(text.into());
        }
        match self.rest.chars().next()? {
            '"' | '\'' => self.string().map(Json::String),
            '[' => self.list("[", "]").map(Json::Array),
            '(' => self.list("(", ")").map(Json::Array),
            '{' => self.pairs("{", ":", "}").map(Json::Object),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<Json> {
        let end = self
            .rest
            .find(|c: char| ",]}):".contains(c) || c.is_whitespace());
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "True" | "true" => Some(true.into()),
            "False" | "false" => Some(false.into()),
            "None" | "null" => Some(Json::Null),
            number => serde_json::from_str(number).ok(),
        }
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next()?;
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(out);
                }
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    kind @ ('x' | 'u' | 'U') => {
                        let digits = match kind {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                        out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                    }
                    c => out.push(c),
                },
                c => out.push(c),
            }
        }
        None
    }

    fn list(&mut self, open: &str, close: &str) -> Option<Vec<Json>> {
        let mut all = vec![];
        self.each(open, close, |reader| {
            all.push(reader.value()?);
            Some(())
        })?;
        Some(all)
    }

    /// Keys, which may be bare, and values.
    pub fn pairs(&mut self, open: &str, between: &str, close: &str) -> Option<Map<String, Json>> {
        let mut all = Map::new();
        self.each(open, close, |reader| {
            reader.skip_space();
            let is_quoted = reader.rest.starts_with(['"', '\''])
                || reader.quote.is_some_and(|q| reader.rest.starts_with(q));
            let key = match is_quoted {
                true => reader.value()?.as_str()?.into(),
                false => reader.name()?.into(),
            };
            reader.take(between)?;
            all.insert(key, reader.value()?);
            Some(())
        })?;
        Some(all)
    }

    /// Reads items between these marks, with commas between and perhaps after them.
    pub fn each(
        &mut self,
        open: &str,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(open)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        while self.take(close).is_none() {
            item(self)?;
            if self.take(",").is_none() {
                self.take(close)?;
                break;
            }
        }
        self.depth -= 1;
        Some(())
    }
}
