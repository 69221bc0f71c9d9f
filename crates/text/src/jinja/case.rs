//! Upper and lower case, and character classes of strings.

use super::lexer::is_space;
use super::mask::Mask;

pub fn upper(mask: Mask, text: &str) -> String {
    text.chars()
        .map(|c| mask.through(c, |c| c.to_uppercase().collect()))
        .collect()
}

pub fn lower(mask: Mask, text: &str) -> String {
    if mask.is_none() {
        // Handles the final sigma of a word.
        return text.to_lowercase();
    }
    text.chars()
        .map(|c| mask.through(c, |c| c.to_lowercase().collect()))
        .collect()
}

pub fn swap(mask: Mask, text: &str) -> String {
    let swap = |c: char| {
        if c.is_uppercase() {
            c.to_lowercase().collect()
        } else {
            c.to_uppercase().collect()
        }
    };
    text.chars().map(|c| mask.through(c, swap)).collect()
}

fn first_upper(c: char) -> String {
    let mut upper = c.to_uppercase();
    let first = upper.next();
    let rest = upper.flat_map(char::to_lowercase);
    first.into_iter().chain(rest).collect()
}

pub fn capitalize(mask: Mask, text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| mask.through(c, first_upper));
    first.unwrap_or_default() + &lower(mask, chars.as_str())
}

/// `str.title`: a letter after a non-letter begins a word.
pub fn title(mask: Mask, text: &str) -> String {
    let mut in_word = false;
    text.chars()
        .map(|c| {
            let open = mask.open(c);
            let shown = if in_word {
                mask.through(c, |c| c.to_lowercase().collect())
            } else {
                mask.through(c, first_upper)
            };
            in_word = open.is_lowercase() || open.is_uppercase();
            shown
        })
        .collect()
}

/// Jinja's filter `title`: words begin after white space, hyphens and opening brackets.
pub fn title_words(mask: Mask, text: &str) -> String {
    let mut starts = true;
    text.chars()
        .map(|c| {
            let open = mask.open(c);
            let divides = is_space(open) || "-({[<".contains(open);
            let shown = if starts {
                mask.through(c, |c| c.to_uppercase().collect())
            } else {
                mask.through(c, |c| c.to_lowercase().collect())
            };
            starts = divides;
            shown
        })
        .collect()
}

/// Superscripts and the like are digits in Python, but not decimals.
fn is_small_digit(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '\u{2070}'..='\u{2089}' | '\u{2460}'..='\u{2468}')
}

fn is_decimal(c: char) -> bool {
    // Only numbers that come in runs of ten; the rest are letters, fractions and counting signs.
    c.is_ascii_digit()
        || c.is_numeric()
            && !is_small_digit(c)
            && !matches!(c as u32,
                0xbc..=0xbe | 0x9f4..=0x9f9 | 0xb72..=0xb77 | 0xbf0..=0xbf2 | 0xc78..=0xc7e
                | 0xd58..=0xd5e | 0xd70..=0xd78 | 0xf2a..=0xf33 | 0x1369..=0x137c | 0x16ee..=0x16f0
                | 0x17f0..=0x17f9 | 0x19da | 0x2150..=0x2189 | 0x2469..=0x24ff | 0x2776..=0x2793
                | 0x2cfd | 0x3007..=0x32bf | 0xa6e6..=0xa6ef | 0xa830..=0xa835
                | 0x4e00..=0x9fff | 0x3400..=0x4dbf | 0xf900..=0xfaff)
}

/// All of `str.is…`; `text` has no marks.
pub fn is(name: &str, text: &str) -> bool {
    let all = |f: &dyn Fn(char) -> bool| !text.is_empty() && text.chars().all(f);
    let cased = |c: char| c.is_uppercase() || c.is_lowercase();
    match name {
        "isalnum" => all(&|c| c.is_alphanumeric()),
        "isalpha" => all(&|c| c.is_alphabetic()),
        "isascii" => text.is_ascii(),
        "isdecimal" => all(&is_decimal),
        "isdigit" => all(&|c| is_decimal(c) || is_small_digit(c)),
        "isnumeric" => all(&char::is_numeric),
        "isspace" => all(&is_space),
        "isprintable" => text
            .chars()
            .all(|c| !c.is_control() && (c == ' ' || !is_space(c))),
        "islower" => text.chars().any(cased) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(cased) && !text.chars().any(char::is_lowercase),
        "istitle" => text.chars().any(cased) && title(Mask::NONE, text) == text,
        "isidentifier" => {
            let mut chars = text.chars();
            chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
                && chars.all(|c| c.is_alphanumeric() || c == '_')
        }
        _ => false,
    }
}
