//! Prints values as Python does: `str()` and `repr()`.

use super::cx::Cx;
use super::fault::{MAX_TEXT, Outcome, failed, limit};
use super::value::{Seq, Value};

/// `str(value)`.
pub fn text(cx: &Cx, value: &Value) -> Outcome<String> {
    let mut out = String::new();
    write_text(cx, &mut out, value)?;
    Ok(out)
}

/// `repr(value)`.
pub fn repr(cx: &Cx, value: &Value) -> Outcome<String> {
    let mut out = String::new();
    write_repr(cx, &mut out, value)?;
    Ok(out)
}

pub fn write_text(cx: &Cx, out: &mut String, value: &Value) -> Outcome<()> {
    match value {
        Value::Str(s) | Value::Markup(s) => {
            check(out.len() + s.len())?;
            out.push_str(s);
            Ok(())
        }
        Value::Undefined(what) if cx.strict => failed(what.to_string()),
        Value::Undefined(_) => Ok(()),
        other => write_repr(cx, out, other),
    }
}

fn check(bytes: usize) -> Outcome<()> {
    if bytes > MAX_TEXT {
        return limit(format!("a string of more than {} MiB", MAX_TEXT >> 20));
    }
    Ok(())
}

pub fn write_repr(cx: &Cx, out: &mut String, value: &Value) -> Outcome<()> {
    cx.budget.step(1)?;
    check(out.len())?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Str(s) => quote(cx, out, s),
        Value::Markup(s) => {
            out.push_str("Markup(");
            quote(cx, out, s);
            out.push(')');
        }
        Value::List(s) => sequence(cx, out, '[', s, ']')?,
        Value::Tuple(s) if s.items.len() == 1 => {
            out.push('(');
            write_repr(cx, out, &s.items[0])?;
            out.push_str(",)");
        }
        Value::Tuple(s) => sequence(cx, out, '(', s, ')')?,
        Value::Dict(d) => {
            out.push('{');
            for (i, (k, v)) in d.entries.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_repr(cx, out, k)?;
                out.push_str(": ");
                write_repr(cx, out, v)?;
            }
            out.push('}');
        }
        Value::View(name, s) => {
            out.push_str(name);
            out.push('(');
            sequence(cx, out, '[', s, ']')?;
            out.push(')');
        }
        Value::Range(r) => {
            let [start, stop, step] = **r;
            out.push_str(&if step == 1 {
                format!("range({start}, {stop})")
            } else {
                format!("range({start}, {stop}, {step})")
            });
        }
        Value::Namespace(n) => {
            out.push_str("<Namespace {");
            let values = n.values.borrow();
            for (i, (k, v)) in values.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                quote(cx, out, k);
                out.push_str(": ");
                // A namespace may contain itself.
                if matches!(v, Value::Namespace(_)) {
                    out.push_str("<Namespace …>");
                } else {
                    write_repr(cx, out, v)?;
                }
            }
            out.push_str("}>");
        }
        Value::Loop(l) => out.push_str(&format!("<LoopContext {}/{}>", l.index0() + 1, l.length())),
        Value::Macro(m) => {
            out.push_str("<Macro ");
            quote(cx, out, &m.name);
            out.push('>');
        }
        Value::Function(name) => out.push_str(&format!("<function {name}>")),
        Value::Method(m) => out.push_str(&format!(
            "<built-in method {} of {} object>",
            m.1,
            m.0.type_name()
        )),
        other => out.push_str(&format!("<{} object>", other.type_name())),
    }
    Ok(())
}

fn sequence(cx: &Cx, out: &mut String, open: char, seq: &Seq, close: char) -> Outcome<()> {
    out.push(open);
    for (i, item) in seq.items.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_repr(cx, out, item)?;
    }
    out.push(close);
    Ok(())
}

/// A string as a Python literal.
fn quote(cx: &Cx, out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(mark);
    for c in text.chars() {
        match cx.mask.open(c) {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            o if o == mark => {
                out.push('\\');
                out.push(c);
            }
            o if is_printable(o) => out.push(c),
            o => {
                let code = o as u32;
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(mark);
}

/// Python's `str.isprintable`, as far as `char` can tell: no controls, no spaces but the plain one, no formatting
/// characters, nothing private or unassigned (most of which Rust's `Debug` escaping knows).
fn is_printable(c: char) -> bool {
    if c == ' ' || ('!'..='~').contains(&c) {
        return true;
    }
    if c.is_control() || c.is_whitespace() {
        return false;
    }
    let format = matches!(c as u32,
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e
        | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
        | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf0000..=0x10ffff);
    let escaped = || {
        let is_combining = c.escape_debug().count() == 1;
        // Combining characters are escaped by `Debug`, but printable in Python.
        is_combining || is_combining_mark(c)
    };
    !format && escaped()
}

fn is_combining_mark(c: char) -> bool {
    // `escape_debug` does not escape a grapheme extender that follows another character.
    format!("a{c}").escape_debug().count() == 2
}

/// `repr(float)`: the shortest digits that round-trip.
pub fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{f}");
        return if plain.contains('.') {
            plain
        } else {
            format!("{plain}.0")
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(c),
        }
    }
    out
}
