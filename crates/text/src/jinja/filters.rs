//! Filters on single values. Those on lists, and those that call other filters, are in `list_filters`.

use super::args::{CallArgs, int_or, required, text_of, truth_or};
use super::cx::Cx;
use super::fault::{Outcome, failed, unsupported};
use super::json::{Style, dumps};
use super::percent::percent;
use super::print::{escape_html, text};
use super::shaping::{file_size, indent, truncate, urlencode, wrap};
use super::text_methods::{justify, replace, strip};
use super::value::Value;
use super::{access, case};

const NAMES: [&str; 50] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

pub fn filter(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    Ok(match name {
        "abs" => abs(value)?,
        "attr" => {
            let [attribute] = args.bind(name, ["name"])?;
            let attribute = text_of(&required(attribute, name, "name")?, name)?;
            access::attribute_only(cx, value, &attribute)?
        }
        "capitalize" => case::capitalize(cx.mask, &text(cx, value)?).into(),
        "lower" => case::lower(cx.mask, &text(cx, value)?).into(),
        "upper" => case::upper(cx.mask, &text(cx, value)?).into(),
        "title" => case::title_words(cx.mask, &text(cx, value)?).into(),
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            justify(cx, &text(cx, value)?, "center", int_or(width, 80)?, " ")?.into()
        }
        "default" | "d" => default(cx, name, value, args)?,
        "e" | "escape" => match value {
            Value::Markup(_) => value.clone(),
            other => Value::Markup(escape_html(&text(cx, other)?).into()),
        },
        "forceescape" => Value::Markup(escape_html(&text(cx, value)?).into()),
        "safe" => Value::Markup(text(cx, value)?.into()),
        "string" => match value {
            Value::Markup(_) | Value::Str(_) => value.clone(),
            other => text(cx, other)?.into(),
        },
        "filesizeformat" => {
            let [binary] = args.bind(name, ["binary"])?;
            file_size(value, truth_or(cx, binary, false)?)?.into()
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"])?;
            int(cx, value, default, int_or(base, 10)?)?
        }
        "float" => float(cx, name, value, args)?,
        "format" => format(cx, value, args)?,
        "indent" => indented(cx, name, value, args)?,
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let old = text(cx, &required(old, name, "old")?)?;
            let new = text(cx, &required(new, name, "new")?)?;
            replace(cx, &text(cx, value)?, &old, &new, int_or(count, -1)?)?.into()
        }
        "round" => {
            let [precision, method] = args.bind(name, ["precision", "method"])?;
            round(value, int_or(precision, 0)?, method)?
        }
        "tojson" => json(cx, name, value, args)?,
        "trim" => {
            let [chars] = args.bind(name, ["chars"])?;
            strip(cx, &text(cx, value)?, chars.as_ref(), "strip")?.into()
        }
        "truncate" => truncated(cx, name, value, args)?,
        "urlencode" => urlencode(cx, value)?.into(),
        "wordcount" => word_count(cx, value)?,
        "wordwrap" => wrapped(cx, name, value, args)?,
        "xmlattr" => xml_attributes(cx, name, value, args)?,
        _ => return super::list_filters::filter(cx, name, value, args),
    })
}

fn abs(value: &Value) -> Outcome<Value> {
    Ok(match value {
        Value::Float(f) => Value::Float(f.abs()),
        other => match other.as_int() {
            Some(i) => Value::Int(i.abs()),
            None => return failed("bad operand type for abs()"),
        },
    })
}

fn default(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
    let missing = match value {
        Value::Undefined(_) => true,
        other => truth_or(cx, boolean, false)? && !other.is_true(cx)?,
    };
    if missing {
        return Ok(default.unwrap_or_else(|| "".into()));
    }
    Ok(value.clone())
}

fn float(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [default] = args.bind(name, ["default"])?;
    let read = match value {
        Value::Undefined(what) => return failed(what.to_string()),
        Value::Str(s) | Value::Markup(s) => parse_float(&cx.mask.open_text(s)),
        other => other.as_float(),
    };
    Ok(read
        .map(Value::Float)
        .or(default)
        .unwrap_or(Value::Float(0.0)))
}

fn format(cx: &Cx, value: &Value, args: CallArgs) -> Outcome<Value> {
    let pattern = text(cx, value)?;
    if args.named.is_empty() {
        let values = super::value::tuple(cx, args.positional)?;
        percent(cx, &pattern, &values)
    } else if args.positional.is_empty() {
        let named = args.named.into_iter();
        let entries = named.map(|(n, v)| (n.into(), v)).collect();
        let values = super::value::dict(cx, entries)?;
        percent(cx, &pattern, &values)
    } else {
        failed("can't handle positional and keyword arguments at the same time")
    }
}

fn indented(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [width, first, blank] = args.bind(name, ["width", "first", "blank"])?;
    let margin = match width {
        Some(Value::Str(s)) => s.to_string(),
        other => {
            let width = usize::try_from(int_or(other, 4)?).unwrap_or(0);
            cx.budget.text(width)?;
            " ".repeat(width)
        }
    };
    Ok(indent(
        cx,
        &text(cx, value)?,
        &margin,
        truth_or(cx, first, false)?,
        truth_or(cx, blank, false)?,
    )?
    .into())
}

fn json(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = args.bind(name, names)?;
    let style = Style {
        ensure_ascii: truth_or(cx, ascii, false)?,
        sort_keys: truth_or(cx, sort_keys, false)?,
        ..json_style(cx, indent, separators)?
    };
    Ok(dumps(cx, value, &style)?.into())
}

fn truncated(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, kill, end, leeway] = args.bind(name, names)?;
    let end = end.map_or(Ok("...".into()), |e| text(cx, &e))?;
    let (length, leeway) = (int_or(length, 255)?, int_or(leeway, 5)?);
    Ok(truncate(
        &text(cx, value)?,
        length,
        truth_or(cx, kill, false)?,
        &end,
        leeway,
    )?
    .into())
}

fn word_count(cx: &Cx, value: &Value) -> Outcome<Value> {
    let text = text(cx, value)?;
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    Ok(Value::Int(words.filter(|w| !w.is_empty()).count() as i128))
}

fn wrapped(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let names = [
        "width",
        "break_long_words",
        "wrapstring",
        "break_on_hyphens",
    ];
    let [width, break_long, with, hyphens] = args.bind(name, names)?;
    let with = with.map_or(Ok("\n".into()), |w| text(cx, &w))?;
    let text = text(cx, value)?;
    if text.contains('-') && truth_or(cx, hyphens, true)? {
        return unsupported("`wordwrap` of a string with hyphens");
    }
    let width = usize::try_from(int_or(width, 79)?).unwrap_or(0);
    Ok(wrap(cx, &text, width, truth_or(cx, break_long, true)?, &with)?.into())
}

fn xml_attributes(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [space] = args.bind(name, ["autospace"])?;
    let Value::Dict(d) = value else {
        return failed("xmlattr expects a mapping");
    };
    let mut parts = vec![];
    for (k, v) in &d.entries {
        if !matches!(v, Value::None | Value::Undefined(_)) {
            let (k, v) = (text(cx, k)?, text(cx, v)?);
            if k.contains(|c: char| c.is_whitespace() || "/>=".contains(c)) {
                return failed("Invalid character in attribute name");
            }
            parts.push(format!("{}=\"{}\"", escape_html(&k), escape_html(&v)));
        }
    }
    let joined = parts.join(" ");
    if joined.is_empty() || !truth_or(cx, space, true)? {
        return Ok(joined.into());
    }
    Ok(format!(" {joined}").into())
}

fn json_style(cx: &Cx, indent: Option<Value>, separators: Option<Value>) -> Outcome<Style> {
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(s)) => Some(s.to_string()),
        Some(other) => {
            let width = usize::try_from(int_or(Some(other), 0)?).unwrap_or(0);
            cx.budget.text(width)?;
            Some(" ".repeat(width))
        }
    };
    let (item, key) = match separators {
        None | Some(Value::None) => {
            let item = if indent.is_some() { "," } else { ", " };
            (item.to_string(), ": ".to_string())
        }
        Some(both) => match both.items(cx)?.as_slice() {
            [a, b] => (text(cx, a)?, text(cx, b)?),
            _ => return failed("separators must be two strings"),
        },
    };
    Ok(Style {
        ensure_ascii: false,
        indent,
        item,
        key,
        sort_keys: false,
    })
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::lexer::is_space);
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    plain.parse().ok()
}

fn int(cx: &Cx, value: &Value, default: Option<Value>, base: i128) -> Outcome<Value> {
    let default = default.unwrap_or(Value::Int(0));
    Ok(match value {
        Value::Undefined(what) => return failed(what.to_string()),
        Value::Float(f) if f.is_finite() => Value::Int(f.trunc() as i128),
        Value::Str(s) | Value::Markup(s) => {
            let open = cx.mask.open_text(s);
            let text = open.trim_matches(super::lexer::is_space).replace('_', "");
            let lower = text.to_lowercase();
            let (negative, digits) = match lower.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, lower.strip_prefix('+').unwrap_or(&lower)),
            };
            let digits = match base {
                16 => digits.strip_prefix("0x"),
                8 => digits.strip_prefix("0o"),
                2 => digits.strip_prefix("0b"),
                _ => None,
            }
            .unwrap_or(digits);
            let radix = u32::try_from(base).ok().filter(|b| (2..=36).contains(b));
            let read = radix.and_then(|r| i128::from_str_radix(digits, r).ok());
            match read {
                Some(n) => Value::Int(if negative { -n } else { n }),
                None => match parse_float(s).filter(|f| f.is_finite()) {
                    Some(f) => Value::Int(f.trunc() as i128),
                    None => default,
                },
            }
        }
        other => other.as_int().map_or(default, Value::Int),
    })
}

fn round(value: &Value, precision: i128, method: Option<Value>) -> Outcome<Value> {
    let method = method.map_or(Ok("common".into()), |m| text_of(&m, "round"))?;
    let precision = precision.clamp(-400, 400) as i32;
    if matches!(value, Value::Int(_) | Value::Bool(_)) && &*method == "common" && precision >= 0 {
        return Ok(Value::Int(value.as_int().unwrap_or(0)));
    }
    let Some(f) = value.as_float() else {
        return failed(format!(
            "type {} doesn't define __round__",
            value.type_name()
        ));
    };
    let scale = 10f64.powi(precision);
    Ok(Value::Float(match &*method {
        "common" if precision >= 0 => {
            // The decimal digits of a float are exact in Rust, and halves go to even, as in Python.
            format!("{f:.*}", precision as usize).parse().unwrap_or(f)
        }
        "common" => (f * scale).round_ties_even() / scale,
        "ceil" => (f * scale).ceil() / scale,
        "floor" => (f * scale).floor() / scale,
        _ => return failed("method must be common, ceil or floor"),
    }))
}
