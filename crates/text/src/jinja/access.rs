//! `value.name`, `value[key]` and `value[a:b:c]`, as in Jinja's sandbox: attributes take precedence over items
//! after a dot, and items over attributes in brackets.

use super::cx::Cx;
use super::fault::{Outcome, failed, limit};
use super::value::{Value, list, range_len, tuple};
use super::{list_methods, text_methods};

/// A value's own attribute, if its type has one with that name.
fn own(cx: &Cx, value: &Value, name: &str) -> Outcome<Option<Value>> {
    Ok(match value {
        Value::Namespace(n) => n.get(name),
        Value::Loop(l) if l.attribute(name).is_some() => l.attribute(name),
        Value::Tuple(s) if s.items.len() == 2 && matches!(name, "grouper" | "list") => {
            Some(s.items[usize::from(name == "list")].clone())
        }
        Value::Macro(m) if name == "name" => Some(Value::Str(m.name.clone())),
        Value::Macro(m) if name == "arguments" => Some(m.arguments.clone()),
        Value::Cycler(c) if name == "current" => c.0.get(c.1.get()).cloned(),
        _ => {
            let known = text_methods::NAMES
                .iter()
                .filter(|_| value.as_str().is_some())
                .chain(list_methods::names(value));
            let found = known.into_iter().find(|n| **n == name);
            if found.is_some_and(|n| list_methods::CHANGING.contains(n)) && value.as_str().is_none()
            {
                let kind = value.type_name();
                return Ok(Some(Value::undefined(format!(
                    "access to attribute '{name}' of '{kind}' object is unsafe"
                ))));
            }
            cx.budget.step(1)?;
            found.map(|n| Value::Method(std::rc::Rc::new((value.clone(), n))))
        }
    })
}

fn missing(value: &Value, name: &str) -> Value {
    let kind = match value {
        Value::None => "None".into(),
        other => format!("{} object", other.type_name()),
    };
    Value::undefined(format!("'{kind}' has no attribute '{name}'"))
}

pub fn attribute(cx: &Cx, value: &Value, name: &str) -> Outcome<Value> {
    if let Value::Undefined(what) = value {
        return failed(what.to_string());
    }
    if name.starts_with('_') {
        if let Value::Dict(d) = value
            && let Some(found) = d.get(cx, &name.into())?
        {
            return Ok(found);
        }
        return Ok(missing(value, name));
    }
    if let Some(found) = own(cx, value, name)? {
        return Ok(found);
    }
    if let Value::Dict(d) = value
        && let Some(found) = d.get(cx, &name.into())?
    {
        return Ok(found);
    }
    Ok(missing(value, name))
}

/// Only attributes, for the filter `attr`.
pub fn attribute_only(cx: &Cx, value: &Value, name: &str) -> Outcome<Value> {
    if let Value::Undefined(what) = value {
        return failed(what.to_string());
    }
    Ok(own(cx, value, name)?.unwrap_or_else(|| missing(value, name)))
}

pub fn item(cx: &Cx, value: &Value, key: &Value) -> Outcome<Value> {
    let at = |length: usize| {
        let i = key.as_int()?;
        let i = if i < 0 { i + length as i128 } else { i };
        usize::try_from(i).ok().filter(|i| *i < length)
    };
    let found = match value {
        Value::Undefined(what) => return failed(what.to_string()),
        Value::List(s) | Value::Tuple(s) => at(s.items.len()).map(|i| s.items[i].clone()),
        Value::Str(s) | Value::Markup(s) => {
            let length = value.len(cx).unwrap_or(0);
            cx.budget.step(s.len() / 64)?;
            at(length)
                .and_then(|i| s.chars().nth(i))
                .map(|c| c.to_string().into())
        }
        Value::Range(r) => at(range_len(r)).map(|i| Value::Int(r[0] + i as i128 * r[2])),
        Value::Dict(d) if super::value::is_hashable(key) => d.get(cx, key)?,
        _ => None,
    };
    if let Some(found) = found {
        return Ok(found);
    }
    if let Some(name) = key.as_str() {
        if !name.starts_with('_')
            && let Some(found) = own(cx, value, name)?
        {
            return Ok(found);
        }
        return Ok(missing(value, name));
    }
    let kind = value.type_name();
    let mut shown = String::new();
    super::print::write_repr(cx, &mut shown, key)?;
    Ok(Value::undefined(format!(
        "{kind} object has no element {shown}"
    )))
}

/// The indices of a slice, as computed by Python's `slice.indices`.
pub fn slice_range(length: usize, parts: &[Option<i128>; 3]) -> Outcome<[i128; 3]> {
    let n = length as i128;
    let step = parts[2].unwrap_or(1);
    if step == 0 {
        return failed("slice step cannot be zero");
    }
    let clamp = |i: i128| {
        let i = if i < 0 { i + n } else { i };
        if step > 0 {
            i.clamp(0, n)
        } else {
            i.clamp(-1, n - 1)
        }
    };
    let start = parts[0].map_or(if step > 0 { 0 } else { n - 1 }, clamp);
    let stop = parts[1].map_or(if step > 0 { n } else { -1 }, clamp);
    Ok([start, stop, step])
}

pub fn slice(cx: &Cx, value: &Value, parts: [&Value; 3]) -> Outcome<Value> {
    if let Value::Undefined(what) = value {
        return failed(what.to_string());
    }
    let mut numbers = [None; 3];
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = match part {
            Value::None => None,
            other => match other.as_int() {
                Some(i) if i.unsigned_abs() < 1 << 64 => Some(i),
                Some(_) => return limit("a slice of more than 64 bits"),
                // Python's TypeError, which Jinja turns into an undefined value.
                None => return Ok(missing(value, "slice")),
            },
        };
    }
    let Some(length) = value.len(cx).filter(|_| {
        matches!(
            value,
            Value::Str(_) | Value::Markup(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_)
        )
    }) else {
        return Ok(missing(value, "slice"));
    };
    let range = slice_range(length, &numbers)?;
    let count = range_len(&range);
    cx.budget.step(length / 16 + count)?;
    let at = (0..count).map(|i| (range[0] + i as i128 * range[2]) as usize);
    match value {
        Value::Str(s) | Value::Markup(s) => {
            cx.budget.text(s.len())?;
            let text: String = if range[2] == 1 {
                s.chars().skip(range[0] as usize).take(count).collect()
            } else {
                let chars: Vec<char> = s.chars().collect();
                at.map(|i| chars[i]).collect()
            };
            Ok(if matches!(value, Value::Markup(_)) {
                Value::Markup(text.into())
            } else {
                text.into()
            })
        }
        Value::Tuple(s) => tuple(cx, at.map(|i| s.items[i].clone()).collect()),
        Value::List(s) => list(cx, at.map(|i| s.items[i].clone()).collect()),
        Value::Range(r) => Ok(Value::Range(std::rc::Rc::new([
            r[0] + range[0] * r[2],
            r[0] + range[1] * r[2],
            r[2] * range[2],
        ]))),
        _ => Ok(missing(value, "slice")),
    }
}
