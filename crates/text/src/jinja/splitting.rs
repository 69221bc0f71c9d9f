//! `split`, `rsplit` and `splitlines`.

use super::args::text_of;
use super::cx::Cx;
use super::fault::{Outcome, failed};
use super::lexer::is_space;
use super::value::{Value, list};

pub fn split(
    cx: &Cx,
    text: &str,
    by: Option<Value>,
    most: i128,
    from_right: bool,
) -> Outcome<Value> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let pieces: Vec<&str> = match by {
        None | Some(Value::None) => words(text, most, from_right),
        Some(by) => {
            let by = text_of(&by, "split")?;
            if by.is_empty() {
                return failed("empty separator");
            }
            let mut found = matches(cx, text, &by)?;
            if from_right {
                found = matches_from_right(cx, text, &by);
            }
            let skip = found.len().saturating_sub(most);
            let chosen = if from_right {
                &found[skip..]
            } else {
                &found[..found.len() - skip]
            };
            let mut pieces = vec![];
            let mut at = 0;
            for r in chosen {
                pieces.push(&text[at..r.start]);
                at = r.end;
            }
            pieces.push(&text[at..]);
            pieces
        }
    };
    // Each piece is a separate string.
    cx.budget.text(text.len())?;
    cx.budget.list(2 * pieces.len())?;
    list(cx, pieces.into_iter().map(Value::from).collect())
}

fn matches_from_right(cx: &Cx, text: &str, by: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = vec![];
    if cx.mask.is_none() {
        let all = text.rmatch_indices(by).map(|(i, m)| i..i + m.len());
        found.extend(all);
        found.reverse();
    } else {
        found = cx.mask.matches(text, by);
    }
    found
}

/// Occurrences of a needle, after reserving the list.
pub fn matches(cx: &Cx, text: &str, needle: &str) -> Outcome<Vec<std::ops::Range<usize>>> {
    if cx.mask.is_none() {
        cx.budget.list(text.matches(needle).count())?;
    } else {
        cx.budget.list(text.len())?;
    }
    Ok(cx.mask.matches(text, needle))
}

/// Words separated by white space, which is stripped at the ends; the rest after `most` splits keeps its own.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut out = vec![];
    if from_right {
        let mut rest = text.trim_end_matches(is_space);
        while !rest.is_empty() {
            if out.len() == most {
                out.push(rest);
                break;
            }
            let start = rest
                .char_indices()
                .rev()
                .find(|(_, c)| is_space(*c))
                .map_or(0, |(i, c)| i + c.len_utf8());
            out.push(&rest[start..]);
            rest = rest[..start].trim_end_matches(is_space);
        }
        out.reverse();
        return out;
    }
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if out.len() == most {
            out.push(rest);
            break;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        out.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    out
}

/// `str.splitlines`.
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut out = vec![];
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let ends = matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if !ends {
            continue;
        }
        let mut end = i + c.len_utf8();
        if c == '\r' && chars.next_if(|(_, c)| *c == '\n').is_some() {
            end += 1;
        }
        out.push(&text[start..if keep_ends { end } else { i }]);
        start = end;
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}
