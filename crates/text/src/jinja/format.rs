//! `"{}".format(value)`.

use super::cx::Cx;
use super::fault::{Outcome, failed, unsupported};
use super::layout::{Spec, lay_float, lay_int, lay_text};
use super::print::{repr, text};
use super::value::Value;

/// Formats a value for a field of `str.format`.
pub fn with_spec(cx: &Cx, value: &Value, spec: &str) -> Outcome<String> {
    if spec.is_empty() {
        return text(cx, value);
    }
    let parsed = parse_spec(spec)?;
    match value {
        Value::Str(s) | Value::Markup(s) => {
            if parsed.kind.is_some_and(|k| k != 's') {
                return failed(format!(
                    "Unknown format code '{}' for object of type 'str'",
                    parsed.kind.unwrap_or(' ')
                ));
            }
            if parsed.sign.is_some() || parsed.align == Some('=') {
                return failed("Sign not allowed in string format specifier");
            }
            lay_text(
                s,
                &Spec {
                    align: parsed.align.or(Some('<')),
                    ..parsed
                },
            )
        }
        Value::Bool(_) | Value::Int(_) => lay_int(value.as_int().unwrap_or(0), &parsed),
        Value::Float(f) => lay_float(*f, &parsed),
        other => failed(format!(
            "unsupported format string passed to {}.__format__",
            other.type_name()
        )),
    }
}

fn parse_spec(spec: &str) -> Outcome<Spec> {
    let mut out = Spec::default();
    let mut chars = spec.chars().peekable();
    let second = spec.chars().nth(1);
    if second.is_some_and(|c| "<>=^".contains(c)) {
        out.fill = chars.next();
    }
    out.align = chars.next_if(|c| "<>=^".contains(*c));
    out.sign = chars.next_if(|c| "+- ".contains(*c));
    chars.next_if_eq(&'z');
    out.alternate = chars.next_if_eq(&'#').is_some();
    out.zero = chars.next_if_eq(&'0').is_some();
    let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        let mut n = None;
        while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
            n = Some(
                n.unwrap_or(0usize)
                    .saturating_mul(10)
                    .saturating_add(d as usize),
            );
            chars.next();
        }
        n
    };
    out.width = number(&mut chars).unwrap_or(0);
    out.group = chars.next_if(|c| ",_".contains(*c));
    if chars.next_if_eq(&'.').is_some() {
        out.precision = number(&mut chars);
        if out.precision.is_none() {
            return failed("Format specifier missing precision");
        }
    }
    out.kind = chars.next();
    if chars.next().is_some() {
        return failed(format!("Invalid format specifier '{spec}'"));
    }
    Ok(out)
}

/// `pattern.format(*args, **kwargs)`.
pub fn str_format(
    cx: &Cx,
    pattern: &str,
    args: &[Value],
    kwargs: &[(String, Value)],
) -> Outcome<String> {
    let mut automatic = 0;
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if rest.starts_with(brace) {
            out.push_str(brace);
            rest = &rest[1..];
            continue;
        }
        if brace == "}" {
            return failed("Single '}' encountered in format string");
        }
        let mut depth = 1;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let Some((end, _)) = end else {
            return failed("expected '}' before end of string");
        };
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').unwrap_or((name, ""));
        let value = find(cx, name, args, kwargs, &mut automatic)?;
        let spec = if spec.contains('{') {
            nested(cx, spec, args, kwargs, &mut automatic)?
        } else {
            spec.into()
        };
        let shown = match conversion {
            "" => with_spec(cx, &value, &spec)?,
            "s" => with_spec(cx, &text(cx, &value)?.into(), &spec)?,
            "r" | "a" => with_spec(cx, &repr(cx, &value)?.into(), &spec)?,
            other => return failed(format!("Unknown conversion specifier {other}")),
        };
        cx.budget.text(out.len() + shown.len())?;
        out.push_str(&shown);
    }
    out.push_str(rest);
    Ok(out)
}

/// Fields within a format specification, one level deep.
fn nested(
    cx: &Cx,
    spec: &str,
    args: &[Value],
    kwargs: &[(String, Value)],
    automatic: &mut usize,
) -> Outcome<String> {
    let mut out = String::new();
    let mut rest = spec;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            return failed("expected '}' before end of string");
        };
        out.push_str(before);
        out.push_str(&text(cx, &find(cx, name, args, kwargs, automatic)?)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn find(
    cx: &Cx,
    name: &str,
    args: &[Value],
    kwargs: &[(String, Value)],
    automatic: &mut usize,
) -> Outcome<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let index = if first.is_empty() {
        *automatic += 1;
        Some(*automatic - 1)
    } else {
        first.parse::<usize>().ok()
    };
    let found = match index {
        Some(i) => args.get(i).cloned(),
        None => kwargs
            .iter()
            .find(|(n, _)| n == first)
            .map(|(_, v)| v.clone()),
    };
    let Some(mut value) = found else {
        return failed(format!("no value for `{{{name}}}`"));
    };
    loop {
        if let Some(tail) = path.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            value = super::access::attribute(cx, &value, &tail[..end])?;
            path = &tail[end..];
            continue;
        }
        let Some(tail) = path.strip_prefix('[') else {
            break;
        };
        let Some((key, tail)) = tail.split_once(']') else {
            return failed("Missing ']' in format string");
        };
        let key: Value = match key.parse::<i128>() {
            Ok(i) => Value::Int(i),
            Err(_) => key.into(),
        };
        value = super::access::item(cx, &value, &key)?;
        path = tail;
    }
    if !path.is_empty() {
        return unsupported(format!("`{{{name}}}` in str.format"));
    }
    Ok(value)
}
