//! Python's operators.

use std::cmp::Ordering;

use siskin_formats::sort_by;

use super::ast::{Binary, Compare};
use super::cx::Cx;
use super::fault::{Outcome, failed, limit};
use super::percent::percent;
use super::print::escape_html;
use super::value::{Value, equal, list, range_len, tuple};

pub fn binary(cx: &Cx, op: Binary, a: &Value, b: &Value) -> Outcome<Value> {
    use Value as V;
    match (op, a, b) {
        (_, V::Undefined(what), _) => return failed(what.to_string()),
        (Binary::Mod, V::Str(s), _) => return percent(cx, s, b),
        (_, _, V::Undefined(what)) => return failed(what.to_string()),
        (Binary::Mod, V::Markup(s), _) => {
            return Ok(match percent(cx, s, b)? {
                V::Str(s) => V::Markup(s),
                other => other,
            });
        }
        (Binary::Add, V::Str(a), V::Str(b)) => {
            cx.budget.text(a.len() + b.len())?;
            return Ok(format!("{a}{b}").into());
        }
        (Binary::Add, V::Str(_) | V::Markup(_), V::Str(_) | V::Markup(_)) => {
            let part = |v: &Value| match v {
                V::Str(s) => escape_html(s),
                V::Markup(s) => s.to_string(),
                _ => String::new(),
            };
            let text = part(a) + &part(b);
            cx.budget.text(text.len())?;
            return Ok(V::Markup(text.into()));
        }
        (Binary::Add, V::List(x), V::List(y)) => {
            cx.budget.list(x.items.len() + y.items.len())?;
            return list(cx, [x.items.as_slice(), y.items.as_slice()].concat());
        }
        (Binary::Add, V::Tuple(x), V::Tuple(y)) => {
            cx.budget.list(x.items.len() + y.items.len())?;
            return tuple(cx, [x.items.as_slice(), y.items.as_slice()].concat());
        }
        (Binary::Mul, _, _) => {
            if let Some(repeated) = repeat(cx, a, b)? {
                return Ok(repeated);
            }
        }
        _ => {}
    }
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return int(op, x, y);
    }
    if let (Some(x), Some(y)) = (a.as_float(), b.as_float()) {
        return float(op, x, y);
    }
    let sign = match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "**",
    };
    let (a, b) = (a.type_name(), b.type_name());
    failed(format!(
        "unsupported operand type(s) for {sign}: '{a}' and '{b}'"
    ))
}

fn repeat(cx: &Cx, a: &Value, b: &Value) -> Outcome<Option<Value>> {
    use Value as V;
    let (of, count) = match (a, b) {
        (V::Str(_) | V::Markup(_) | V::List(_) | V::Tuple(_), _) => (a, b.as_int()),
        (_, V::Str(_) | V::Markup(_) | V::List(_) | V::Tuple(_)) => (b, a.as_int()),
        _ => return Ok(None),
    };
    let Some(count) = count else { return Ok(None) };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    Ok(Some(match of {
        V::Str(s) | V::Markup(s) => {
            cx.budget.text(s.len().saturating_mul(count))?;
            let text = s.repeat(count).into();
            if matches!(of, V::Markup(_)) {
                V::Markup(text)
            } else {
                V::Str(text)
            }
        }
        V::List(s) => {
            cx.budget.list(s.items.len().saturating_mul(count))?;
            list(cx, repeated(&s.items, count))?
        }
        V::Tuple(s) => {
            cx.budget.list(s.items.len().saturating_mul(count))?;
            tuple(cx, repeated(&s.items, count))?
        }
        _ => return Ok(None),
    }))
}

fn repeated(items: &[Value], count: usize) -> Vec<Value> {
    let all = items.iter().cycle();
    all.take(items.len() * count).cloned().collect()
}

fn int(op: Binary, a: i128, b: i128) -> Outcome<Value> {
    let result = match op {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div | Binary::FloorDiv | Binary::Mod if b == 0 => {
            return failed("division by zero");
        }
        Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDiv => a
            .checked_div(b)
            .map(|q| q - i128::from(a % b != 0 && (a < 0) != (b < 0))),
        Binary::Mod => a.checked_rem(b).map(|r| {
            if r != 0 && (r < 0) != (b < 0) {
                r + b
            } else {
                r
            }
        }),
        Binary::Pow if b < 0 => return float(op, a as f64, b as f64),
        Binary::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    match result {
        Some(n) => Ok(Value::Int(n)),
        None => limit("integers of more than 127 bits"),
    }
}

fn float(op: Binary, a: f64, b: f64) -> Outcome<Value> {
    if b == 0.0 && matches!(op, Binary::Div | Binary::FloorDiv | Binary::Mod) {
        return failed("float division by zero");
    }
    let modulo = || {
        let r = a % b;
        if r != 0.0 && (r < 0.0) != (b < 0.0) {
            r + b
        } else {
            r
        }
    };
    Ok(Value::Float(match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::FloorDiv => ((a - modulo()) / b).round(),
        Binary::Mod => modulo(),
        Binary::Pow => a.powf(b),
    }))
}

pub fn negate(value: &Value) -> Outcome<Value> {
    match value {
        Value::Undefined(what) => failed(what.to_string()),
        Value::Float(f) => Ok(Value::Float(-f)),
        other => match other.as_int().and_then(i128::checked_neg) {
            Some(i) => Ok(Value::Int(i)),
            None => failed(format!(
                "bad operand type for unary -: '{}'",
                other.type_name()
            )),
        },
    }
}

pub fn compare(cx: &Cx, op: Compare, a: &Value, b: &Value) -> Outcome<bool> {
    Ok(match op {
        Compare::Eq => equal(cx, a, b),
        Compare::Ne => !equal(cx, a, b),
        Compare::In => contains(cx, b, a)?,
        Compare::NotIn => !contains(cx, b, a)?,
        Compare::Lt => order(cx, a, b, "<")? == Some(Ordering::Less),
        Compare::Gt => order(cx, a, b, ">")? == Some(Ordering::Greater),
        Compare::Le => matches!(
            order(cx, a, b, "<=")?,
            Some(Ordering::Less | Ordering::Equal)
        ),
        Compare::Ge => matches!(
            order(cx, a, b, ">=")?,
            Some(Ordering::Greater | Ordering::Equal)
        ),
    })
}

/// Python's ordering comparisons; `None` if one is NaN.
pub fn order(cx: &Cx, a: &Value, b: &Value, sign: &str) -> Outcome<Option<Ordering>> {
    use Value as V;
    Ok(match (a, b) {
        (V::Undefined(what), _) | (_, V::Undefined(what)) => return failed(what.to_string()),
        (V::Str(a) | V::Markup(a), V::Str(b) | V::Markup(b)) => {
            Some(cx.mask.open_text(a).cmp(&cx.mask.open_text(b)))
        }
        (V::List(x), V::List(y)) | (V::Tuple(x), V::Tuple(y)) => {
            for (a, b) in x.items.iter().zip(&y.items) {
                if !equal(cx, a, b) {
                    return order(cx, a, b, sign);
                }
            }
            Some(x.items.len().cmp(&y.items.len()))
        }
        _ => match (a.as_int(), b.as_int(), a.as_float(), b.as_float()) {
            (Some(a), Some(b), ..) => Some(a.cmp(&b)),
            (_, _, Some(a), Some(b)) => a.partial_cmp(&b),
            _ => {
                return failed(format!(
                    "'{sign}' not supported between instances of '{}' and '{}'",
                    a.type_name(),
                    b.type_name()
                ));
            }
        },
    })
}

pub fn contains(cx: &Cx, container: &Value, item: &Value) -> Outcome<bool> {
    use Value as V;
    match container {
        V::Str(s) | V::Markup(s) => {
            let Some(needle) = item.as_str() else {
                return failed(format!(
                    "'in <string>' requires string as left operand, not {}",
                    item.type_name()
                ));
            };
            cx.budget.step(s.len() / 64)?;
            Ok(if cx.mask.is_none() {
                s.contains(&**needle)
            } else {
                cx.mask.open_text(s).contains(&*cx.mask.open_text(needle))
            })
        }
        V::Dict(d) => {
            if !super::value::is_hashable(item) {
                return failed(format!("unhashable type: '{}'", item.type_name()));
            }
            Ok(d.get(cx, item)?.is_some())
        }
        V::List(s) | V::Tuple(s) | V::View(_, s) => {
            cx.budget.step(s.items.len() / 4)?;
            Ok(s.items.iter().any(|v| equal(cx, v, item)))
        }
        V::Range(r) => Ok(item.as_int().is_some_and(|i| {
            let n = (i - r[0]).checked_div(r[2]).unwrap_or(-1);
            (i - r[0]) % r[2] == 0 && n >= 0 && (n as usize) < range_len(r)
        })),
        V::Undefined(_) => Ok(false),
        V::Iter(_) => {
            let items = container.items(cx)?;
            Ok(items.iter().any(|v| equal(cx, v, item)))
        }
        other => failed(format!(
            "argument of type '{}' is not iterable",
            other.type_name()
        )),
    }
}

/// A sort that fails at the first pair that cannot be compared.
pub fn sort(cx: &Cx, items: &mut [(Value, Value)], reverse: bool) -> Outcome<()> {
    cx.budget
        .step(items.len() * (items.len().max(2).ilog2() as usize))?;
    let mut fault = None;
    sort_by(items, &mut |(a, _), (b, _)| {
        let found = order(cx, a, b, "<");
        let ordering = match found {
            Ok(o) => o.unwrap_or(Ordering::Equal),
            Err(f) => {
                fault.get_or_insert(f);
                Ordering::Equal
            }
        };
        // Python keeps equal elements in order when reversing.
        if reverse {
            ordering.reverse()
        } else {
            ordering
        }
    });
    fault.map_or(Ok(()), Err)
}
