//! Tests, as in `x is defined`.

use std::rc::Rc;

use super::ast::Compare;
use super::cx::Cx;
use super::fault::{Outcome, failed, unsupported};
use super::ops::{compare, contains};
use super::print::text;
use super::value::Value;
use super::{case, filters};

const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

pub fn test(cx: &Cx, name: &str, value: &Value, args: &[Value]) -> Outcome<bool> {
    use Value as V;
    let arg = || match args.first() {
        Some(a) => Ok(a),
        None => failed(format!("the test `{name}` needs an argument")),
    };
    let whole = |v: &Value| match (v, v.as_int()) {
        (V::Undefined(what), _) => failed(what.to_string()),
        (_, Some(i)) => Ok(i),
        _ => failed(format!("the test `{name}` needs an integer")),
    };
    Ok(match name {
        "defined" => !matches!(value, V::Undefined(_)),
        "undefined" => matches!(value, V::Undefined(_)),
        "none" => matches!(value, V::None),
        "boolean" => matches!(value, V::Bool(_)),
        "true" => matches!(value, V::Bool(true)),
        "false" => matches!(value, V::Bool(false)),
        "integer" => matches!(value, V::Int(_)),
        "float" => matches!(value, V::Float(_)),
        "number" => matches!(value, V::Int(_) | V::Float(_) | V::Bool(_)),
        "string" => value.as_str().is_some(),
        "mapping" => matches!(value, V::Dict(_)),
        "escaped" => matches!(value, V::Markup(_)),
        "iterable" => matches!(value, V::Iter(_) | V::Loop(_)) || value.len(cx).is_some(),
        "sequence" => !matches!(value, V::View(..) | V::Loop(_)) && value.len(cx).is_some(),
        "callable" => matches!(
            value,
            V::Macro(_)
                | V::Method(_)
                | V::Function(_)
                | V::Loop(_)
                | V::Joiner(_)
                | V::Undefined(_)
        ),
        "odd" => whole(value)?.rem_euclid(2) == 1,
        "even" => whole(value)?.rem_euclid(2) == 0,
        "divisibleby" => {
            let by = whole(arg()?)?;
            if by == 0 {
                return failed("integer modulo by zero");
            }
            whole(value)?.checked_rem(by).unwrap_or(0) == 0
        }
        "lower" => case::is("islower", &cx.mask.open_text(&text(cx, value)?)),
        "upper" => case::is("isupper", &cx.mask.open_text(&text(cx, value)?)),
        "in" => contains(cx, arg()?, value)?,
        "==" | "eq" | "equalto" => compare(cx, Compare::Eq, value, arg()?)?,
        "!=" | "ne" => compare(cx, Compare::Ne, value, arg()?)?,
        "<" | "lt" | "lessthan" => compare(cx, Compare::Lt, value, arg()?)?,
        "<=" | "le" => compare(cx, Compare::Le, value, arg()?)?,
        ">" | "gt" | "greaterthan" => compare(cx, Compare::Gt, value, arg()?)?,
        ">=" | "ge" => compare(cx, Compare::Ge, value, arg()?)?,
        "sameas" => same(cx, value, arg()?),
        "filter" => value.as_str().is_some_and(|n| filters::is_known(n)),
        "test" => value.as_str().is_some_and(|n| is_known(n)),
        other => return unsupported(format!("the test `{other}`")),
    })
}

fn same(cx: &Cx, a: &Value, b: &Value) -> bool {
    use Value as V;
    match (a, b) {
        (V::List(a), V::List(b)) | (V::Tuple(a), V::Tuple(b)) => Rc::ptr_eq(a, b),
        (V::Dict(a), V::Dict(b)) => Rc::ptr_eq(a, b),
        _ => a.type_name() == b.type_name() && super::value::equal(cx, a, b),
    }
}
