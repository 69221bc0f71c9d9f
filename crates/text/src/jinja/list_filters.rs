//! Filters on lists and mappings.

use super::args::{CallArgs, int_or, required, text_of, truth_or};
use super::ast::Binary;
use super::cx::Cx;
use super::fault::{Outcome, failed, unsupported};
use super::ops::{binary, order, sort};
use super::print::text;
use super::value::{Value, equal, iter, list, tuple};
use super::{access, case, filters, tests};

pub fn filter(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    match name {
        "length" | "count" => length(cx, value),
        "list" => {
            let items = value.items(cx)?;
            list(cx, items)
        }
        "first" => first(cx, value),
        "last" => last(cx, value),
        "reverse" => reverse(cx, value),
        "items" => items(cx, value),
        "join" => join(cx, name, value, args),
        "map" => map(cx, value, args),
        "select" | "reject" | "selectattr" | "rejectattr" => select(cx, name, value, args),
        "sort" => sorted(cx, name, value, args),
        "dictsort" => sorted_dict(cx, name, value, args),
        "groupby" => group(cx, value, args),
        "unique" => unique(cx, name, value, args),
        "min" | "max" => extreme(cx, name, value, args),
        "sum" => sum(cx, name, value, args),
        "batch" => batch(cx, name, value, args),
        "slice" => slice(cx, name, value, args),
        other => unsupported(format!("the filter `{other}`")),
    }
}

fn length(cx: &Cx, value: &Value) -> Outcome<Value> {
    match value.len(cx) {
        Some(n) => Ok(Value::Int(n as i128)),
        None => failed(format!(
            "object of type '{}' has no len()",
            value.type_name()
        )),
    }
}

fn first(cx: &Cx, value: &Value) -> Outcome<Value> {
    let first = match value {
        Value::Iter(i) => i.borrow_mut().pop(),
        other => other.items(cx)?.into_iter().next(),
    };
    Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")))
}

fn last(cx: &Cx, value: &Value) -> Outcome<Value> {
    if matches!(value, Value::Iter(_)) {
        return failed("'generator' object is not reversible");
    }
    let last = value.items(cx)?.pop();
    Ok(last.unwrap_or_else(|| Value::undefined("No last item, sequence was empty.")))
}

fn reverse(cx: &Cx, value: &Value) -> Outcome<Value> {
    match value {
        Value::Str(s) => Ok(s.chars().rev().collect::<String>().into()),
        Value::Iter(_) => {
            let mut items = value.items(cx)?;
            items.reverse();
            list(cx, items)
        }
        other => {
            let mut items = other.items(cx)?;
            items.reverse();
            iter(cx, items)
        }
    }
}

fn items(cx: &Cx, value: &Value) -> Outcome<Value> {
    match value {
        Value::Undefined(_) => iter(cx, vec![]),
        Value::Dict(d) => {
            let pairs = d.entries.iter();
            let pairs = pairs.map(|(k, v)| tuple(cx, vec![k.clone(), v.clone()]));
            iter(cx, pairs.collect::<Outcome<_>>()?)
        }
        _ => failed("Can only get item pairs from a mapping."),
    }
}

fn join(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [by, attribute] = args.bind(name, ["d", "attribute"])?;
    let by = by.map_or(Ok(String::new()), |d| text(cx, &d))?;
    let mut parts = vec![];
    let mut bytes = 0;
    for item in value.items(cx)? {
        let item = match &attribute {
            Some(a) if !matches!(a, Value::None) => get(cx, &item, a, None)?,
            _ => item,
        };
        let part = text(cx, &item)?;
        bytes += part.len() + by.len();
        cx.budget.text(bytes)?;
        parts.push(part);
    }
    Ok(parts.join(&by).into())
}

fn sorted(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [reverse, case_sensitive, attribute] =
        args.bind(name, ["reverse", "case_sensitive", "attribute"])?;
    let sensitive = truth_or(cx, case_sensitive, false)?;
    let mut keyed = vec![];
    for item in value.items(cx)? {
        keyed.push((sort_key(cx, &item, attribute.as_ref(), sensitive)?, item));
    }
    sort(cx, &mut keyed, truth_or(cx, reverse, false)?)?;
    list(cx, keyed.into_iter().map(|(_, v)| v).collect())
}

fn sorted_dict(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [case_sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
    let by = by.map_or(Ok("key".into()), |b| text_of(&b, name))?;
    let Value::Dict(d) = value else {
        return failed(format!(
            "'{}' object has no attribute 'items'",
            value.type_name()
        ));
    };
    let sensitive = truth_or(cx, case_sensitive, false)?;
    let mut keyed = vec![];
    for (k, v) in &d.entries {
        let key = match &*by {
            "key" => k,
            "value" => v,
            _ => return failed("You can only sort by either \"key\" or \"value\""),
        };
        let pair = tuple(cx, vec![k.clone(), v.clone()])?;
        keyed.push((folded(cx, key, sensitive), pair));
    }
    sort(cx, &mut keyed, truth_or(cx, reverse, false)?)?;
    list(cx, keyed.into_iter().map(|(_, v)| v).collect())
}

fn unique(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
    let sensitive = truth_or(cx, case_sensitive, false)?;
    let mut seen: Vec<Value> = vec![];
    let mut out = vec![];
    for item in value.items(cx)? {
        let key = sort_key(cx, &item, attribute.as_ref(), sensitive)?;
        cx.budget.step(seen.len())?;
        if !seen.iter().any(|s| equal(cx, s, &key)) {
            seen.push(key);
            out.push(item);
        }
    }
    iter(cx, out)
}

/// The smallest or largest item, according to the name.
fn extreme(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
    let sensitive = truth_or(cx, case_sensitive, false)?;
    let mut best: Option<(Value, Value)> = None;
    for item in value.items(cx)? {
        let key = sort_key(cx, &item, attribute.as_ref(), sensitive)?;
        let better = match &best {
            None => true,
            Some((b, _)) if name == "min" => {
                order(cx, &key, b, "<")? == Some(std::cmp::Ordering::Less)
            }
            Some((b, _)) => order(cx, &key, b, ">")? == Some(std::cmp::Ordering::Greater),
        };
        if better {
            best = Some((key, item));
        }
    }
    let none = || Value::undefined("No aggregated item, sequence was empty.");
    Ok(best.map_or_else(none, |(_, v)| v))
}

fn sum(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [attribute, start] = args.bind(name, ["attribute", "start"])?;
    let mut sum = start.unwrap_or(Value::Int(0));
    for item in value.items(cx)? {
        let item = match &attribute {
            Some(a) if !matches!(a, Value::None) => get(cx, &item, a, None)?,
            _ => item,
        };
        sum = binary(cx, Binary::Add, &sum, &item)?;
    }
    Ok(sum)
}

/// Rows of `linecount` items each.
fn batch(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [count, fill] = args.bind(name, ["linecount", "fill_with"])?;
    let count = int_or(Some(required(count, name, "linecount")?), 1)?;
    let count = usize::try_from(count).unwrap_or(1).max(1);
    let mut rows = vec![];
    for row in value.items(cx)?.chunks(count) {
        let mut row = row.to_vec();
        if let Some(fill) = fill.clone().filter(|f| !matches!(f, Value::None)) {
            cx.budget.list(count)?;
            row.resize(count, fill);
        }
        rows.push(list(cx, row)?);
    }
    iter(cx, rows)
}

/// As many rows as `slices`, of lengths that differ by at most one.
fn slice(cx: &Cx, name: &str, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [count, fill] = args.bind(name, ["slices", "fill_with"])?;
    let count = int_or(Some(required(count, name, "slices")?), 1)?;
    let Some(count) = usize::try_from(count).ok().filter(|c| *c > 0) else {
        return failed("integer division or modulo by zero");
    };
    cx.budget.list(count)?;
    let items = value.items(cx)?;
    let (each, more) = (items.len() / count, items.len() % count);
    let mut rows = vec![];
    let mut at = 0;
    for i in 0..count {
        let end = at + each + usize::from(i < more);
        let mut row = items[at..end].to_vec();
        if let Some(fill) = fill.clone().filter(|f| !matches!(f, Value::None))
            && i >= more
        {
            row.push(fill);
        }
        at = end;
        rows.push(list(cx, row)?);
    }
    iter(cx, rows)
}

/// An attribute given by its path, as in `map(attribute="a.0.b")`.
fn get(cx: &Cx, item: &Value, attribute: &Value, default: Option<&Value>) -> Outcome<Value> {
    let mut value = item.clone();
    let mut step = |key: &Value| -> Outcome<()> {
        value = access::item(cx, &value, key)?;
        if let (Value::Undefined(_), Some(d)) = (&value, default) {
            value = d.clone();
        }
        Ok(())
    };
    match attribute.as_str() {
        None => step(attribute)?,
        Some(path) => {
            for part in path.split('.') {
                match part.parse::<i128>() {
                    Ok(i) => step(&Value::Int(i))?,
                    Err(_) => step(&part.into())?,
                }
            }
        }
    }
    Ok(value)
}

fn folded(cx: &Cx, value: &Value, sensitive: bool) -> Value {
    match value.as_str() {
        Some(s) if !sensitive => case::lower(cx.mask, s).into(),
        _ => value.clone(),
    }
}

fn sort_key(cx: &Cx, item: &Value, attribute: Option<&Value>, sensitive: bool) -> Outcome<Value> {
    match attribute {
        None | Some(Value::None) => Ok(folded(cx, item, sensitive)),
        Some(attribute) => match attribute.as_str() {
            Some(paths) if paths.contains(',') => {
                let mut keys = vec![];
                for path in paths.split(',') {
                    keys.push(folded(cx, &get(cx, item, &path.into(), None)?, sensitive));
                }
                list(cx, keys)
            }
            _ => Ok(folded(cx, &get(cx, item, attribute, None)?, sensitive)),
        },
    }
}

fn map(cx: &Cx, value: &Value, mut args: CallArgs) -> Outcome<Value> {
    let mut out = vec![];
    // Jinja does not iterate over false values: `none|map` is empty.
    if !value.is_true(cx)? {
        return iter(cx, out);
    }
    if args.positional.is_empty() {
        let [attribute, default] = args.bind("map", ["attribute", "default"])?;
        let Some(attribute) = attribute else {
            return failed("map requires a filter argument");
        };
        for item in value.items(cx)? {
            cx.budget.step(1)?;
            out.push(get(cx, &item, &attribute, default.as_ref())?);
        }
        return iter(cx, out);
    }
    let name = text_of(&args.positional.remove(0), "map")?;
    if !filters::is_known(&name) {
        return unsupported(format!("the filter `{name}`"));
    }
    for item in value.items(cx)? {
        cx.budget.step(1)?;
        out.push(filters::filter(cx, &name, &item, args.clone())?);
    }
    iter(cx, out)
}

fn select(cx: &Cx, how: &str, value: &Value, mut args: CallArgs) -> Outcome<Value> {
    let attribute = if how.ends_with("attr") {
        if args.positional.is_empty() {
            return failed("Missing parameter for attribute name");
        }
        Some(args.positional.remove(0))
    } else {
        None
    };
    let name = if args.positional.is_empty() {
        None
    } else {
        Some(text_of(&args.positional.remove(0), how)?)
    };
    if let Some(name) = &name
        && !tests::is_known(name)
    {
        return unsupported(format!("the test `{name}`"));
    }
    let wanted = how.starts_with("select");
    let mut out = vec![];
    if !value.is_true(cx)? {
        return iter(cx, out);
    }
    for item in value.items(cx)? {
        cx.budget.step(1)?;
        let subject = match &attribute {
            Some(a) => get(cx, &item, a, None)?,
            None => item.clone(),
        };
        let is = match &name {
            Some(name) => tests::test(cx, name, &subject, &args.positional)?,
            None => subject.is_true(cx)?,
        };
        if is == wanted {
            out.push(item);
        }
    }
    iter(cx, out)
}

fn group(cx: &Cx, value: &Value, args: CallArgs) -> Outcome<Value> {
    let [attribute, default, case_sensitive] =
        args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let attribute = required(attribute, "groupby", "attribute")?;
    let sensitive = truth_or(cx, case_sensitive, false)?;
    let mut keyed = vec![];
    for item in value.items(cx)? {
        let key = get(cx, &item, &attribute, default.as_ref())?;
        keyed.push((folded(cx, &key, sensitive), item));
    }
    sort(cx, &mut keyed, false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = vec![];
    for (key, item) in keyed {
        match groups.last_mut() {
            Some((last, items)) if equal(cx, last, &key) => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = vec![];
    for (_, items) in groups {
        let key = get(cx, &items[0], &attribute, default.as_ref())?;
        let items = list(cx, items)?;
        out.push(tuple(cx, vec![key, items])?);
    }
    list(cx, out)
}
