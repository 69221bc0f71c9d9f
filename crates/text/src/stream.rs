//! Decodes tokens one at a time, without emitting partial characters or the start of a stop string.

use std::ops::Range;

use crate::TextModel;

/// The text added by one token.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Emitted {
    /// Text that is now final.
    pub text: String,
    /// The stop string that was reached; the text ends before it.
    pub stop: Option<String>,
}

/// Decodes tokens one at a time, without emitting partial characters or the start of a stop string. Special tokens are
/// not shown unless asked for, but stop strings may contain them.
///
/// ```
/// use siskin_formats::SideFiles;
/// use siskin_text::{TextModel, TextStream};
///
/// # fn main() -> siskin_text::Result<()> {
/// # let mut side = SideFiles::new("example");
/// # side.add("tokenizer.json", r#"{"version": "1.0", "added_tokens": [],
/// #     "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
/// #     "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
/// #     "model": {"type": "BPE", "vocab": {"ð": 0, "Ł": 1, "¦": 2, "Ģ": 3, "a": 4}, "merges": []}}"#.into());
/// let model = TextModel::from_side_files(&side)?;
/// let ids: Vec<u32> = model.encode("a🦀")?.iter().map(|t| t.id).collect();
/// let mut stream = TextStream::new(&[]);
/// let texts: Vec<String> = ids.iter().map(|id| stream.push(&model, *id).text).collect();
/// assert_eq!(texts, ["a", "", "", "", "🦀"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct TextStream {
    stops: Vec<String>,
    /// Special tokens that are shown.
    shown: Vec<String>,
    /// Bytes of an incomplete character.
    bytes: Vec<u8>,
    /// Whether any text has been decoded.
    started: bool,
    /// Tokens whose text is not fully emitted, after those kept as context: for decoders whose bytes are unknown.
    ids: Vec<u32>,
    context: usize,
    /// Decoded text that may be the start of a stop string; special tokens are spelled out.
    held: String,
    /// Special tokens in `held`.
    hidden: Vec<Range<usize>>,
}

impl TextStream {
    /// A stream that ends at any of these strings.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self {
            stops,
            ..Self::default()
        }
    }

    /// The same, showing these special tokens.
    #[must_use]
    pub fn showing(mut self, special: &[String]) -> Self {
        self.shown = special.into();
        self
    }

    /// Adds a token, and returns the text that is final now.
    pub fn push(&mut self, model: &TextModel, id: u32) -> Emitted {
        if model.is_special(id) {
            let rest = self.flush(model);
            self.hold(&rest, false);
            let piece = model.piece(id);
            let is_hidden = !self.shown.contains(&piece);
            self.hold(&piece, is_hidden);
            return self.emit();
        }
        let new = match model.text_bytes(id) {
            Some(bytes) => self.push_bytes(&bytes, model.strips_first_space()),
            None => self.push_id(model, id),
        };
        self.hold(&new, false);
        self.emit()
    }

    /// The text that becomes final with more bytes.
    fn push_bytes(&mut self, bytes: &[u8], strips: bool) -> String {
        let bytes = match bytes {
            [b' ', rest @ ..] if strips && !self.started => rest,
            all => all,
        };
        self.started = true;
        self.bytes.extend_from_slice(bytes);
        let mut out = String::new();
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    out.push_str(text);
                    self.bytes.clear();
                    return out;
                }
                Err(e) => {
                    let (valid, rest) = self.bytes.split_at(e.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(valid));
                    let Some(length) = e.error_len() else {
                        self.bytes = rest.to_vec();
                        return out;
                    };
                    out.push('\u{fffd}');
                    self.bytes = rest[length..].to_vec();
                }
            }
        }
    }

    /// The same with the decoder: what a token adds to those before it.
    fn push_id(&mut self, model: &TextModel, id: u32) -> String {
        self.ids.push(id);
        let before = model.decode(&self.ids[..self.context]);
        let all = model.decode(&self.ids);
        // An incomplete character decodes to U+FFFD.
        if all.ends_with('\u{fffd}') && self.ids.len() - self.context < 8 {
            return String::new();
        }
        let new = all.get(before.len()..).unwrap_or_default().to_string();
        self.ids.drain(..self.context);
        self.context = self.ids.len();
        new
    }

    /// The rest of a character that will not be completed.
    fn flush(&mut self, model: &TextModel) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if self.ids.len() > self.context {
            let before = model.decode(&self.ids[..self.context]).len();
            let all = model.decode(&self.ids);
            text.push_str(all.get(before..).unwrap_or_default());
            self.ids.clear();
            self.context = 0;
        }
        text
    }

    fn hold(&mut self, text: &str, hidden: bool) {
        let start = self.held.len();
        self.held.push_str(text);
        if hidden {
            self.hidden.push(start..self.held.len());
        }
    }

    /// Removes the first bytes from the held text, and returns them without special tokens.
    fn take(&mut self, bytes: usize) -> String {
        let mut shown = String::new();
        let mut at = 0;
        for range in &self.hidden {
            let (start, end) = (range.start.min(bytes), range.end.min(bytes));
            shown.push_str(&self.held[at..start]);
            at = end;
        }
        shown.push_str(&self.held[at..bytes]);
        self.held.drain(..bytes);
        self.hidden.retain(|r| r.end > bytes);
        for range in &mut self.hidden {
            *range = range.start.saturating_sub(bytes)..range.end - bytes;
        }
        shown
    }

    fn emit(&mut self) -> Emitted {
        let met = self
            .stops
            .iter()
            .filter_map(|s| Some((self.held.find(s.as_str())?, s)))
            .min_by_key(|(at, _)| *at);
        if let Some((at, stop)) = met {
            let stop = Some(stop.clone());
            let text = self.take(at);
            self.held.clear();
            self.hidden.clear();
            return Emitted { text, stop };
        }
        let keep = self
            .stops
            .iter()
            .flat_map(|s| s.char_indices().map(move |(i, _)| &s[..i]))
            .filter(|start| !start.is_empty() && self.held.ends_with(start))
            .map(str::len)
            .max()
            .unwrap_or(0);
        Emitted {
            text: self.take(self.held.len() - keep),
            stop: None,
        }
    }

    /// The text that was held back, when there are no more tokens.
    pub fn finish(&mut self, model: &TextModel) -> String {
        let rest = self.flush(model);
        self.hold(&rest, false);
        self.take(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl TextStream {
        fn push_text(&mut self, new: &str) -> Emitted {
            self.hold(new, false);
            self.emit()
        }
    }

    #[test]
    fn holds_back_what_may_become_a_stop_string() {
        let mut s = TextStream::new(&["\nUser:".into(), "END".into()]);
        assert_eq!(s.push_text("hello\n").text, "hello");
        assert_eq!(s.push_text("Us").text, "");
        assert_eq!(s.push_text("ed").text, "\nUsed");
        let last = s.push_text(" EN");
        assert_eq!((last.text.as_str(), last.stop), (" ", None));
        let last = s.push_text("D and more");
        assert_eq!(
            (last.text.as_str(), last.stop.as_deref()),
            ("", Some("END"))
        );
    }

    #[test]
    fn stops_name_special_tokens_that_are_not_shown() {
        let mut s = TextStream::new(&["<|sep|> morning".into()]);
        s.hold("<|sep|>", true);
        assert_eq!(s.emit().text, "");
        assert_eq!(s.push_text(" more").text, " more");
        s.hold("a<|sep|>", false);
        s.hidden.push(1..8);
        let last = s.push_text(" morning");
        assert_eq!((last.text.as_str(), last.stop.is_some()), ("a", true));
    }

    #[test]
    fn characters_come_whole() {
        let mut s = TextStream::default();
        let crab = "🦀".as_bytes();
        assert_eq!(s.push_bytes(&[b' ', crab[0], crab[1]], true), "");
        assert_eq!(s.push_bytes(&crab[2..], true), "🦀");
        assert_eq!(
            s.push_bytes(&[b' ', 0xff, b'a', crab[0]], true),
            " \u{fffd}a"
        );
    }
}
