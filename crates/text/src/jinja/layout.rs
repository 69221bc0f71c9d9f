//! Formats numbers and strings in fields: shared by `%` and `str.format`.

use super::fault::{Outcome, failed, limit};
use super::print::float;

const MAX_WIDTH: usize = 1 << 20;

/// A format specification.
#[derive(Debug, Default, Clone)]
pub(super) struct Spec {
    pub fill: Option<char>,
    pub align: Option<char>,
    pub sign: Option<char>,
    pub alternate: bool,
    pub zero: bool,
    pub width: usize,
    pub group: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

pub(super) fn character(n: i128) -> Outcome<String> {
    match u32::try_from(n).ok().and_then(char::from_u32) {
        Some(c) => Ok(c.into()),
        None => failed("%c arg not in range(0x110000)"),
    }
}

pub(super) fn check(width: usize) -> Outcome<()> {
    if width > MAX_WIDTH {
        return limit(format!("a field of more than {MAX_WIDTH} characters"));
    }
    Ok(())
}

/// Pads a field; signs and prefixes stay in front of padding zeros.
pub(super) fn pad(prefix: &str, body: &str, spec: &Spec, default_align: char) -> Outcome<String> {
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

pub(super) fn lay_text(text: &str, spec: &Spec) -> Outcome<String> {
    let cut: String = match spec.precision {
        Some(n) => text.chars().take(n).collect(),
        None => text.into(),
    };
    pad("", &cut, spec, '<')
}

pub(super) fn sign_of(negative: bool, sign: Option<char>) -> &'static str {
    match (negative, sign) {
        (true, _) => "-",
        (_, Some('+')) => "+",
        (_, Some(' ')) => " ",
        _ => "",
    }
}

pub(super) fn grouped(digits: &str, group: Option<char>, size: usize) -> String {
    let Some(mark) = group else {
        return digits.into();
    };
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(size) {
            out.push(mark);
        }
        out.push(c);
    }
    out
}

pub(super) fn lay_int(n: i128, spec: &Spec) -> Outcome<String> {
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
        other => {
            return failed(format!(
                "Unknown format code '{other}' for object of type 'int'"
            ));
        }
    };
    let size = if kind == 'd' { 3 } else { 4 };
    let prefix = format!(
        "{}{}",
        sign_of(n < 0, spec.sign),
        if spec.alternate { mark } else { "" }
    );
    pad(&prefix, &grouped(&digits, spec.group, size), spec, '>')
}

pub(super) fn lay_float(f: f64, spec: &Spec) -> Outcome<String> {
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

pub(super) fn scientific(f: f64, precision: usize) -> String {
    let text = format!("{f:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

pub(super) fn general(f: f64, precision: usize, keep_zeros: bool) -> String {
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
