//! Validates a `tokenizer.json` before it is passed to `tokenizers`, which panics on some files and exhausts
//! memory on others; and catches its panics in one place.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;
use tokenizers::Tokenizer;

/// `tokenizers` tries every kind of part at every level, so time doubles with each level.
const MAX_DEPTH: usize = 12;
const MAX_VALUES: usize = 4096;
const MAX_PATTERN: usize = 1 << 16;

/// The parts that are checked; large ones are skipped.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    truncation: Json,
    #[serde(default)]
    padding: Json,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
    #[serde(default)]
    decoder: Json,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    vocab: Option<IgnoredAny>,
    #[serde(default)]
    max_input_chars_per_word: Option<u64>,
}

/// Runs code that may panic inside `tokenizers`.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // Where a panic aborts the program, as in a page, this has no effect: there the checks must suffice.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("an error in `tokenizers`: {}", text.unwrap_or("a panic"))
    })
}

/// A message that may quote a file, shortened to one line.
pub(crate) fn one_line(message: &str) -> String {
    let line = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    line.take(300).collect()
}

/// A tokenizer without truncation and padding, which do not apply to model input.
pub(crate) fn tokenizer(text: &str) -> Result<Tokenizer, String> {
    let head: Head = serde_json::from_str(text).map_err(|e| e.to_string())?;
    for (name, part) in [
        ("normalizer", &head.normalizer),
        ("pre_tokenizer", &head.pre_tokenizer),
        ("post_processor", &head.post_processor),
        ("decoder", &head.decoder),
    ] {
        let mut count = 0;
        walk(part, 0, &mut count).map_err(|what| format!("its {name} {what}"))?;
    }
    if head.model.vocab.is_none() {
        return Err("its model has no vocabulary".into());
    }
    if head
        .model
        .max_input_chars_per_word
        .is_some_and(|n| n > 1 << 20)
    {
        return Err("its words are too long".into());
    }
    let prefix = head.model.continuing_subword_prefix.unwrap_or_default();
    let rewritten;
    let mut text = text;
    if !head.truncation.is_null() || !head.padding.is_null() || !prefix.is_empty() {
        let mut json: Json = serde_json::from_str(text).map_err(|e| e.to_string())?;
        json["truncation"] = Json::Null;
        json["padding"] = Json::Null;
        prefixed(&json["model"]["merges"], &prefix)?;
        rewritten = json.to_string();
        text = &rewritten;
    }
    guarded(|| Tokenizer::from_bytes(text))?.map_err(|e| e.to_string())
}

/// The right side of each merge must be at least as long as the prefix that is removed from it.
fn prefixed(merges: &Json, prefix: &str) -> Result<(), String> {
    for merge in merges.as_array().into_iter().flatten() {
        let right = match merge {
            Json::String(s) => s.rsplit(' ').next(),
            other => other[1].as_str(),
        };
        if !right.is_some_and(|r| r.len() >= prefix.len() && r.is_char_boundary(prefix.len())) {
            return Err(format!(
                "the merge {merge} is shorter than the prefix `{prefix}`"
            ));
        }
    }
    Ok(())
}

fn walk(part: &Json, depth: usize, count: &mut usize) -> Result<(), String> {
    *count += 1;
    if depth > MAX_DEPTH {
        return Err(format!("is nested more than {MAX_DEPTH} levels deep"));
    }
    if *count > MAX_VALUES {
        return Err(format!("has more than {MAX_VALUES} parts"));
    }
    match part {
        Json::Array(items) => items.iter().try_for_each(|i| walk(i, depth + 1, count)),
        Json::Object(map) => {
            if map.get("type").is_some_and(|t| t == "Prepend")
                && map.get("prepend").is_some_and(|p| p == "")
            {
                return Err("prepends an empty string".into());
            }
            if let Some(charsmap) = map.get("precompiled_charsmap") {
                return charsmap_fits(charsmap.as_str().unwrap_or_default());
            }
            map.values().try_for_each(|v| walk(v, depth + 1, count))
        }
        Json::String(s) if s.len() > MAX_PATTERN => Err("has a very long string".into()),
        _ => Ok(()),
    }
}

/// A charsmap begins with the size of its trie, which `tokenizers` does not check.
pub(crate) fn charsmap(bytes: &[u8]) -> Result<(), String> {
    let head: [u8; 4] = bytes
        .first_chunk()
        .copied()
        .ok_or("has a charsmap that is too short")?;
    trie_fits(u32::from_le_bytes(head), bytes.len())
}

/// The same for a charsmap in base64.
fn charsmap_fits(base64: &str) -> Result<(), String> {
    let bytes = base64.trim_end_matches('=').len() * 3 / 4;
    let mut head = 0u64;
    for c in base64.bytes().take(6) {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err("has a charsmap that is not base64".into()),
        };
        head = head << 6 | u64::from(six);
    }
    // The first 32 of 36 bits, in the order of their bytes.
    trie_fits(((head >> 4) as u32).swap_bytes(), bytes)
}

/// Whether a trie of `size` bytes fits a charsmap of `bytes`.
fn trie_fits(size: u32, bytes: usize) -> Result<(), String> {
    if bytes < 8 {
        return Err("has a charsmap that is too short".into());
    }
    let size = size as usize;
    if !size.is_multiple_of(4) || size < 4 || size.saturating_add(4) > bytes {
        return Err("has a truncated charsmap".into());
    }
    Ok(())
}
