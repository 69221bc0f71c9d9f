//! Splits source into tokens, with Jinja's white space control (`trim_blocks` and `lstrip_blocks` on, as
//! in transformers).

use super::fault::{Kind, Outcome, fault};

#[derive(Debug, Clone, PartialEq)]
pub enum Tok {
    Data(String),
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
    Eof,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub tok: Tok,
    pub line: usize,
}

/// Longest first.
const OPERATORS: [&str; 27] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";", "!",
];

/// White space as defined by Python's `str.isspace`.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// White space around statements and at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// As in chat templates: Jinja2's `trim_blocks` and `lstrip_blocks`.
    Trimmed,
    /// All of it counts: `keep_trailing_newline`.
    Kept,
}

pub fn tokens(source: &str, space: Space) -> Outcome<Vec<Token>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if space == Space::Trimmed && source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer {
        source: &source,
        at: 0,
        line: 1,
        space,
        line_starts: true,
        out: vec![],
    };
    lexer.run()?;
    let line = lexer.line;
    lexer.out.push(Token {
        tok: Tok::Eof,
        line,
    });
    Ok(lexer.out)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    space: Space,
    /// Whether the consumed source ends with a newline.
    line_starts: bool,
    out: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, tok: Tok) {
        let line = self.line;
        self.out.push(Token { tok, line });
    }

    fn take(&mut self, bytes: usize) {
        let taken = &self.source[self.at..self.at + bytes];
        self.line += taken.matches('\n').count();
        self.line_starts = taken.ends_with('\n');
        self.at += bytes;
    }

    fn fail<T>(&self, message: impl Into<String>) -> Outcome<T> {
        let mut result = fault(Kind::Syntax, message);
        if let Err(f) = &mut result {
            f.line = self.line;
        }
        result
    }

    fn run(&mut self) -> Outcome<()> {
        while self.at < self.source.len() {
            let rest = self.rest();
            let opener = |(i, _): &(usize, char)| {
                let two = rest.as_bytes().get(i + 1);
                matches!(two, Some(b'%' | b'{' | b'#'))
            };
            let found = rest
                .char_indices()
                .filter(|(_, c)| *c == '{')
                .find(|c| opener(c));
            let Some((start, _)) = found else {
                self.push(Tok::Data(rest.into()));
                self.take(rest.len());
                break;
            };
            let kind = rest.as_bytes()[start + 1];
            let sign = rest.as_bytes().get(start + 2).copied();
            let sign = sign.filter(|s| matches!(s, b'-' | b'+'));
            let text = self.before(&rest[..start], sign, kind != b'{');
            if !text.is_empty() {
                self.push(Tok::Data(text.into()));
            }
            self.take(start + 2 + usize::from(sign.is_some()));
            match kind {
                b'#' => self.comment()?,
                b'{' => self.code(Tok::PrintBegin, Tok::PrintEnd)?,
                _ => {
                    if let Some(length) = word_tag(self.rest(), "raw", false) {
                        self.take(length);
                        self.raw()?;
                    } else {
                        self.code(Tok::BlockBegin, Tok::BlockEnd)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Text before a tag, without the white space that the tag strips.
    fn before(&self, text: &'a str, sign: Option<u8>, strips: bool) -> &'a str {
        match sign {
            Some(b'-') => text.trim_end_matches(is_space),
            None if strips && self.space == Space::Trimmed => {
                let line = text.rfind('\n').map_or(0, |i| i + 1);
                let indent = &text[line..];
                if (line > 0 || self.line_starts) && indent.chars().all(is_space) {
                    &text[..line]
                } else {
                    text
                }
            }
            _ => text,
        }
    }

    fn comment(&mut self) -> Outcome<()> {
        let rest = self.rest();
        let Some(end) = rest.find("#}") else {
            return self.fail("unterminated comment");
        };
        let sign = rest[..end].bytes().last();
        self.take(end + 2);
        self.after(sign);
        Ok(())
    }

    /// Skips the white space after a tag that ended with `sign`.
    fn after(&mut self, sign: Option<u8>) {
        let rest = self.rest();
        match sign {
            Some(b'-') => {
                let length = rest.len() - rest.trim_start_matches(is_space).len();
                self.take_space(length);
            }
            Some(b'+') => {}
            _ if self.space == Space::Kept => {}
            _ => self.take_space(usize::from(rest.starts_with('\n'))),
        }
    }

    fn take_space(&mut self, length: usize) {
        if length > 0 {
            self.take(length);
        }
    }

    fn raw(&mut self) -> Outcome<()> {
        let rest = self.rest();
        for (i, _) in rest.match_indices("{%") {
            let sign = rest.as_bytes().get(i + 2).copied();
            let sign = sign.filter(|s| matches!(s, b'-' | b'+'));
            let inner = i + 2 + usize::from(sign.is_some());
            let Some(length) = word_tag(&rest[inner..], "endraw", true) else {
                continue;
            };
            let text = self.before(&rest[..i], sign, true);
            self.push(Tok::Data(text.into()));
            let closing = rest.as_bytes()[inner + length - 3];
            self.take(inner + length);
            self.after(Some(closing));
            return Ok(());
        }
        self.fail("unterminated raw block")
    }

    fn code(&mut self, begin: Tok, end: Tok) -> Outcome<()> {
        let is_print = begin == Tok::PrintBegin;
        let close = if is_print { "}}" } else { "%}" };
        self.push(begin);
        let mut open: Vec<&str> = vec![];
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches(is_space).len();
            if space > 0 {
                self.take(space);
                continue;
            }
            let Some(c) = rest.chars().next() else {
                return self.fail(format!("missing `{close}` at the end of a tag"));
            };
            if open.is_empty() {
                let signed = match c {
                    '-' => rest[1..].starts_with(close),
                    '+' => !is_print && rest[1..].starts_with(close),
                    _ => false,
                };
                if signed || rest.starts_with(close) {
                    self.push(end);
                    self.take(2 + usize::from(signed));
                    if signed {
                        self.after(Some(c as u8));
                    } else if !is_print {
                        self.after(None);
                    }
                    return Ok(());
                }
            }
            if c.is_ascii_digit() {
                self.number()?;
            } else if c.is_alphabetic() || c == '_' {
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let length = name.len();
                self.push(Tok::Name(name));
                self.take(length);
            } else if c == '\'' || c == '"' {
                self.string(c)?;
            } else {
                let op = OPERATORS.iter().find(|op| rest.starts_with(**op));
                let Some(op) = op.filter(|op| **op != "!") else {
                    return self.fail(format!("unexpected character `{c}`"));
                };
                match *op {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" if open.pop() != Some(op) => {
                        return self.fail(format!("unexpected `{op}`"));
                    }
                    _ => {}
                }
                self.push(Tok::Op(op));
                self.take(op.len());
            }
        }
    }

    fn number(&mut self) -> Outcome<()> {
        let rest = self.rest();
        let digits = |s: &str| {
            s.bytes()
                .take_while(|b| b.is_ascii_digit() || *b == b'_')
                .count()
        };
        let prefix = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        if let Some(radix) = match prefix.as_str() {
            "0x" => Some(16),
            "0o" => Some(8),
            "0b" => Some(2),
            _ => None,
        } {
            let length = rest[2..]
                .bytes()
                .take_while(|b| (*b as char).is_digit(radix) || *b == b'_')
                .count();
            let text = rest[2..2 + length].replace('_', "");
            let Ok(n) = i128::from_str_radix(&text, radix) else {
                return self.fail("invalid number");
            };
            self.push(Tok::Int(n));
            self.take(2 + length);
            return Ok(());
        }
        let mut length = digits(rest);
        let mut float = false;
        let after_dot = self.source[..self.at].ends_with('.');
        let is_digit = |s: &str| s.bytes().next().is_some_and(|b| b.is_ascii_digit());
        if !after_dot && rest[length..].starts_with('.') && is_digit(&rest[length + 1..]) {
            float = true;
            length += 1 + digits(&rest[length + 1..]);
        }
        if !after_dot && rest[length..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
            let exponent = &rest[length + 1 + sign..];
            if is_digit(exponent) {
                float = true;
                length += 1 + sign + digits(exponent);
            }
        }
        let text = rest[..length].replace('_', "");
        let tok = if float {
            text.parse().ok().map(Tok::Float)
        } else {
            text.parse().ok().map(Tok::Int)
        };
        let Some(tok) = tok else {
            return self.fail("invalid number");
        };
        self.push(tok);
        self.take(length);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Outcome<()> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = !escaped && *c == quote;
            escaped = !escaped && *c == '\\';
            ends
        });
        let Some((end, _)) = end else {
            return self.fail("unterminated string");
        };
        let Some(text) = unescape(&rest[1..end]) else {
            return self.fail("invalid escape sequence");
        };
        self.push(Tok::Str(text));
        self.take(end + 1);
        Ok(())
    }
}

/// Length of ` raw %}` with its white space, if it follows; the end tag may have `+`, and neither
/// strips what follows.
fn word_tag(rest: &str, word: &str, may_plus: bool) -> Option<usize> {
    let after = rest.trim_start_matches(is_space).strip_prefix(word)?;
    let close = after.trim_start_matches(is_space);
    let signs = if may_plus { "+-" } else { "-" };
    let signed = close.starts_with(|c| signs.contains(c));
    let tail = close[usize::from(signed)..].strip_prefix("%}")?;
    let mut length = rest.len() - tail.len();
    if !may_plus && signed {
        length += tail.len() - tail.trim_start_matches(is_space).len();
    }
    Some(length)
}

/// Python's `unicode-escape`; `None` for an invalid escape.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let code = chars.next()?;
        let simple = match code {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' => code,
            '\n' => continue,
            'x' | 'u' | 'U' => {
                let digits = match code {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let hex: String = chars.by_ref().take(digits).collect();
                let value = (hex.len() == digits).then(|| u32::from_str_radix(&hex, 16).ok())??;
                // A lone surrogate, which a string cannot contain.
                out.push(char::from_u32(value).unwrap_or('\u{fffd}'));
                continue;
            }
            '0'..='7' => {
                let mut value = code.to_digit(8)?;
                for _ in 0..2 {
                    if let Some(d) = chars.peek().and_then(|c| c.to_digit(8)) {
                        value = value * 8 + d;
                        chars.next();
                    }
                }
                char::from_u32(value)?
            }
            'N' => return None,
            other => {
                out.push('\\');
                other
            }
        };
        out.push(simple);
    }
    Some(out)
}
