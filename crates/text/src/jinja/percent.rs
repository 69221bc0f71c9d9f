//! `"%s" % value`.

use super::cx::Cx;
use super::fault::{Outcome, failed};
use super::layout::{Spec, character, check, lay_float, lay_int, lay_text, sign_of};
use super::print::{repr, text};
use super::value::Value;

/// Python's `%` on a string.
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
                    return failed("* requires int");
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
                    return failed(format!("must be real number, not {}", value.type_name()));
                };
                spec.kind = Some(kind);
                lay_float(f, &spec)?
            }
            other => return failed(format!("unsupported format character '{other}'")),
        };
        out.push_str(&piece);
        cx.budget.text(out.len())?;
    }
    if !by_name
        && next < args.len()
        && !(matches!(value, Value::Dict(_)) || next > 0 && args.len() == next)
    {
        return failed("not all arguments converted during string formatting");
    }
    cx.budget.text(out.len())?;
    Ok(out.into())
}

/// Formats a number as `%d` does: the precision is a minimum number of digits.
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
    lay_text(
        &signed,
        &Spec {
            precision: None,
            ..spec.clone()
        },
    )
}
