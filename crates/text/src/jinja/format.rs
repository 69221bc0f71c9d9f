//! `"%s" % value` and `"{}".format(value)`.

use super::cx::Cx;
use super::fault::{Outcome, failed, limit, unsupported};
use super::print::{float, text, write_repr};
use super::value::Value;

const MAX_WIDTH: usize = 1 << 20;

/// How a number or a text is laid out.
#[derive(Debug, Default, Clone)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    group: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// Python's `%` on a text.
pub fn percent(cx: &Cx, pattern: &str, value: &Value) -> Outcome<Value> {
    let args: Vec<Value> = match value {
        Value::Tuple(s) => s.items.clone(),
        other => vec![other.clone()],
    };
    let mut next = 0;
    let mut by_name = false;
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut named = None;
        if chars.peek() == Some(&'(') {
            chars.next();
            let mut key = String::new();
            loop {
                match chars.next() {
                    Some(')') => break,
                    Some(c) => key.push(c),
                    None => return failed("incomplete format key"),
                }
            }
            let Value::Dict(d) = value else {
                return failed("format requires a mapping");
            };
            by_name = true;
            match d.get(cx, &key.as_str().into())? {
                Some(v) => named = Some(v),
                None => return failed(format!("no key '{key}' for the format")),
            }
        }
        let mut take = |named: &mut Option<Value>| -> Outcome<Value> {
            if let Some(v) = named.take() {
                return Ok(v);
            }
            next += 1;
            match args.get(next - 1) {
                Some(v) => Ok(v.clone()),
                None => failed("not enough arguments for format string"),
            }
        };
        let mut spec = Spec::default();
        let mut left = false;
        while let Some(flag) = chars.next_if(|c| "#0- +".contains(*c)) {
            match flag {
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                '-' => left = true,
                other if spec.sign != Some('+') => spec.sign = Some(other),
                _ => {}
            }
        }
        let mut size = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Outcome<usize> {
            if chars.next_if_eq(&'*').is_some() {
                let Some(n) = take(&mut None)?.as_int() else {
                    return failed("* wants int");
                };
                if n < 0 {
                    left = true;
                }
                return Ok(usize::try_from(n.abs()).unwrap_or(usize::MAX));
            }
            let mut n = 0usize;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = n.saturating_mul(10).saturating_add(d as usize);
                chars.next();
            }
            Ok(n)
        };
        spec.width = size(&mut chars)?;
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(size(&mut chars)?);
        }
        while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        let Some(kind) = chars.next() else {
            return failed("incomplete format");
        };
        spec.align = Some(if left { '<' } else { '>' });
        if left {
            spec.zero = false;
        }
        let piece = match kind {
            '%' => "%".into(),
            's' | 'r' | 'a' => {
                let value = take(&mut named)?;
                let shown = if kind == 's' {
                    text(cx, &value)?
                } else {
                    repr(cx, &value)?
                };
                spec.zero = false;
                spec.sign = None;
                lay_text(&shown, &spec)?
            }
            'c' => {
                let value = take(&mut named)?;
                let shown = match (&value, value.as_int()) {
                    (Value::Str(s), _) if s.chars().count() == 1 => s.to_string(),
                    (_, Some(n)) => character(n)?,
                    _ => return failed("%c requires int or char"),
                };
                spec.zero = false;
                lay_text(&shown, &spec)?
            }
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let value = take(&mut named)?;
                let n = match (&value, kind) {
                    (Value::Float(f), 'd' | 'i' | 'u') if f.is_finite() => Some(f.trunc() as i128),
                    _ => value.as_int(),
                };
                let Some(n) = n else {
                    return failed(format!(
                        "%{kind} format: a real number is required, not {}",
                        value.type_name()
                    ));
                };
                let digits = spec.precision.take();
                spec.kind = Some(if "iu".contains(kind) { 'd' } else { kind });
                int_percent(n, &spec, digits)?
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let value = take(&mut named)?;
                let Some(f) = value.as_float() else {
                    return failed(format!(
                        "must be real number, not {}",
                        value.type_name()
                    ));
                };
                spec.kind = Some(kind);
                lay_float(f, &spec)?
            }
            other => return failed(format!("unsupported format character '{other}'")),
        };
        out.push_str(&piece);
        cx.budget.text(out.len())?;
    }
    if !by_name && next < args.len() && !(matches!(value, Value::Dict(_)) || next > 0 && args.len() == next) {
        return failed("not all arguments converted during string formatting");
    }
    cx.budget.text(out.len())?;
    Ok(out.into())
}

/// As `%d` lays a number out: the precision is a least number of digits.
fn int_percent(n: i128, spec: &Spec, digits: Option<usize>) -> Outcome<String> {
    let Some(digits) = digits else {
        return lay_int(n, spec);
    };
    check(digits)?;
    let plain = Spec {
        width: 0,
        sign: None,
        ..spec.clone()
    };
    let body = lay_int(n.abs(), &plain)?;
    let body = format!("{}{body}", "0".repeat(digits.saturating_sub(body.len())));
    let signed = format!("{}{body}", sign_of(n < 0, spec.sign));
    lay_text(&signed, &Spec {
        precision: None,
        ..spec.clone()
    })
}

fn repr(cx: &Cx, value: &Value) -> Outcome<String> {
    let mut out = String::new();
    write_repr(cx, &mut out, value)?;
    Ok(out)
}

fn character(n: i128) -> Outcome<String> {
    match u32::try_from(n).ok().and_then(char::from_u32) {
        Some(c) => Ok(c.into()),
        None => failed("%c arg not in range(0x110000)"),
    }
}

fn check(width: usize) -> Outcome<()> {
    if width > MAX_WIDTH {
        return limit(format!("a field of more than {MAX_WIDTH} characters"));
    }
    Ok(())
}

/// Puts what fills a field around its text; signs and prefixes stay in front of filling zeros.
fn pad(prefix: &str, body: &str, spec: &Spec, default_align: char) -> Outcome<String> {
    check(spec.width)?;
    let used = prefix.chars().count() + body.chars().count();
    let missing = spec.width.saturating_sub(used);
    let (fill, align) = match (spec.zero && spec.fill.is_none(), spec.align) {
        (true, None | Some('>')) => ('0', '='),
        (zero, align) => {
            let fill = spec.fill.unwrap_or(if zero { '0' } else { ' ' });
            (fill, align.unwrap_or(default_align))
        }
    };
    let fill = |n: usize| fill.to_string().repeat(n);
    Ok(match align {
        '<' => format!("{prefix}{body}{}", fill(missing)),
        '^' => {
            let left = missing / 2;
            format!("{}{prefix}{body}{}", fill(left), fill(missing - left))
        }
        '=' => format!("{prefix}{}{body}", fill(missing)),
        _ => format!("{}{prefix}{body}", fill(missing)),
    })
}

fn lay_text(text: &str, spec: &Spec) -> Outcome<String> {
    let cut: String = match spec.precision {
        Some(n) => text.chars().take(n).collect(),
        None => text.into(),
    };
    pad("", &cut, spec, '<')
}

fn sign_of(negative: bool, sign: Option<char>) -> &'static str {
    match (negative, sign) {
        (true, _) => "-",
        (_, Some('+')) => "+",
        (_, Some(' ')) => " ",
        _ => "",
    }
}

fn grouped(digits: &str, group: Option<char>, size: usize) -> String {
    let Some(mark) = group else {
        return digits.into();
    };
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % size == 0 {
            out.push(mark);
        }
        out.push(c);
    }
    out
}

fn lay_int(n: i128, spec: &Spec) -> Outcome<String> {
    let kind = spec.kind.unwrap_or('d');
    if "eEfFgG%".contains(kind) {
        return lay_float(n as f64, spec);
    }
    let magnitude = n.unsigned_abs();
    let (mark, digits) = match kind {
        'd' | 'n' => ("", magnitude.to_string()),
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        'b' => ("0b", format!("{magnitude:b}")),
        'c' => return lay_text(&character(n)?, spec),
        other => return failed(format!("Unknown format code '{other}' for object of type 'int'")),
    };
    let size = if kind == 'd' { 3 } else { 4 };
    let prefix = format!(
        "{}{}",
        sign_of(n < 0, spec.sign),
        if spec.alternate { mark } else { "" }
    );
    pad(&prefix, &grouped(&digits, spec.group, size), spec, '>')
}

fn lay_float(f: f64, spec: &Spec) -> Outcome<String> {
    let kind = spec.kind;
    if !kind.is_none_or(|k| "eEfFgGn%".contains(k)) {
        return failed(format!(
            "Unknown format code '{}' for object of type 'float'",
            kind.unwrap_or(' ')
        ));
    }
    let precision = spec.precision.unwrap_or(6);
    check(precision)?;
    let magnitude = f.abs();
    let mut body = if !f.is_finite() {
        if f.is_nan() { "nan" } else { "inf" }.into()
    } else {
        match kind {
            None if spec.precision.is_none() => float(magnitude),
            None => {
                let general = general(magnitude, precision.max(1), false);
                if general.contains(['.', 'e']) {
                    general
                } else {
                    format!("{general}.0")
                }
            }
            Some('f' | 'F') => format!("{magnitude:.precision$}"),
            Some('%') => format!("{:.precision$}%", magnitude * 100.0),
            Some('e' | 'E') => scientific(magnitude, precision),
            _ => general(magnitude, precision.max(1), spec.alternate),
        }
    };
    if matches!(kind, Some('E' | 'F' | 'G')) {
        body = body.to_uppercase();
    }
    if spec.group.is_some() {
        let end = body
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(body.len());
        body = format!("{}{}", grouped(&body[..end], spec.group, 3), &body[end..]);
    }
    let negative = f.is_sign_negative() && !f.is_nan();
    pad(sign_of(negative, spec.sign), &body, spec, '>')
}

fn scientific(f: f64, precision: usize) -> String {
    let text = format!("{f:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn general(f: f64, precision: usize, keep_zeros: bool) -> String {
    if f == 0.0 {
        return "0".into();
    }
    let shown = format!("{f:.*e}", precision - 1);
    let exponent: i32 = shown
        .split_once('e')
        .and_then(|(_, e)| e.parse().ok())
        .unwrap_or(0);
    let strip = |s: &str| {
        if keep_zeros || !s.contains('.') {
            s.to_string()
        } else {
            s.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    };
    if exponent < -4 || exponent >= precision as i32 {
        let text = scientific(f, precision - 1);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{exponent}", strip(digits));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    strip(&format!("{f:.decimals$}"))
}

/// A value in a field of `str.format`.
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
            lay_text(s, &Spec {
                align: parsed.align.or(Some('<')),
                ..parsed
            })
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
            n = Some(n.unwrap_or(0usize).saturating_mul(10).saturating_add(d as usize));
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

/// Fields within a format's own specification, one level deep.
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
        None => kwargs.iter().find(|(n, _)| n == first).map(|(_, v)| v.clone()),
    };
    let Some(mut value) = found else {
        return failed(format!("no value for `{{{name}}}`"));
    };
    while let Some(tail) = path.strip_prefix('[') {
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
