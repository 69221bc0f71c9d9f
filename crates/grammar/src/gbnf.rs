//! llama.cpp's notation for grammars:
//! <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::source::Notation;

/// Whether a grammar is in this notation: a rule is defined by `::=`, which no line of Lark begins with.
pub fn is_gbnf(text: &str) -> bool {
    text.lines().any(|line| {
        let name = line.trim_start().trim_start_matches(is_of_name);
        name.len() < line.trim_start().len() && name.trim_start().starts_with("::=")
    })
}

/// What follows it in llguidance's notations: a regular expression if no rule contains itself, else rules of Lark, in which
/// each character is a terminal of its own, since the longest terminal would win otherwise.
pub fn notation(text: &str) -> Result<Notation, String> {
    let grammar = Grammar::parse(text)?;
    let root = grammar.root()?;
    if grammar.is_regular(root, &mut vec![Visit::Not; grammar.rules.len()]) {
        let mut out = String::new();
        grammar.regex(&grammar.rules[root], &mut out);
        if out.len() < LONGEST {
            return Ok(Notation::Regex(out));
        }
    }
    let mut out = format!("start: rule_{root}\n");
    for (i, rule) in grammar.rules.iter().enumerate() {
        let _ = write!(out, "rule_{i}: ");
        lark(rule, &mut out);
        out.push('\n');
    }
    Ok(Notation::Lark(out))
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

#[derive(Debug)]
enum Part {
    /// One character of these ranges, or of all others.
    Chars {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
    /// A token, as llguidance writes it.
    Token(String),
    Rule(usize),
    Sequence(Vec<Part>),
    Any(Vec<Part>),
    Repeat {
        part: Box<Part>,
        least: u32,
        most: Option<u32>,
    },
}

/// The most bytes of a regular expression in place of rules.
const LONGEST: usize = 100_000;

#[derive(Clone, Copy)]
enum Visit {
    Not,
    Within,
    Done,
}

struct Grammar {
    names: BTreeMap<String, usize>,
    rules: Vec<Part>,
}

impl Grammar {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            text,
            at: 0,
            names: BTreeMap::new(),
        };
        let mut rules: BTreeMap<usize, Part> = BTreeMap::new();
        parser.skip(true);
        while !parser.rest().is_empty() {
            let name = parser.name()?;
            parser.skip(false);
            parser.expect("::=")?;
            parser.skip(true);
            let part = parser.alternatives(false)?;
            rules.insert(parser.rule(&name), part);
            parser.skip(true);
        }
        let names = parser.names;
        let rules = names.iter().map(|(name, i)| {
            let rule = rules.remove(i).map(|rule| (*i, rule));
            rule.ok_or_else(|| format!("the rule `{name}` is not defined"))
        });
        let rules: BTreeMap<usize, Part> = rules.collect::<Result<_, _>>()?;
        let rules = rules.into_values().collect();
        Ok(Self { names, rules })
    }

    fn root(&self) -> Result<usize, String> {
        let root = self.names.get("root").copied();
        root.ok_or_else(|| "there is no rule `root`".into())
    }

    /// Whether no rule within this one contains itself, nor tokens.
    fn is_regular(&self, rule: usize, visits: &mut Vec<Visit>) -> bool {
        match visits[rule] {
            Visit::Within => return false,
            Visit::Done => return true,
            Visit::Not => visits[rule] = Visit::Within,
        }
        let is_regular = self.is_part_regular(&self.rules[rule], visits);
        visits[rule] = Visit::Done;
        is_regular
    }

    fn is_part_regular(&self, part: &Part, visits: &mut Vec<Visit>) -> bool {
        match part {
            Part::Chars { .. } => true,
            Part::Token(_) => false,
            Part::Rule(i) => self.is_regular(*i, visits),
            Part::Sequence(parts) | Part::Any(parts) => {
                parts.iter().all(|p| self.is_part_regular(p, visits))
            }
            Part::Repeat { part, .. } => self.is_part_regular(part, visits),
        }
    }

    /// Rules stand in it as often as they are used, so that it may become too long.
    fn regex(&self, part: &Part, out: &mut String) {
        if out.len() >= LONGEST {
            return;
        }
        match part {
            Part::Chars { ranges, is_negated } => class(ranges, *is_negated, out),
            Part::Token(_) => {}
            Part::Rule(i) => self.regex(&self.rules[*i], out),
            Part::Sequence(parts) => parts.iter().for_each(|p| self.regex(p, out)),
            Part::Any(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    out.push_str(if i == 0 { "(" } else { "|" });
                    self.regex(part, out);
                }
                out.push(')');
            }
            Part::Repeat { part, least, most } => {
                out.push('(');
                self.regex(part, out);
                out.push(')');
                repetition(*least, *most, out);
            }
        }
    }
}

fn lark(part: &Part, out: &mut String) {
    match part {
        Part::Chars { ranges, is_negated } => {
            out.push('/');
            class(ranges, *is_negated, out);
            out.push('/');
        }
        Part::Token(token) => out.push_str(token),
        Part::Rule(i) => drop(write!(out, "rule_{i}")),
        Part::Sequence(parts) if parts.is_empty() => out.push_str("\"\""),
        Part::Sequence(parts) => {
            for (i, part) in parts.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { " " });
                lark(part, out);
            }
        }
        Part::Any(parts) => {
            for (i, part) in parts.iter().enumerate() {
                out.push_str(if i == 0 { "(" } else { " | " });
                lark(part, out);
            }
            out.push(')');
        }
        Part::Repeat { part, least, most } => {
            out.push('(');
            lark(part, out);
            out.push(')');
            repetition(*least, *most, out);
        }
    }
}

fn repetition(least: u32, most: Option<u32>, out: &mut String) {
    let _ = match (least, most) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (_, None) => write!(out, "{{{least},}}"),
        (_, Some(most)) => write!(out, "{{{least},{most}}}"),
    };
}

/// A class of a regular expression.
fn class(ranges: &[(char, char)], is_negated: bool, out: &mut String) {
    out.push_str(if is_negated { "[^" } else { "[" });
    for (first, last) in ranges {
        let _ = write!(out, "\\x{{{:X}}}", u32::from(*first));
        if first != last {
            let _ = write!(out, "-\\x{{{:X}}}", u32::from(*last));
        }
    }
    out.push(']');
}

const EVERY_CHAR: (char, char) = ('\0', char::MAX);

/// Repetitions of more would take too long to compile.
const MOST: u32 = 100_000;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    names: BTreeMap<String, usize>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Result<char, String> {
        let c = self.peek().ok_or_else(|| self.wrong("it ends too early"))?;
        self.at += c.len_utf8();
        Ok(c)
    }

    fn wrong(&self, what: &str) -> String {
        let line = self.text[..self.at].matches('\n').count() + 1;
        format!("line {line}: {what}")
    }

    fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        match self.take(text) {
            true => Ok(()),
            false => Err(self.wrong(&format!("`{text}` is missing"))),
        }
    }

    /// Skips spaces and comments, and the ends of lines where a rule may continue on the next one.
    fn skip(&mut self, with_lines: bool) {
        loop {
            match self.peek() {
                Some(' ' | '\t') => self.at += 1,
                Some('\r' | '\n') if with_lines => self.at += 1,
                Some('#') => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let name = &rest[..rest.len() - rest.trim_start_matches(is_of_name).len()];
        if name.is_empty() {
            return Err(self.wrong("the name of a rule is missing"));
        }
        self.at += name.len();
        Ok(name.into())
    }

    fn rule(&mut self, name: &str) -> usize {
        let new = self.names.len();
        *self.names.entry(name.into()).or_insert(new)
    }

    fn alternatives(&mut self, is_nested: bool) -> Result<Part, String> {
        let mut all = vec![self.sequence(is_nested)?];
        while self.take("|") {
            self.skip(true);
            all.push(self.sequence(is_nested)?);
        }
        Ok(Part::Any(all))
    }

    fn sequence(&mut self, is_nested: bool) -> Result<Part, String> {
        let mut parts = vec![];
        while let Some(part) = self.part()? {
            let part = self.repeated(part)?;
            parts.push(part);
            self.skip(is_nested);
        }
        Ok(Part::Sequence(parts))
    }

    /// `None` where a sequence ends.
    fn part(&mut self) -> Result<Option<Part>, String> {
        let Some(c) = self.peek() else {
            return Ok(None);
        };
        Ok(Some(match c {
            '"' => self.text()?,
            '[' => self.class()?,
            '.' => {
                self.at += 1;
                Part::Chars {
                    ranges: vec![EVERY_CHAR],
                    is_negated: false,
                }
            }
            '(' => {
                self.at += 1;
                self.skip(true);
                let part = self.alternatives(true)?;
                self.expect(")")?;
                part
            }
            '<' => {
                let end = self.rest().find('>');
                let end = end.ok_or_else(|| self.wrong("`>` is missing"))?;
                let token = &self.rest()[..=end];
                self.at += token.len();
                Part::Token(token.into())
            }
            '!' => return Err(self.wrong("tokens that must not come (`!<…>`) are not supported")),
            c if is_of_name(c) => {
                let name = self.name()?;
                Part::Rule(self.rule(&name))
            }
            '|' | ')' | '\r' | '\n' => return Ok(None),
            c => return Err(self.wrong(&format!("`{c}` is not expected here"))),
        }))
    }

    fn text(&mut self) -> Result<Part, String> {
        self.at += 1;
        let mut parts = vec![];
        while !self.take("\"") {
            let c = self.char()?;
            parts.push(Part::Chars {
                ranges: vec![(c, c)],
                is_negated: false,
            });
        }
        Ok(Part::Sequence(parts))
    }

    fn class(&mut self) -> Result<Part, String> {
        self.at += 1;
        let is_negated = self.take("^");
        let mut ranges = vec![];
        while !self.take("]") {
            let first = self.char()?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = match is_range {
                true => {
                    self.at += 1;
                    self.char()?
                }
                false => first,
            };
            if last < first {
                return Err(self.wrong(&format!("the range {first}-{last} is empty")));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() && !is_negated {
            return Err(self.wrong("`[]` has no characters"));
        }
        Ok(match ranges.is_empty() {
            true => Part::Chars {
                ranges: vec![EVERY_CHAR],
                is_negated: false,
            },
            false => Part::Chars { ranges, is_negated },
        })
    }

    /// A character of a text or a class.
    fn char(&mut self) -> Result<char, String> {
        match self.next()? {
            '\\' => {}
            c => return Ok(c),
        }
        let digits = match self.next()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'n' => return Ok('\n'),
            c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '/') => return Ok(c),
            c => return Err(self.wrong(&format!("`\\{c}` is unknown"))),
        };
        let digits = self.rest().get(..digits).unwrap_or_default();
        self.at += digits.len();
        let code = u32::from_str_radix(digits, 16).ok();
        let c = code.and_then(char::from_u32);
        c.ok_or_else(|| self.wrong(&format!("`{digits}` is not the code of a character")))
    }

    fn repeated(&mut self, part: Part) -> Result<Part, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let end = self.rest().find('}');
                let end = end.ok_or_else(|| self.wrong("`}` is missing"))?;
                let given = &self.rest()[1..end];
                let (least, most) = self.counts(given)?;
                self.at += end;
                (least, most)
            }
            _ => return Ok(part),
        };
        self.at += 1;
        let part = Box::new(part);
        // There may be several.
        self.repeated(Part::Repeat { part, least, most })
    }

    fn counts(&self, given: &str) -> Result<(u32, Option<u32>), String> {
        let wrong = || self.wrong(&format!("`{{{given}}}` must be {{m}}, {{m,}} or {{m,n}}"));
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        let (least, most) = match given.split_once(',') {
            None => (number(given)?, Some(number(given)?)),
            Some((least, most)) if most.trim().is_empty() => (number(least)?, None),
            Some((least, most)) if least.trim().is_empty() => (0, Some(number(most)?)),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        if most.is_some_and(|most| most < least) {
            return Err(wrong());
        }
        if least.max(most.unwrap_or(0)) > MOST {
            return Err(self.wrong(&format!("`{{{given}}}` is more than {MOST} times")));
        }
        Ok((least, most))
    }
}
