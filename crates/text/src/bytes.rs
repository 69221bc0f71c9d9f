//! The bytes of a token's text.

use std::collections::HashMap;

use serde_json::Value as Json;

/// How a tokenizer's decoder turns pieces into text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Each character is a byte, in GPT-2's alphabet.
    ByteLevel(HashMap<char, u8>),
    /// `▁` is a space and, optionally, `<0xNN>` a byte; the first space may have been added by the tokenizer.
    Spaces { bytes: bool, strips: bool },
    /// Words, with spaces between them, and pieces that continue a word, after `prefix`; the decoder joins them.
    WordPiece { prefix: String },
    /// Only the decoder itself can tell.
    Other,
}

impl Decoding {
    pub fn of(decoder: &Json) -> Self {
        let steps: Vec<&Json> = match decoder["decoders"].as_array() {
            Some(steps) => steps.iter().collect(),
            None => vec![decoder],
        };
        let kind = |step: &Json| step["type"].as_str().unwrap_or_default().to_string();
        if steps.iter().all(|s| kind(s) == "ByteLevel") && !steps.is_empty() {
            return Self::ByteLevel(alphabet());
        }
        if decoder["type"] == "WordPiece"
            && let Some(prefix) = decoder["prefix"].as_str()
        {
            return Self::WordPiece {
                prefix: prefix.into(),
            };
        }
        let (mut bytes, mut strips, mut spaces) = (false, false, false);
        for step in steps {
            match kind(step).as_str() {
                "ByteFallback" => bytes = true,
                "Fuse" => {}
                "Replace" if step["pattern"]["String"] == "▁" && step["content"] == " " => {
                    spaces = true;
                }
                "Metaspace" if step["replacement"] == "▁" => {
                    spaces = true;
                    strips |=
                        step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
                }
                "Strip" if step["content"] == " " && step["stop"] == 0 && step["start"] == 1 => {
                    strips = true;
                }
                _ => return Self::Other,
            }
        }
        if spaces {
            Self::Spaces { bytes, strips }
        } else {
            Self::Other
        }
    }

    /// Bytes of a piece that is not a special token; `None` if only the decoder can tell.
    pub fn bytes(&self, piece: &str) -> Option<Vec<u8>> {
        match self {
            Self::ByteLevel(alphabet) => {
                let bytes: Option<Vec<u8>> =
                    piece.chars().map(|c| alphabet.get(&c).copied()).collect();
                Some(bytes.unwrap_or_else(|| piece.as_bytes().to_vec()))
            }
            Self::Spaces { bytes, .. } => {
                let code = piece.strip_prefix("<0x").and_then(|p| p.strip_suffix('>'));
                if let (true, Some(code)) = (*bytes, code.filter(|c| c.len() == 2))
                    && let Ok(byte) = u8::from_str_radix(code, 16)
                {
                    return Some(vec![byte]);
                }
                Some(piece.replace('▁', " ").into_bytes())
            }
            Self::WordPiece { .. } | Self::Other => None,
        }
    }
}

/// GPT-2's alphabet: printable bytes map to themselves, the others to characters from U+0100 on.
fn alphabet() -> HashMap<char, u8> {
    let mut next = 0x100;
    let mut out = HashMap::new();
    for byte in 0..=255u8 {
        let own = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let code = if own {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        out.extend(char::from_u32(code).map(|c| (c, byte)));
    }
    out
}
