//! Filters for text layout: indentation, truncation, wrapping.

use super::cx::Cx;
use super::fault::{Outcome, failed, unsupported};
use super::print::text;
use super::splitting::lines;
use super::value::Value;

pub(super) fn indent(
    cx: &Cx,
    text: &str,
    margin: &str,
    first: bool,
    blank: bool,
) -> Outcome<String> {
    let with_end = format!("{text}\n");
    let lines = lines(&with_end, false);
    let added = lines.len().saturating_mul(margin.len() + 1);
    cx.budget.text(text.len().saturating_add(added))?;
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let wants = if i == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if wants {
            out.push_str(margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

pub(super) fn truncate(
    text: &str,
    length: i128,
    kill: bool,
    end: &str,
    leeway: i128,
) -> Outcome<String> {
    let (count, tail) = (text.chars().count() as i128, end.chars().count() as i128);
    if length < tail {
        return failed(format!("expected length >= {tail}, got {length}"));
    }
    if count <= length.saturating_add(leeway) {
        return Ok(text.into());
    }
    let cut: String = text.chars().take((length - tail) as usize).collect();
    let kept = match cut.rsplit_once(' ') {
        Some((before, _)) if !kill => before,
        _ => &cut,
    };
    Ok(format!("{kept}{end}"))
}

pub(super) fn file_size(value: &Value, binary: bool) -> Outcome<String> {
    let bytes = match value {
        Value::Str(s) => s.trim().parse().ok(),
        other => other.as_float(),
    };
    let Some(bytes) = bytes else {
        return failed("filesizeformat expects a number");
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let letters = ["K", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut power = 1;
    while power < letters.len() && bytes >= base.powi(power as i32 + 1) {
        power += 1;
    }
    let letter = if binary {
        format!("{}i", letters[power - 1])
    } else {
        ["k", "M", "G", "T", "P", "E", "Z", "Y"][power - 1].into()
    };
    Ok(format!("{:.1} {letter}B", bytes / base.powi(power as i32)))
}

pub(super) fn urlencode(cx: &Cx, value: &Value) -> Outcome<String> {
    let quote = |text: &str, keeps_slash: bool| {
        let mut out = String::new();
        for b in cx.mask.open_text(text).bytes() {
            let plain =
                b.is_ascii_alphanumeric() || b"_.-~".contains(&b) || keeps_slash && b == b'/';
            if plain {
                out.push(b as char);
            } else {
                out.push_str(&format!("%{b:02X}"));
            }
        }
        out
    };
    match value {
        Value::Dict(d) => {
            let mut parts = vec![];
            for (k, v) in &d.entries {
                let (k, v) = (text(cx, k)?, text(cx, v)?);
                parts.push(format!("{}={}", quote(&k, false), quote(&v, false)));
            }
            Ok(parts.join("&").replace("%20", "+"))
        }
        Value::List(_) | Value::Tuple(_) => unsupported("`urlencode` of a list"),
        other => Ok(quote(&text(cx, other)?, true)),
    }
}

/// `textwrap.wrap` of each line, without hyphens.
pub(super) fn wrap(
    cx: &Cx,
    text: &str,
    width: usize,
    break_long: bool,
    with: &str,
) -> Outcome<String> {
    if width == 0 {
        return failed("invalid width 0 (must be > 0)");
    }
    let mut out: Vec<String> = vec![];
    for line in lines(text, false) {
        let mut wrapped: Vec<String> = vec![];
        let mut current = String::new();
        let mut used = 0;
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}');
        let mut rest = line;
        while !rest.is_empty() {
            let spaces = rest.starts_with(is_space);
            let end = rest.find(|c| is_space(c) != spaces).unwrap_or(rest.len());
            let (mut chunk, tail) = rest.split_at(end);
            rest = tail;
            if spaces && current.is_empty() && !wrapped.is_empty() {
                continue;
            }
            loop {
                let length = chunk.chars().count();
                if used + length <= width {
                    current.push_str(chunk);
                    used += length;
                    break;
                }
                if spaces {
                    wrapped.push(
                        std::mem::take(&mut current)
                            .trim_end_matches(is_space)
                            .into(),
                    );
                    used = 0;
                    break;
                }
                if length > width && break_long {
                    let at = chunk
                        .char_indices()
                        .nth(width - used)
                        .map_or(chunk.len(), |(i, _)| i);
                    current.push_str(&chunk[..at]);
                    chunk = &chunk[at..];
                } else if current.is_empty() {
                    current.push_str(chunk);
                    used += length;
                    break;
                }
                wrapped.push(
                    std::mem::take(&mut current)
                        .trim_end_matches(is_space)
                        .into(),
                );
                used = 0;
            }
        }
        if !current.trim_end_matches(is_space).is_empty() {
            wrapped.push(current.trim_end_matches(is_space).into());
        }
        out.push(wrapped.join(with));
    }
    let out = out.join(with);
    cx.budget.text(out.len())?;
    Ok(out)
}
