//! Tokens to text, one at a time: never half a character, never the start of a stop string.

use crate::TextModel;

/// What one token added to the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Emitted {
    /// Text that is now certain.
    pub text: String,
    /// The stop string that was met; the text ends before it.
    pub stop: Option<String>,
}

/// Decodes a growing list of tokens.
#[derive(Debug, Default)]
pub struct TextStream {
    stops: Vec<String>,
    /// Tokens whose text is not all out, after those kept as context for the decoder.
    ids: Vec<u32>,
    /// How many of `ids` are context: a decoder may treat a first token otherwise.
    context: usize,
    /// Decoded, but perhaps the start of a stop string.
    held: String,
}

impl TextStream {
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self {
            stops,
            ..Self::default()
        }
    }

    pub fn push(&mut self, model: &TextModel, id: u32) -> Emitted {
        self.ids.push(id);
        let before = model.decode(&self.ids[..self.context]);
        let all = model.decode(&self.ids);
        // A character in the making decodes to U+FFFD.
        if all.ends_with('\u{fffd}') && self.ids.len() - self.context < 8 {
            return Emitted::default();
        }
        let new = all.get(before.len()..).unwrap_or_default().to_string();
        self.ids.drain(..self.context);
        self.context = self.ids.len();
        self.push_text(&new)
    }

    fn push_text(&mut self, new: &str) -> Emitted {
        self.held.push_str(new);
        let met = self
            .stops
            .iter()
            .filter_map(|s| Some((self.held.find(s.as_str())?, s)))
            .min_by_key(|(at, _)| *at);
        if let Some((at, stop)) = met {
            let text = self.held[..at].to_string();
            let stop = Some(stop.clone());
            self.held.clear();
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
        let rest = self.held.split_off(self.held.len() - keep);
        Emitted {
            text: std::mem::replace(&mut self.held, rest),
            stop: None,
        }
    }

    /// The text that was held back, when no more tokens come.
    pub fn finish(&mut self, model: &TextModel) -> String {
        let before = model.decode(&self.ids[..self.context]).len();
        let all = model.decode(&self.ids);
        let mut text = std::mem::take(&mut self.held);
        text.push_str(all.get(before..).unwrap_or_default());
        self.ids.clear();
        self.context = 0;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
