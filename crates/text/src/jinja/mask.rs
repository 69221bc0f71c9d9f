//! Marks on characters. Text in a message that spells a control token is marked, character by character, before
//! rendering: a marked character is a different code point, so it can be recognised in the result,
//! but every comparison sees the original character.

use std::borrow::Cow;
use std::ops::Range;

/// Unassigned planes of Unicode, of which one that the input does not use is chosen.
const PLANES: std::ops::RangeInclusive<u32> = 4..=13;

/// The plane of marked characters, if any are marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mask(Option<u32>);

impl Mask {
    pub const NONE: Self = Self(None);

    /// A mask with a plane that none of the texts uses.
    pub fn unused_by(used: impl Fn(u32) -> bool) -> Option<Self> {
        PLANES
            .into_iter()
            .find(|p| !used(*p))
            .map(|p| Self(Some(p)))
    }

    pub fn is_none(self) -> bool {
        self.0.is_none()
    }

    pub fn mark(self, text: &str) -> String {
        let Some(plane) = self.0 else {
            return text.into();
        };
        let mark = |c: char| {
            let code = c as u32;
            // Characters beyond the first plane are left alone: one marked character is enough to break up a token.
            if code < 0xfffe {
                char::from_u32(plane << 16 | code).unwrap_or(c)
            } else {
                c
            }
        };
        text.chars().map(mark).collect()
    }

    pub fn is_marked(self, c: char) -> bool {
        self.0.is_some_and(|plane| (c as u32) >> 16 == plane)
    }

    /// The original character.
    pub fn open(self, c: char) -> char {
        if self.is_marked(c) {
            char::from_u32(c as u32 & 0xffff).unwrap_or(c)
        } else {
            c
        }
    }

    pub fn open_text(self, text: &str) -> Cow<'_, str> {
        if self.is_none() || text.is_ascii() || !text.chars().any(|c| self.is_marked(c)) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.chars().map(|c| self.open(c)).collect())
    }

    /// Applies a function to a character that may be marked; its results are then marked, too.
    pub fn through(self, c: char, f: impl Fn(char) -> String) -> String {
        if self.is_marked(c) {
            self.mark(&f(self.open(c)))
        } else {
            f(c)
        }
    }

    pub fn same(self, a: &str, b: &str) -> bool {
        a == b || (!self.is_none() && self.open_text(a) == self.open_text(b))
    }

    /// Occurrences of a needle, from left to right without overlaps.
    pub fn matches(self, hay: &str, needle: &str) -> Vec<Range<usize>> {
        let open = self.open_text(hay);
        let needle = self.open_text(needle);
        let found = open.match_indices(&*needle);
        let found = found.map(|(i, m)| i..i + m.len());
        match &open {
            Cow::Borrowed(_) => found.collect(),
            Cow::Owned(_) => {
                let back = self.offsets(hay);
                found.map(|r| back[r.start]..back[r.end]).collect()
            }
        }
    }

    /// The offset in a marked text for each byte of the unmarked one.
    fn offsets(self, text: &str) -> Vec<usize> {
        let mut back = vec![];
        for (i, c) in text.char_indices() {
            back.resize(back.len() + self.open(c).len_utf8(), i);
        }
        back.push(text.len());
        back
    }

    /// The number of bytes of a text's prefix.
    pub fn prefix(self, text: &str, prefix: &str) -> Option<usize> {
        if text.starts_with(prefix) {
            return Some(prefix.len());
        }
        if self.is_none() {
            return None;
        }
        let prefix: Vec<char> = prefix.chars().map(|c| self.open(c)).collect();
        let mut chars = text.char_indices();
        for p in prefix {
            chars.next().filter(|(_, c)| self.open(*c) == p)?;
        }
        Some(chars.next().map_or(text.len(), |(i, _)| i))
    }

    /// The offset of a text's suffix.
    pub fn suffix(self, text: &str, suffix: &str) -> Option<usize> {
        if text.ends_with(suffix) {
            return Some(text.len() - suffix.len());
        }
        let (a, b) = (self.open_text(text), self.open_text(suffix));
        if self.is_none() || !a.ends_with(&*b) {
            return None;
        }
        let count = b.chars().count();
        text.char_indices()
            .rev()
            .nth(count.checked_sub(1)?)
            .map(|(i, _)| i)
    }

    /// The text without marks, and the marked ranges.
    pub fn take(self, text: &str) -> (String, Vec<Range<usize>>) {
        let mut out = String::with_capacity(text.len());
        let mut ranges: Vec<Range<usize>> = vec![];
        for c in text.chars() {
            let start = out.len();
            out.push(self.open(c));
            if self.is_marked(c) {
                match ranges.last_mut() {
                    Some(last) if last.end == start => last.end = out.len(),
                    _ => ranges.push(start..out.len()),
                }
            }
        }
        (out, ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_text_is_found_as_what_it_stands_for() {
        let mask = Mask::unused_by(|p| p == 4).unwrap();
        let text = format!("é {} b", mask.mark("<x>"));
        assert_ne!(text, "é <x> b");
        assert_eq!(mask.open_text(&text), "é <x> b");
        let at = &mask.matches(&text, "x> ")[0];
        assert_eq!(mask.open_text(&text[at.clone()]), "x> ");
        let (opened, ranges) = mask.take(&text);
        assert_eq!(opened, "é <x> b");
        assert!(ranges.len() == 1 && ranges[0] == (3..6));
        assert!(mask.suffix(&text, "> b").is_some() && mask.prefix(&text, "é <").is_some());
    }
}
