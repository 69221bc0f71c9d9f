//! The Python values that occur in templates.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::Value as Json;

use super::cx::Cx;
use super::fault::{MAX_VALUE_DEPTH, Outcome, failed, limit};
use super::render::{Frame, LoopState};

#[derive(Debug, Clone)]
pub enum Value {
    /// With the message of an error about it.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    /// A string marked as HTML by `safe` or `escape`.
    Markup(Rc<str>),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Dict>),
    /// `dict.keys()`, `values()`, `items()`.
    View(&'static str, Rc<Seq>),
    /// A generator: its remaining items, last first.
    Iter(Rc<RefCell<Vec<Value>>>),
    Range(Rc<[i128; 3]>),
    Namespace(Rc<Namespace>),
    Loop(Rc<LoopState>),
    Macro(Rc<MacroValue>),
    Method(Rc<(Value, &'static str)>),
    Function(&'static str),
    /// Values, and the index of the next one.
    Cycler(Rc<(Vec<Value>, Cell<usize>)>),
    Joiner(Rc<(Rc<str>, Cell<bool>)>),
}

#[derive(Debug)]
pub struct Seq {
    pub items: Vec<Value>,
    depth: usize,
    hashable: bool,
}

#[derive(Debug, Default)]
pub struct Dict {
    pub entries: Vec<(Value, Value)>,
    depth: usize,
}

#[derive(Debug, Default)]
pub struct Namespace {
    pub values: RefCell<Vec<(Rc<str>, Value)>>,
    depth: Cell<usize>,
}

#[derive(Debug)]
pub struct MacroValue {
    pub id: usize,
    pub name: Rc<str>,
    pub arguments: Value,
    /// Where it was defined.
    pub frame: Rc<Frame>,
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(s) | Value::Tuple(s) | Value::View(_, s) => s.depth,
        Value::Dict(d) => d.depth,
        Value::Namespace(n) => n.depth.get(),
        Value::Iter(i) => i.borrow().iter().map(depth).max().unwrap_or(0) + 1,
        Value::Method(m) => depth(&m.0) + 1,
        Value::Cycler(c) => c.0.iter().map(depth).max().unwrap_or(0) + 1,
        Value::Loop(l) => l.depth_of_values(depth),
        _ => 0,
    }
}

/// Deeply nested values would be dropped, compared and printed with equally deep recursion.
fn checked(depth: usize) -> Outcome<usize> {
    if depth >= MAX_VALUE_DEPTH {
        return limit(format!("more than {MAX_VALUE_DEPTH} levels of lists"));
    }
    Ok(depth + 1)
}

pub fn seq(cx: &Cx, items: Vec<Value>) -> Outcome<Rc<Seq>> {
    cx.budget.list(items.len())?;
    let depth = checked(items.iter().map(depth).max().unwrap_or(0))?;
    let hashable = items.iter().all(is_hashable);
    Ok(Rc::new(Seq {
        items,
        depth,
        hashable,
    }))
}

pub fn list(cx: &Cx, items: Vec<Value>) -> Outcome<Value> {
    Ok(Value::List(seq(cx, items)?))
}

pub fn tuple(cx: &Cx, items: Vec<Value>) -> Outcome<Value> {
    Ok(Value::Tuple(seq(cx, items)?))
}

pub fn iter(cx: &Cx, mut items: Vec<Value>) -> Outcome<Value> {
    cx.budget.list(items.len())?;
    checked(items.iter().map(depth).max().unwrap_or(0))?;
    items.reverse();
    Ok(Value::Iter(Rc::new(RefCell::new(items))))
}

/// A mapping from entries with distinct keys.
pub fn dict(cx: &Cx, entries: Vec<(Value, Value)>) -> Outcome<Value> {
    cx.budget.list(2 * entries.len())?;
    let deepest = entries.iter().map(|(k, v)| depth(k).max(depth(v)));
    let depth = checked(deepest.max().unwrap_or(0))?;
    Ok(Value::Dict(Rc::new(Dict { entries, depth })))
}

/// Inserts an entry, as `entries[key] = value` does.
pub fn put(cx: &Cx, entries: &mut Vec<(Value, Value)>, key: Value, value: Value) -> Outcome<()> {
    if !is_hashable(&key) {
        return failed(format!("unhashable type: '{}'", key.type_name()));
    }
    cx.budget.step(entries.len() / 4 + 1)?;
    match entries.iter_mut().find(|(k, _)| equal(cx, k, &key)) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
    Ok(())
}

pub fn is_hashable(value: &Value) -> bool {
    match value {
        Value::List(_) | Value::Dict(_) => false,
        Value::Tuple(s) => s.hashable,
        _ => true,
    }
}

impl Namespace {
    pub fn get(&self, name: &str) -> Option<Value> {
        let values = self.values.borrow();
        let found = values.iter().find(|(n, _)| &**n == name);
        found.map(|(_, v)| v.clone())
    }

    pub fn set(&self, name: &str, value: Value) -> Outcome<()> {
        if name.starts_with('_') {
            return failed(format!("a namespace cannot hold `{name}`"));
        }
        let depth = checked(depth(&value))?;
        self.depth.set(self.depth.get().max(depth));
        let mut values = self.values.borrow_mut();
        match values.iter_mut().find(|(n, _)| &**n == name) {
            Some(entry) => entry.1 = value,
            None => values.push((name.into(), value)),
        }
        Ok(())
    }
}

impl Dict {
    pub fn get(&self, cx: &Cx, key: &Value) -> Outcome<Option<Value>> {
        cx.budget.step(self.entries.len() / 8 + 1)?;
        let found = self.entries.iter().find(|(k, _)| equal(cx, k, key));
        Ok(found.map(|(_, v)| v.clone()))
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::Str(s.into())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::Str(s.into())
    }
}

impl Value {
    pub fn undefined(what: impl Into<String>) -> Self {
        Self::Undefined(what.into().into())
    }

    pub fn from_json(cx: &Cx, json: &Json) -> Outcome<Self> {
        Ok(match json {
            Json::Null => Self::None,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => {
                if let Some(i) = n.as_i64() {
                    Self::Int(i.into())
                } else if let Some(u) = n.as_u64() {
                    Self::Int(u.into())
                } else {
                    Self::Float(n.as_f64().unwrap_or(f64::NAN))
                }
            }
            Json::String(s) => {
                cx.budget.text(s.len())?;
                s.as_str().into()
            }
            Json::Array(items) => {
                let items = items.iter().map(|i| Self::from_json(cx, i));
                let items = items.collect::<Outcome<Vec<_>>>()?;
                list(cx, items)?
            }
            Json::Object(map) => {
                let entry =
                    |(k, v): (&String, &Json)| Ok((k.as_str().into(), Self::from_json(cx, v)?));
                let entries = map.iter().map(entry).collect::<Outcome<Vec<_>>>()?;
                dict(cx, entries)?
            }
        })
    }

    pub fn as_str(&self) -> Option<&Rc<str>> {
        match self {
            Self::Str(s) | Self::Markup(s) => Some(s),
            _ => None,
        }
    }

    /// A number usable as an index: booleans are 0 and 1.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(i) => Some(*i),
            Self::Bool(b) => Some((*b).into()),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(f) => Some(*f),
            other => other.as_int().map(|i| i as f64),
        }
    }

    pub fn is_true(&self, cx: &Cx) -> Outcome<bool> {
        Ok(match self {
            Self::Undefined(what) if cx.strict => return failed(what.to_string()),
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Float(f) => *f != 0.0,
            Self::Iter(_) => true,
            other => match other.as_int() {
                Some(i) => i != 0,
                None => other.len(cx).is_none_or(|n| n > 0),
            },
        })
    }

    /// The result of `len()`, if defined.
    pub fn len(&self, cx: &Cx) -> Option<usize> {
        Some(match self {
            Self::Undefined(_) => 0,
            Self::Str(s) | Self::Markup(s) => {
                cx.budget.goes_on(s.len() / 512);
                s.chars().count()
            }
            Self::List(s) | Self::Tuple(s) | Self::View(_, s) => s.items.len(),
            Self::Dict(d) => d.entries.len(),
            Self::Range(r) => range_len(r),
            Self::Loop(l) => l.length(),
            _ => return None,
        })
    }

    /// The items that a `for` iterates over. A generator is empty afterwards.
    pub fn items(&self, cx: &Cx) -> Outcome<Vec<Self>> {
        let count = self.len(cx).unwrap_or(0);
        cx.budget.step(count)?;
        // Each character becomes a separate string.
        let each = if self.as_str().is_some() { 2 } else { 1 };
        cx.budget.list(each * count)?;
        Ok(match self {
            Self::Undefined(_) => vec![],
            Self::Str(s) | Self::Markup(s) => {
                let mut buffer = [0; 4];
                s.chars()
                    .map(|c| (&*c.encode_utf8(&mut buffer)).into())
                    .collect()
            }
            Self::List(s) | Self::Tuple(s) | Self::View(_, s) => s.items.clone(),
            Self::Dict(d) => d.entries.iter().map(|(k, _)| k.clone()).collect(),
            Self::Iter(i) => i.borrow_mut().drain(..).rev().collect(),
            Self::Range(r) => (0..range_len(r) as i128)
                .map(|i| Self::Int(r[0] + i * r[2]))
                .collect(),
            other => return failed(format!("'{}' object is not iterable", other.type_name())),
        })
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Markup(_) => "Markup",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::View(name, _) => name,
            Self::Iter(_) => "generator",
            Self::Range(_) => "range",
            Self::Namespace(_) => "TemplateNamespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Method(_) => "builtin_function_or_method",
            Self::Function(_) => "function",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
        }
    }
}

pub fn range_len(r: &[i128; 3]) -> usize {
    let [start, stop, step] = *r;
    let span = if step > 0 { stop - start } else { start - stop };
    let step = step.abs().max(1);
    usize::try_from((span.max(0) + step - 1) / step).unwrap_or(usize::MAX)
}

/// Python's `==`.
pub fn equal(cx: &Cx, a: &Value, b: &Value) -> bool {
    use Value as V;
    if !cx.budget.goes_on(1) {
        return false;
    }
    match (a, b) {
        (V::Undefined(_), V::Undefined(_)) | (V::None, V::None) => true,
        (V::Str(a) | V::Markup(a), V::Str(b) | V::Markup(b)) => cx.mask.same(a, b),
        (V::List(a), V::List(b)) | (V::Tuple(a), V::Tuple(b)) => {
            Rc::ptr_eq(a, b) || equal_lists(cx, &a.items, &b.items)
        }
        (V::View(ka, a), V::View(kb, b)) => ka == kb && equal_lists(cx, &a.items, &b.items),
        (V::Dict(a), V::Dict(b)) => {
            Rc::ptr_eq(a, b)
                || a.entries.len() == b.entries.len()
                    && a.entries.iter().all(|(k, v)| {
                        let other = b.entries.iter().find(|(o, _)| equal(cx, o, k));
                        other.is_some_and(|(_, o)| equal(cx, v, o))
                    })
        }
        (V::Range(a), V::Range(b)) => {
            let key = |r: &[i128; 3]| match range_len(r) {
                0 => (0, 0, 0),
                1 => (1, r[0], 0),
                n => (n, r[0], r[2]),
            };
            key(a) == key(b)
        }
        (V::Function(a), V::Function(b)) => a == b,
        (V::Iter(a), V::Iter(b)) => Rc::ptr_eq(a, b),
        (V::Namespace(a), V::Namespace(b)) => Rc::ptr_eq(a, b),
        (V::Macro(a), V::Macro(b)) => Rc::ptr_eq(a, b),
        (V::Loop(a), V::Loop(b)) => Rc::ptr_eq(a, b),
        _ => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => match (a.as_float(), b.as_float()) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        },
    }
}

fn equal_lists(cx: &Cx, a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(cx, a, b))
}
