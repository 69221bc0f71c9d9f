//! Arguments of a call, bound to parameter names.

use super::cx::Cx;
use super::fault::{Outcome, failed};
use super::value::Value;

#[derive(Debug, Default, Clone)]
pub struct CallArgs {
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
}

impl CallArgs {
    /// The argument for each parameter, if given.
    pub fn bind<const N: usize>(
        self,
        function: &str,
        names: [&str; N],
    ) -> Outcome<[Option<Value>; N]> {
        let mut out = [const { None }; N];
        if self.positional.len() > N {
            return failed(format!(
                "{function}() takes at most {N} arguments, {} given",
                self.positional.len()
            ));
        }
        for (slot, value) in out.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|n| *n == name) {
                Some(i) if out[i].is_none() => out[i] = Some(value),
                Some(_) => {
                    return failed(format!(
                        "{function}() got several values for argument '{name}'"
                    ));
                }
                None => {
                    return failed(format!(
                        "{function}() got an unexpected keyword argument '{name}'"
                    ));
                }
            }
        }
        Ok(out)
    }
}

/// A required argument.
pub fn required(value: Option<Value>, function: &str, name: &str) -> Outcome<Value> {
    match value {
        Some(v) => Ok(v),
        None => failed(format!("{function}() is missing its argument '{name}'")),
    }
}

/// An integer, or a default.
pub fn int_or(value: Option<Value>, default: i128) -> Outcome<i128> {
    match value {
        None | Some(Value::None) => Ok(default),
        Some(v) => match v.as_int() {
            Some(i) => Ok(i),
            None => failed(format!(
                "'{}' object cannot be interpreted as an integer",
                v.type_name()
            )),
        },
    }
}

/// A value's truth, or a default.
pub fn truth_or(cx: &Cx, value: Option<Value>, default: bool) -> Outcome<bool> {
    value.map_or(Ok(default), |v| v.is_true(cx))
}

pub fn text_of(value: &Value, function: &str) -> Outcome<std::rc::Rc<str>> {
    match value.as_str() {
        Some(s) => Ok(s.clone()),
        None => failed(format!(
            "{function}() expects a str, not {}",
            value.type_name()
        )),
    }
}
