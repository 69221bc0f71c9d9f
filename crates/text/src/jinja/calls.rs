//! Calls: functions, methods, macros, loops.

use std::cell::Cell;
use std::rc::Rc;

use super::args::{CallArgs, int_or, text_of};
use super::fault::{Kind, Outcome, failed, fault, unsupported};
use super::render::{Frame, Renderer};
use super::value::{MacroValue, Namespace, Value, dict, list, put, range_len, tuple};
use super::{list_methods, print, text_methods};

/// As in Jinja's sandbox.
const MAX_RANGE: usize = 100_000;

impl Renderer<'_> {
    pub fn call(&mut self, of: &Value, args: CallArgs) -> Outcome<Value> {
        match of {
            Value::Undefined(what) => failed(what.to_string()),
            Value::Macro(m) => self.call_macro(&m.clone(), args),
            Value::Method(m) => match m.0.as_str() {
                Some(text) => text_methods::call(&self.cx, text, m.1, args),
                None => list_methods::call(&self.cx, &m.0, m.1, args),
            },
            Value::Function(name) => self.call_function(name, args),
            Value::Loop(state) => {
                let [over] = args.bind("loop", ["iterable"])?;
                self.loop_again(&state.clone(), &over.unwrap_or(Value::None))
            }
            Value::Joiner(j) => {
                let used = j.1.replace(true);
                Ok(Value::Str(if used { j.0.clone() } else { "".into() }))
            }
            other => failed(format!("'{}' object is not callable", other.type_name())),
        }
    }

    fn call_macro(&mut self, value: &MacroValue, mut args: CallArgs) -> Outcome<Value> {
        let tree = self.tree;
        let it = &tree.macros[value.id];
        let symbol = |name: &str| tree.symbols.iter().position(|s| s == name);
        let frame = Frame::within(&value.frame);
        let set = |name: &str, value: Value| {
            if let Some(s) = symbol(name) {
                frame.set(s as u32, value);
            }
        };
        let caller = args.named.iter().position(|(n, _)| n == "caller");
        let caller = caller.map(|i| args.named.remove(i).1);
        if it.uses_caller {
            let missing = || Value::undefined("No caller defined");
            set("caller", caller.unwrap_or_else(missing));
        } else if caller.is_some() {
            return failed(format!(
                "macro '{}' was invoked with two values for the special caller argument or takes none",
                it.name
            ));
        }
        let count = it.params.len();
        let extra = if args.positional.len() > count {
            args.positional.split_off(count)
        } else {
            vec![]
        };
        if !extra.is_empty() && !it.uses_varargs {
            return failed(format!(
                "macro '{}' takes not more than {count} argument(s)",
                it.name
            ));
        }
        let mut positional = args.positional.into_iter();
        for (name, default) in &it.params {
            let spelt = &tree.symbols[*name as usize];
            let named = args.named.iter().position(|(n, _)| n == spelt);
            let value = match (positional.next(), named, default) {
                (Some(_), Some(_), _) => {
                    return failed(format!(
                        "macro '{}' got several values for argument '{spelt}'",
                        it.name
                    ));
                }
                (Some(v), None, _) => v,
                (None, Some(i), _) => args.named.remove(i).1,
                (None, None, Some(default)) => self.eval(default, &frame)?,
                (None, None, None) => {
                    Value::undefined(format!("parameter '{spelt}' was not provided"))
                }
            };
            frame.set(*name, value);
        }
        if it.uses_varargs {
            let extra = tuple(&self.cx, extra)?;
            set("varargs", extra);
        }
        if it.uses_kwargs {
            let named = args.named.into_iter().map(|(n, v)| (n.into(), v));
            let named = dict(&self.cx, named.collect())?;
            set("kwargs", named);
        } else if let Some((name, _)) = args.named.first() {
            return failed(format!(
                "macro '{}' takes no keyword argument '{name}'",
                it.name
            ));
        }
        Ok(self.captured(&it.body, &frame)?.into())
    }

    fn call_function(&mut self, name: &str, args: CallArgs) -> Outcome<Value> {
        match name {
            "range" => {
                if args.positional.is_empty() || !args.named.is_empty() {
                    return failed("range() takes positional arguments");
                }
                let one = args.positional.len() == 1;
                let [a, b, step] = args.bind(name, ["start", "stop", "step"])?;
                let (a, b) = (int_or(a.or(Some(Value::Int(0))), 0)?, int_or(b, 0)?);
                let (start, stop) = if one { (0, a) } else { (a, b) };
                let step = int_or(step, 1)?;
                let big = |n: i128| n.unsigned_abs() > 1 << 100;
                if step == 0 {
                    return failed("range() arg 3 must not be zero");
                }
                let range = [start, stop, step];
                if big(start) || big(stop) || range_len(&range) > MAX_RANGE {
                    return super::fault::limit(format!("a range of more than {MAX_RANGE}"));
                }
                Ok(Value::Range(Rc::new(range)))
            }
            "dict" => {
                let entries = self.entries(args)?;
                dict(&self.cx, entries)
            }
            "namespace" => {
                let namespace = Rc::new(Namespace::default());
                for (key, value) in self.entries(args)? {
                    namespace.set(&text_of(&key, name)?, value)?;
                }
                self.cx.budget.list(8)?;
                self.namespaces.push(namespace.clone());
                Ok(Value::Namespace(namespace))
            }
            "cycler" => {
                let items = list(&self.cx, args.positional)?;
                list_methods::cycler(items.items(&self.cx)?)
            }
            "joiner" => {
                let [by] = args.bind(name, ["sep"])?;
                let by = by.map_or(Ok(", ".into()), |v| text_of(&v, name))?;
                Ok(Value::Joiner(Rc::new((by, Cell::new(false)))))
            }
            "raise_exception" => {
                let [message] = args.bind(name, ["message"])?;
                let message = message.unwrap_or(Value::None);
                let message = print::text(&self.cx, &message)?;
                let open = self.cx.mask.open_text(&message).into_owned();
                fault(Kind::Raised, open)
            }
            "strftime_now" => {
                let [format] = args.bind(name, ["format"])?;
                let format = text_of(&format.unwrap_or(Value::None), name)?;
                let text = self.cx.now.strftime(&format);
                self.cx.budget.text(text.len())?;
                Ok(text.into())
            }
            other => unsupported(format!("the function `{other}`")),
        }
    }

    /// Arguments of `dict` and `namespace`: a mapping or pairs, and keyword arguments.
    fn entries(&mut self, args: CallArgs) -> Outcome<Vec<(Value, Value)>> {
        let mut entries = vec![];
        for value in args.positional {
            match &value {
                Value::Dict(d) => {
                    for (k, v) in &d.entries {
                        put(&self.cx, &mut entries, k.clone(), v.clone())?;
                    }
                }
                other => {
                    for pair in other.items(&self.cx)? {
                        let mut pair = pair.items(&self.cx)?;
                        let (Some(v), Some(k), true) = (pair.pop(), pair.pop(), pair.is_empty())
                        else {
                            return failed("dictionary update sequence element is not a pair");
                        };
                        put(&self.cx, &mut entries, k, v)?;
                    }
                }
            }
        }
        for (name, value) in args.named {
            put(&self.cx, &mut entries, name.into(), value)?;
        }
        Ok(entries)
    }
}
