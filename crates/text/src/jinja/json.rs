//! `json.dumps`, as transformers' `tojson` calls it.

use super::cx::Cx;
use super::fault::{MAX_TEXT, Outcome, failed, limit};
use super::ops::sort;
use super::print::{float, write_repr};
use super::value::Value;

#[derive(Debug)]
pub struct Style {
    pub ensure_ascii: bool,
    /// The indentation of one level; without it, the output is one line.
    pub indent: Option<String>,
    pub item: String,
    pub key: String,
    pub sort_keys: bool,
}

pub fn dumps(cx: &Cx, value: &Value, style: &Style) -> Outcome<String> {
    let mut out = String::new();
    write(cx, &mut out, value, style, 0)?;
    cx.budget.text(out.len())?;
    Ok(out)
}

fn write(cx: &Cx, out: &mut String, value: &Value, style: &Style, level: usize) -> Outcome<()> {
    cx.budget.step(1)?;
    if out.len() > MAX_TEXT {
        return limit(format!("a string of more than {} MiB", MAX_TEXT >> 20));
    }
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Float(f) if f.is_nan() => out.push_str("NaN"),
        Value::Float(f) if f.is_infinite() => {
            out.push_str(if *f > 0.0 { "Infinity" } else { "-Infinity" });
        }
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Int(_) => write_repr(cx, out, value)?,
        Value::Str(s) | Value::Markup(s) => string(cx, out, s, style.ensure_ascii),
        Value::List(s) | Value::Tuple(s) => {
            out.push('[');
            for (i, item) in s.items.iter().enumerate() {
                separate(out, style, level + 1, i)?;
                write(cx, out, item, style, level + 1)?;
            }
            end(out, style, level, s.items.is_empty(), ']')?;
        }
        Value::Dict(d) => {
            let mut entries: Vec<_> = d.entries.clone();
            if style.sort_keys {
                sort(cx, &mut entries, false)?;
            }
            out.push('{');
            for (i, (k, v)) in entries.iter().enumerate() {
                separate(out, style, level + 1, i)?;
                match k {
                    Value::Str(s) | Value::Markup(s) => string(cx, out, s, style.ensure_ascii),
                    Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                        out.push('"');
                        write(cx, out, k, style, level)?;
                        out.push('"');
                    }
                    other => {
                        return failed(format!(
                            "keys must be str, int, float, bool or None, not {}",
                            other.type_name()
                        ));
                    }
                }
                out.push_str(&style.key);
                write(cx, out, v, style, level + 1)?;
            }
            end(out, style, level, entries.is_empty(), '}')?;
        }
        other => {
            return failed(format!(
                "Object of type {} is not JSON serializable",
                other.type_name()
            ));
        }
    }
    Ok(())
}

fn separate(out: &mut String, style: &Style, level: usize, index: usize) -> Outcome<()> {
    if index > 0 {
        out.push_str(&style.item);
    }
    newline(out, style, level)
}

fn newline(out: &mut String, style: &Style, level: usize) -> Outcome<()> {
    if let Some(indent) = &style.indent {
        let bytes = indent.len().saturating_mul(level);
        if out.len().saturating_add(bytes) > MAX_TEXT {
            return limit(format!("a string of more than {} MiB", MAX_TEXT >> 20));
        }
        out.push('\n');
        for _ in 0..level {
            out.push_str(indent);
        }
    }
    Ok(())
}

fn end(out: &mut String, style: &Style, level: usize, is_empty: bool, close: char) -> Outcome<()> {
    if !is_empty {
        newline(out, style, level)?;
    }
    out.push(close);
    Ok(())
}

fn string(cx: &Cx, out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match cx.mask.open(c) {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            o if (o as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", o as u32)),
            o if ensure_ascii && (o as u32) > 0x7e => {
                let mut units = [0; 2];
                for unit in o.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
