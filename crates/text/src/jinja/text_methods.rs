//! Methods of Python's `str`.

use std::rc::Rc;

use super::access::slice_range;
use super::args::{CallArgs, int_or, required, text_of};
use super::case;
use super::cx::Cx;
use super::fault::{Outcome, failed, unsupported};
use super::format::str_format;
use super::lexer::is_space;
use super::splitting::{lines, matches, split};
use super::value::{Value, list, range_len, tuple};

pub const NAMES: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

pub fn call(cx: &Cx, text: &Rc<str>, name: &'static str, args: CallArgs) -> Outcome<Value> {
    cx.budget.step(text.len() / 64 + 1)?;
    let result: Value = match name {
        "capitalize" | "casefold" | "lower" | "swapcase" | "title" | "upper" => {
            args.bind::<0>(name, [])?;
            match name {
                "capitalize" => case::capitalize(cx.mask, text),
                "swapcase" => case::swap(cx.mask, text),
                "title" => case::title(cx.mask, text),
                "upper" => case::upper(cx.mask, text),
                _ => case::lower(cx.mask, text),
            }
            .into()
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["chars"])?;
            strip(cx, text, chars.as_ref(), name)?.into()
        }
        "split" | "rsplit" => {
            let [by, most] = args.bind(name, ["sep", "maxsplit"])?;
            split(cx, text, by, int_or(most, -1)?, name == "rsplit")?
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"])?;
            let keep = keep.is_some_and(|k| k.is_true(cx).unwrap_or(false));
            cx.budget.list(text.lines().count() * 4)?;
            let lines = lines(text, keep).into_iter().map(Value::from).collect();
            list(cx, lines)?
        }
        "partition" | "rpartition" => {
            let [by] = args.bind(name, ["sep"])?;
            let by = text_of(&required(by, name, "sep")?, name)?;
            partition(cx, text, &by, name)?
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = args.bind(name, ["affix"])?;
            let affix = text_of(&required(affix, name, "affix")?, name)?;
            match name {
                "removeprefix" => cx.mask.prefix(text, &affix).map(|i| &text[i..]),
                _ => cx.mask.suffix(text, &affix).map(|i| &text[..i]),
            }
            .unwrap_or(text)
            .into()
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let old = text_of(&required(old, name, "old")?, name)?;
            let new = text_of(&required(new, name, "new")?, name)?;
            replace(cx, text, &old, &new, int_or(count, -1)?)?.into()
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = args.bind(name, ["affix", "start", "end"])?;
            let affix = required(affix, name, "affix")?;
            let (part, _) = part(cx, text, start, end)?;
            Value::Bool(has_affix(cx, part, &affix, name)?)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [needle, start, end] = args.bind(name, ["sub", "start", "end"])?;
            let needle = text_of(&required(needle, name, "sub")?, name)?;
            let (part, offset) = part(cx, text, start, end)?;
            find(cx, part, offset, &needle, name)?
        }
        "join" => {
            let [items] = args.bind(name, ["iterable"])?;
            let items = required(items, name, "iterable")?.items(cx)?;
            join(cx, text, &items)?.into()
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = args.bind(name, ["width", "fillchar"])?;
            let width = int_or(Some(required(width, name, "width")?), 0)?;
            let fill = match fill {
                Some(f) => text_of(&f, name)?.to_string(),
                None => " ".into(),
            };
            justify(cx, text, name, width, &fill)?.into()
        }
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"])?;
            expand_tabs(cx, text, int_or(size, 8)?)?.into()
        }
        "format" => str_format(cx, text, &args.positional, &args.named)?.into(),
        "format_map" => {
            let [map] = args.bind(name, ["mapping"])?;
            let Some(Value::Dict(d)) = map else {
                return failed("format_map() expects a dict");
            };
            let named = d.entries.iter();
            let named = named.filter_map(|(k, v)| Some((k.as_str()?.to_string(), v.clone())));
            str_format(cx, text, &[], &named.collect::<Vec<_>>())?.into()
        }
        "encode" | "maketrans" | "translate" => return unsupported(format!("`str.{name}`")),
        _ => {
            args.bind::<0>(name, [])?;
            Value::Bool(case::is(name, &cx.mask.open_text(text)))
        }
    };
    Ok(result)
}

/// `partition` or `rpartition`, according to the name.
fn partition(cx: &Cx, text: &str, by: &str, name: &str) -> Outcome<Value> {
    if by.is_empty() {
        return failed("empty separator");
    }
    let found = matches(cx, text, by)?;
    if name == "rpartition" {
        return rpartition(cx, text, by);
    }
    let parts = match found.first() {
        Some(r) => [&text[..r.start], &text[r.clone()], &text[r.end..]],
        None => [text, "", ""],
    };
    tuple(cx, parts.map(Value::from).to_vec())
}

/// `startswith` or `endswith`, according to the name, with one affix or any of a tuple.
fn has_affix(cx: &Cx, text: &str, affix: &Value, name: &str) -> Outcome<bool> {
    let options = match affix {
        Value::Tuple(s) => s.items.clone(),
        other => vec![other.clone()],
    };
    let mut any = false;
    for option in &options {
        let option = text_of(option, name)?;
        any |= match name {
            "startswith" => cx.mask.prefix(text, &option).is_some(),
            _ => cx.mask.suffix(text, &option).is_some(),
        };
    }
    Ok(any)
}

/// `find`, `rfind`, `index`, `rindex` or `count`, according to the name; `offset` characters precede the text.
fn find(cx: &Cx, text: &str, offset: usize, needle: &str, name: &str) -> Outcome<Value> {
    let found = matches(cx, text, needle)?;
    let chosen = match name {
        "count" => return Ok(Value::Int(found.len() as i128)),
        "find" | "index" => found.first().map(|r| r.start),
        _ => last_match(cx, text, needle),
    };
    match chosen {
        Some(at) => Ok(Value::Int((offset + text[..at].chars().count()) as i128)),
        None if name.ends_with("index") => failed("substring not found"),
        None => Ok(Value::Int(-1)),
    }
}

fn join(cx: &Cx, text: &str, items: &[Value]) -> Outcome<String> {
    let mut parts = vec![];
    for item in items {
        parts.push(text_of(item, "join")?);
    }
    let bytes = parts.iter().map(|p| p.len() + text.len()).sum();
    cx.budget.text(bytes)?;
    Ok(parts.join(text))
}

fn rpartition(cx: &Cx, text: &str, by: &str) -> Outcome<Value> {
    let parts = match last_match(cx, text, by) {
        Some(at) => {
            let end = at + cx.mask.prefix(&text[at..], by).unwrap_or(by.len());
            [&text[..at], &text[at..end], &text[end..]]
        }
        None => ["", "", text],
    };
    tuple(cx, parts.map(Value::from).to_vec())
}

/// The offset of the last occurrence; unlike from the left, overlapping ones count.
fn last_match(cx: &Cx, text: &str, needle: &str) -> Option<usize> {
    let open = cx.mask.open_text(text);
    let at = open.rfind(&*cx.mask.open_text(needle))?;
    let chars = open[..at].chars().count();
    Some(
        text.char_indices()
            .nth(chars)
            .map_or(text.len(), |(i, _)| i),
    )
}

/// `text[start:end]`, and the number of characters before it.
fn part<'a>(
    cx: &Cx,
    text: &'a str,
    start: Option<Value>,
    end: Option<Value>,
) -> Outcome<(&'a str, usize)> {
    if start.is_none() && end.is_none() {
        return Ok((text, 0));
    }
    let number = |v: Option<Value>| match v {
        None | Some(Value::None) => Ok(None),
        Some(v) => int_or(Some(v), 0).map(Some),
    };
    let length = text.chars().count();
    cx.budget.step(length / 64)?;
    let range = slice_range(length, &[number(start)?, number(end)?, None])?;
    let byte = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
    let from = byte(range[0] as usize);
    let to = byte(range[0] as usize + range_len(&range));
    Ok((&text[from..to], range[0] as usize))
}

/// `strip`, `lstrip` or `rstrip`, according to the name.
pub fn strip(cx: &Cx, text: &str, chars: Option<&Value>, name: &str) -> Outcome<String> {
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(c) => Some(cx.mask.open_text(&text_of(c, name)?).into_owned()),
    };
    let goes = |c: char| {
        let c = cx.mask.open(c);
        chars.as_ref().map_or(is_space(c), |set| set.contains(c))
    };
    let mut rest = text;
    if name != "rstrip" {
        rest = rest.trim_start_matches(goes);
    }
    if name != "lstrip" {
        rest = rest.trim_end_matches(goes);
    }
    Ok(rest.into())
}

pub fn replace(cx: &Cx, text: &str, old: &str, new: &str, count: i128) -> Outcome<String> {
    let mut found = matches(cx, text, old)?;
    found.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    cx.budget.text(
        text.len()
            .saturating_add(found.len().saturating_mul(new.len())),
    )?;
    let mut out = String::new();
    let mut at = 0;
    for r in found {
        out.push_str(&text[at..r.start]);
        out.push_str(new);
        at = r.end;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

pub fn justify(cx: &Cx, text: &str, how: &str, width: i128, fill: &str) -> Outcome<String> {
    if fill.chars().count() != 1 {
        return failed("The fill character must be exactly one character long");
    }
    let length = text.chars().count();
    let width = usize::try_from(width).unwrap_or(if width < 0 { 0 } else { usize::MAX });
    let missing = width.saturating_sub(length);
    cx.budget.text(
        text.len()
            .saturating_add(missing.saturating_mul(fill.len())),
    )?;
    let fill = |n: usize| fill.repeat(n);
    Ok(match how {
        "ljust" => format!("{text}{}", fill(missing)),
        "rjust" => format!("{}{text}", fill(missing)),
        "zfill" => {
            let sign = text.starts_with(['+', '-']);
            let (sign, rest) = text.split_at(usize::from(sign));
            format!("{sign}{}{rest}", "0".repeat(missing))
        }
        _ => {
            // CPython's rounding: the extra character goes left if the width is odd.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill(left), fill(missing - left))
        }
    })
}

fn expand_tabs(cx: &Cx, text: &str, size: i128) -> Outcome<String> {
    let size = usize::try_from(size).unwrap_or(0);
    let tabs = text.matches('\t').count();
    cx.budget
        .text(text.len().saturating_add(tabs.saturating_mul(size)))?;
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let n = if size == 0 { 0 } else { size - column % size };
                out.push_str(&" ".repeat(n));
                column += n;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            _ => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}
