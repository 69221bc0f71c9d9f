//! `"%s" % value`.

use std::iter::Peekable;
use std::str::Chars;

use super::cx::Cx;
use super::fault::{Outcome, failed};
use super::layout::{Spec, character, check, lay_float, lay_int, lay_text, sign_of};
use super::print::{repr, text};
use super::value::Value;

/// Python's `%` on a string.
pub fn percent(cx: &Cx, pattern: &str, value: &Value) -> Outcome<Value> {
    let mut reader = Reader {
        cx,
        value,
        args: match value {
            Value::Tuple(s) => s.items.clone(),
            other => vec![other.clone()],
        },
        next: 0,
        by_name: false,
        chars: pattern.chars().peekable(),
    };
    let mut out = String::new();
    while let Some(c) = reader.chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(&reader.conversion()?);
        cx.budget.text(out.len())?;
    }
    reader.check_all_used()?;
    cx.budget.text(out.len())?;
    Ok(out.into())
}

struct Reader<'a> {
    cx: &'a Cx,
    value: &'a Value,
    args: Vec<Value>,
    /// The next of `args`.
    next: usize,
    by_name: bool,
    chars: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    /// One conversion, after its `%`.
    fn conversion(&mut self) -> Outcome<String> {
        let named = self.named()?;
        let mut spec = Spec::default();
        let mut left = self.flags(&mut spec);
        spec.width = self.size(&mut left)?;
        if self.chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(self.size(&mut left)?);
        }
        while self.chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        let Some(kind) = self.chars.next() else {
            return failed("incomplete format");
        };
        spec.align = Some(if left { '<' } else { '>' });
        if left {
            spec.zero = false;
        }
        match kind {
            '%' => Ok("%".into()),
            's' | 'r' | 'a' | 'c' | 'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F'
            | 'g' | 'G' => {
                let value = match named {
                    Some(v) => v,
                    None => self.take()?,
                };
                shown(self.cx, &value, spec, kind)
            }
            other => failed(format!("unsupported format character '{other}'")),
        }
    }

    /// The value of a key in brackets, if there is one.
    fn named(&mut self) -> Outcome<Option<Value>> {
        if self.chars.next_if_eq(&'(').is_none() {
            return Ok(None);
        }
        let mut key = String::new();
        loop {
            match self.chars.next() {
                Some(')') => break,
                Some(c) => key.push(c),
                None => return failed("incomplete format key"),
            }
        }
        let Value::Dict(d) = self.value else {
            return failed("format requires a mapping");
        };
        self.by_name = true;
        match d.get(self.cx, &key.as_str().into())? {
            Some(v) => Ok(Some(v)),
            None => failed(format!("no key '{key}' for the format")),
        }
    }

    /// The next positional argument.
    fn take(&mut self) -> Outcome<Value> {
        self.next += 1;
        match self.args.get(self.next - 1) {
            Some(v) => Ok(v.clone()),
            None => failed("not enough arguments for format string"),
        }
    }

    /// Reads flags; whether one of them aligns to the left.
    fn flags(&mut self, spec: &mut Spec) -> bool {
        let mut left = false;
        while let Some(flag) = self.chars.next_if(|c| "#0- +".contains(*c)) {
            match flag {
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                '-' => left = true,
                other if spec.sign != Some('+') => spec.sign = Some(other),
                _ => {}
            }
        }
        left
    }

    /// A width or a precision; negative ones, which only arguments can be, align to the left.
    fn size(&mut self, left: &mut bool) -> Outcome<usize> {
        if self.chars.next_if_eq(&'*').is_some() {
            let Some(n) = self.take()?.as_int() else {
                return failed("* requires int");
            };
            if n < 0 {
                *left = true;
            }
            return Ok(usize::try_from(n.abs()).unwrap_or(usize::MAX));
        }
        let mut n = 0usize;
        while let Some(d) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            n = n.saturating_mul(10).saturating_add(d as usize);
            self.chars.next();
        }
        Ok(n)
    }

    fn check_all_used(&self) -> Outcome<()> {
        let is_dict = matches!(self.value, Value::Dict(_));
        if !self.by_name && !is_dict && self.next < self.args.len() {
            return failed("not all arguments converted during string formatting");
        }
        Ok(())
    }
}

/// A value by a conversion's last character.
fn shown(cx: &Cx, value: &Value, mut spec: Spec, kind: char) -> Outcome<String> {
    match kind {
        's' | 'r' | 'a' => {
            let shown = if kind == 's' {
                text(cx, value)?
            } else {
                repr(cx, value)?
            };
            spec.zero = false;
            spec.sign = None;
            lay_text(&shown, &spec)
        }
        'c' => {
            let shown = match (value, value.as_int()) {
                (Value::Str(s), _) if s.chars().count() == 1 => s.to_string(),
                (_, Some(n)) => character(n)?,
                _ => return failed("%c requires int or char"),
            };
            spec.zero = false;
            lay_text(&shown, &spec)
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let n = match (value, kind) {
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
            int_percent(n, &spec, digits)
        }
        _ => {
            let Some(f) = value.as_float() else {
                return failed(format!("must be real number, not {}", value.type_name()));
            };
            spec.kind = Some(kind);
            lay_float(f, &spec)
        }
    }
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
