//! Prints an answer as it comes.

use std::io::{IsTerminal, Stdout, Write};

use siskin_text::{AnswerParser, Part};

use crate::asking::{Asking, Parts};

/// How reasoning is told from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Dimmed,
    /// On a terminal that shall have no colours.
    Headings,
    /// Who reads a pipe wants the answer.
    Hidden,
}

impl Style {
    fn of(out: &impl IsTerminal) -> Self {
        let has = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match out.is_terminal() {
            true if has("NO_COLOR") || is_dumb => Self::Headings,
            true => Self::Dimmed,
            false => Self::Hidden,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Reasoning,
    Content,
}

#[derive(Debug)]
pub struct Printer<W> {
    /// `None` if nothing is printed.
    out: Option<W>,
    style: Style,
    parser: Option<AnswerParser>,
    last: Last,
    parts: Parts,
}

impl Printer<Stdout> {
    /// Prints to the standard output, or only takes the answer apart.
    pub fn new(asking: &Asking, is_silent: bool) -> Self {
        let out = std::io::stdout();
        let style = Style::of(&out);
        Self::to((!is_silent).then_some(out), style, asking.parser())
    }
}

impl<W: Write> Printer<W> {
    fn to(out: Option<W>, style: Style, parser: Option<AnswerParser>) -> Self {
        Self {
            out,
            style,
            parser,
            last: Last::Nothing,
            parts: Parts::default(),
        }
    }

    pub fn push(&mut self, text: &str) -> std::io::Result<()> {
        let parts = match &mut self.parser {
            Some(parser) => parser.push(text),
            None if text.is_empty() => vec![],
            None => vec![Part::Content(text.into())],
        };
        self.add(parts)
    }

    /// Ends the answer. Whether its last line is to be ended, too, is returned.
    pub fn finish(mut self) -> std::io::Result<(Parts, bool)> {
        let parts = self.parser.as_mut().map(AnswerParser::finish);
        self.add(parts.unwrap_or_default())?;
        let is_only_reasoning = self.parts.content.is_empty() && self.parts.calls.is_empty();
        if self.style == Style::Hidden
            && self.out.is_some()
            && is_only_reasoning
            && !self.parts.reasoning.is_empty()
        {
            eprintln!(
                "note: the model has only reasoned, which --json shows; raise --max-tokens if it was cut"
            );
        }
        let is_open = self.last != Last::Nothing;
        Ok((self.parts, is_open))
    }

    fn add(&mut self, parts: Vec<Part>) -> std::io::Result<()> {
        for part in parts {
            self.print(&part)?;
            self.parts.add(part);
        }
        Ok(())
    }

    fn print(&mut self, part: &Part) -> std::io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let (kind, text) = match part {
            Part::Reasoning(_) if self.style == Style::Hidden => return Ok(()),
            Part::Reasoning(text) => (Last::Reasoning, text.as_str()),
            // What stands between reasoning and answer has been printed already.
            Part::Content(text) if self.last == Last::Reasoning => {
                (Last::Content, text.trim_start())
            }
            Part::Content(text) => (Last::Content, text.as_str()),
            Part::Call(_) => return Ok(()),
        };
        if text.is_empty() {
            return Ok(());
        }
        let heading = match (self.style, kind) {
            (Style::Headings, Last::Reasoning) => "Reasoning:\n",
            (Style::Headings, _) if self.last == Last::Reasoning => "Answer:\n",
            _ => "",
        };
        if self.last != kind {
            let gap = if self.last == Last::Nothing {
                ""
            } else {
                "\n\n"
            };
            write!(out, "{gap}{heading}")?;
        }
        // Around each piece, so that nothing stays dimmed wherever the program ends.
        match (self.style, kind) {
            (Style::Dimmed, Last::Reasoning) => write!(out, "\x1b[2m{text}\x1b[22m")?,
            _ => write!(out, "{text}")?,
        }
        self.last = kind;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use siskin_text::AnswerFormat;

    use super::*;

    fn printed(style: Style, pieces: &[&str]) -> (String, Parts) {
        let parser = AnswerParser::new(&AnswerFormat::of("<think>"), "", &[]);
        let mut out = vec![];
        let mut printer = Printer::to(Some(&mut out), style, Some(parser));
        pieces.iter().for_each(|text| printer.push(text).unwrap());
        let (parts, _) = printer.finish().unwrap();
        (String::from_utf8(out).unwrap(), parts)
    }

    #[test]
    fn reasoning_is_told_from_the_answer() {
        let pieces = ["<think>\nWell", " then.\n</th", "ink>\n\n", "Four", "."];
        for (style, wanted) in [
            (
                Style::Dimmed,
                "\x1b[2mWell\x1b[22m\x1b[2m then.\x1b[22m\n\nFour.",
            ),
            (Style::Headings, "Reasoning:\nWell then.\n\nAnswer:\nFour."),
            (Style::Hidden, "Four."),
        ] {
            let (text, parts) = printed(style, &pieces);
            assert_eq!(text, wanted, "{style:?}");
            assert_eq!(parts.reasoning, "Well then.");
            assert_eq!(parts.content, "Four.");
        }
    }

    #[test]
    fn channels_are_told_apart() {
        let format = AnswerFormat::of("<|channel|> <|message|>");
        let mut out = vec![];
        let parser = Some(AnswerParser::new(&format, "", &[]));
        let mut printer = Printer::to(Some(&mut out), Style::Headings, parser);
        let text = "<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant<|channel|>final<|message|>Four.";
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        pieces.iter().for_each(|piece| printer.push(piece).unwrap());
        let (parts, is_open) = printer.finish().unwrap();
        assert!(is_open);
        assert_eq!(out, b"Reasoning:\nTwo and two.\n\nAnswer:\nFour.");
        assert_eq!(parts.content, "Four.");
    }

    #[test]
    fn an_answer_without_reasoning_is_printed_as_it_is() {
        for style in [Style::Dimmed, Style::Headings, Style::Hidden] {
            assert_eq!(printed(style, &["Fo", "ur."]).0, "Four.");
        }
    }
}
