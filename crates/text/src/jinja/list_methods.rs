//! Methods of lists, tuples, mappings and Jinja's helper objects. Methods that modify a value are known but
//! forbidden, as in Jinja's immutable sandbox.

use std::rc::Rc;

use super::args::{CallArgs, int_or, required};
use super::cx::Cx;
use super::fault::{Outcome, failed};
use super::value::{Value, equal, is_hashable, seq, tuple};

pub const CHANGING: [&str; 11] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
];

pub fn names(value: &Value) -> &'static [&'static str] {
    match value {
        Value::List(_) => &[
            "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
            "reverse", "sort",
        ],
        Value::Tuple(_) | Value::Range(_) => &["count", "index"],
        Value::Dict(_) => &[
            "clear",
            "copy",
            "fromkeys",
            "get",
            "items",
            "keys",
            "pop",
            "popitem",
            "setdefault",
            "update",
            "values",
        ],
        Value::Loop(_) => &["changed", "cycle"],
        Value::Cycler(_) => &["next", "reset"],
        Value::Function("dict") => &["fromkeys"],
        _ => &[],
    }
}

pub fn call(cx: &Cx, value: &Value, name: &'static str, args: CallArgs) -> Outcome<Value> {
    match (value, name) {
        (Value::Dict(d), "items" | "keys" | "values") => {
            args.bind::<0>(name, [])?;
            let mut out = vec![];
            for (k, v) in &d.entries {
                out.push(match name {
                    "keys" => k.clone(),
                    "values" => v.clone(),
                    _ => tuple(cx, vec![k.clone(), v.clone()])?,
                });
            }
            let kind = match name {
                "keys" => "dict_keys",
                "values" => "dict_values",
                _ => "dict_items",
            };
            Ok(Value::View(kind, seq(cx, out)?))
        }
        (Value::Dict(d), "get") => {
            let [key, default] = args.bind(name, ["key", "default"])?;
            let key = required(key, name, "key")?;
            if !is_hashable(&key) {
                return failed(format!("unhashable type: '{}'", key.type_name()));
            }
            Ok(d.get(cx, &key)?.or(default).unwrap_or(Value::None))
        }
        (_, "copy") => {
            args.bind::<0>(name, [])?;
            Ok(value.clone())
        }
        (_, "fromkeys") => {
            let [keys, default] = args.bind(name, ["iterable", "value"])?;
            let mut entries = vec![];
            for key in required(keys, name, "iterable")?.items(cx)? {
                let default = default.clone().unwrap_or(Value::None);
                super::value::put(cx, &mut entries, key, default)?;
            }
            super::value::dict(cx, entries)
        }
        (Value::Loop(l), "changed") => Ok(Value::Bool(l.changed(cx, args.positional))),
        (Value::Loop(l), "cycle") => {
            if args.positional.is_empty() {
                return failed("no items for cycling given");
            }
            let at = l.index0() % args.positional.len();
            Ok(args.positional[at].clone())
        }
        (Value::Cycler(c), "next") => {
            let at = c.1.get();
            c.1.set((at + 1) % c.0.len().max(1));
            Ok(c.0.get(at).cloned().unwrap_or(Value::None))
        }
        (Value::Cycler(c), _) => {
            c.1.set(0);
            Ok(Value::None)
        }
        (_, "count") => {
            let [item] = args.bind(name, ["value"])?;
            let item = required(item, name, "value")?;
            let items = value.items(cx)?;
            let count = items.iter().filter(|v| equal(cx, v, &item)).count();
            Ok(Value::Int(count as i128))
        }
        (_, "index") => {
            let [item, start, stop] = args.bind(name, ["value", "start", "stop"])?;
            let item = required(item, name, "value")?;
            let items = value.items(cx)?;
            let range = super::access::slice_range(
                items.len(),
                &[
                    Some(int_or(start, 0)?),
                    Some(int_or(stop, i64::MAX.into())?),
                    None,
                ],
            )?;
            let (from, to) = (range[0] as usize, range[1] as usize);
            let found = (from..to).find(|i| equal(cx, &items[*i], &item));
            match found {
                Some(i) => Ok(Value::Int(i as i128)),
                None => failed("the value is not in the list"),
            }
        }
        _ => failed(format!(
            "'{}' object has no method '{name}'",
            value.type_name()
        )),
    }
}

/// `cycler`, which needs at least one value.
pub fn cycler(items: Vec<Value>) -> Outcome<Value> {
    if items.is_empty() {
        return failed("at least one item has to be provided");
    }
    Ok(Value::Cycler(Rc::new((items, std::cell::Cell::new(0)))))
}
