//! Evaluates expressions.

use std::rc::Rc;

use super::args::CallArgs;
use super::ast::{Args, Expr, ExprKind};
use super::fault::{Outcome, failed};
use super::render::{Frame, Renderer};
use super::value::{Value, dict, list, put, tuple};
use super::{access, filters, ops, print, tests};

/// Functions available in every template.
const FUNCTIONS: [&str; 8] = [
    "lipsum",
    "range",
    "dict",
    "namespace",
    "cycler",
    "joiner",
    "raise_exception",
    "strftime_now",
];

impl<'a> Renderer<'a> {
    pub fn eval(&mut self, expr: &'a Expr, frame: &Rc<Frame>) -> Outcome<Value> {
        self.enter()?;
        let result = self.eval_kind(&expr.kind, frame);
        self.leave();
        Self::at_line(result, expr.line)
    }

    fn all(&mut self, exprs: &'a [Expr], frame: &Rc<Frame>) -> Outcome<Vec<Value>> {
        exprs.iter().map(|e| self.eval(e, frame)).collect()
    }

    fn eval_kind(&mut self, kind: &'a ExprKind, frame: &Rc<Frame>) -> Outcome<Value> {
        match kind {
            ExprKind::None => Ok(Value::None),
            ExprKind::Bool(b) => Ok(Value::Bool(*b)),
            ExprKind::Int(i) => Ok(Value::Int(*i)),
            ExprKind::Float(f) => Ok(Value::Float(*f)),
            ExprKind::Str(s) => Ok(s.as_str().into()),
            ExprKind::Hole => Ok(self.holes.last().cloned().unwrap_or(Value::None)),
            ExprKind::Name(symbol) => Ok(frame.get(*symbol).unwrap_or_else(|| {
                let name = &self.tree.symbols[*symbol as usize];
                match FUNCTIONS.iter().find(|f| *f == name) {
                    Some(f) => Value::Function(f),
                    None => Value::undefined(format!("'{name}' is undefined")),
                }
            })),
            ExprKind::Not(inner) => {
                let inner = self.eval(inner, frame)?.is_true(&self.cx)?;
                Ok(Value::Bool(!inner))
            }
            ExprKind::And(a, b) => {
                let left = self.eval(a, frame)?;
                if left.is_true(&self.cx)? {
                    self.eval(b, frame)
                } else {
                    Ok(left)
                }
            }
            ExprKind::Or(a, b) => {
                let left = self.eval(a, frame)?;
                if left.is_true(&self.cx)? {
                    Ok(left)
                } else {
                    self.eval(b, frame)
                }
            }
            ExprKind::Cond(condition, value, other) => {
                if self.eval(condition, frame)?.is_true(&self.cx)? {
                    return self.eval(value, frame);
                }
                match other {
                    Some(other) => self.eval(other, frame),
                    None => Ok(Value::undefined(
                        "the inline if-expression evaluated to false and no else section was defined.",
                    )),
                }
            }
            _ => self.eval_compound(kind, frame),
        }
    }

    /// A separate function, so that nested conditions use little stack.
    #[inline(never)]
    fn eval_compound(&mut self, kind: &'a ExprKind, frame: &Rc<Frame>) -> Outcome<Value> {
        match kind {
            ExprKind::List(items) => {
                let items = self.all(items, frame)?;
                list(&self.cx, items)
            }
            ExprKind::Tuple(items) => {
                let items = self.all(items, frame)?;
                tuple(&self.cx, items)
            }
            ExprKind::Dict(pairs) => {
                let mut entries = vec![];
                for (key, value) in pairs {
                    let key = self.eval(key, frame)?;
                    let value = self.eval(value, frame)?;
                    put(&self.cx, &mut entries, key, value)?;
                }
                dict(&self.cx, entries)
            }
            ExprKind::Neg(inner) => ops::negate(&self.eval(inner, frame)?),
            ExprKind::Pos(inner) => {
                let value = self.eval(inner, frame)?;
                match (&value, value.as_int()) {
                    (_, Some(i)) => Ok(Value::Int(i)),
                    (Value::Float(_), _) => Ok(value),
                    (Value::Undefined(what), _) => failed(what.to_string()),
                    _ => failed(format!(
                        "bad operand type for unary +: '{}'",
                        value.type_name()
                    )),
                }
            }
            ExprKind::Binary(op, a, b) => {
                let a = self.eval(a, frame)?;
                let b = self.eval(b, frame)?;
                ops::binary(&self.cx, *op, &a, &b)
            }
            ExprKind::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    let value = self.eval(part, frame)?;
                    print::write_text(&self.cx, &mut text, &value)?;
                }
                self.cx.budget.text(text.len())?;
                Ok(text.into())
            }
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first, frame)?;
                for (op, right) in rest {
                    let right = self.eval(right, frame)?;
                    if !ops::compare(&self.cx, *op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            ExprKind::Attribute(of, name) => {
                let of = self.eval(of, frame)?;
                access::attribute(&self.cx, &of, name)
            }
            ExprKind::Item(of, key) => {
                let of = self.eval(of, frame)?;
                let key = self.eval(key, frame)?;
                access::item(&self.cx, &of, &key)
            }
            ExprKind::Slice(of, parts) => {
                let of = self.eval(of, frame)?;
                let mut values = [Value::None, Value::None, Value::None];
                for (value, part) in values.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        *value = self.eval(part, frame)?;
                    }
                }
                access::slice(&self.cx, &of, values.each_ref())
            }
            ExprKind::Filter(of, name, args) => {
                let of = self.eval(of, frame)?;
                let args = self.args(args, frame)?;
                filters::filter(&self.cx, name, &of, args)
            }
            ExprKind::Test(of, name, args) => {
                let of = self.eval(of, frame)?;
                let args = self.args(args, frame)?;
                tests::test(&self.cx, name, &of, &args.positional).map(Value::Bool)
            }
            ExprKind::Call(of, args) => {
                let of = self.eval(of, frame)?;
                let args = self.args(args, frame)?;
                self.call(&of, args)
            }
            // The rest is handled by `eval_kind`.
            _ => Ok(Value::None),
        }
    }

    pub fn args(&mut self, args: &'a Args, frame: &Rc<Frame>) -> Outcome<CallArgs> {
        let mut out = CallArgs {
            positional: self.all(&args.positional, frame)?,
            named: vec![],
        };
        for (name, value) in &args.named {
            out.named.push((name.clone(), self.eval(value, frame)?));
        }
        if let Some(star) = &args.star {
            let more = self.eval(star, frame)?.items(&self.cx)?;
            out.positional.extend(more);
        }
        if let Some(star_star) = &args.star_star {
            let Value::Dict(d) = self.eval(star_star, frame)? else {
                return failed("argument after `**` must be a mapping");
            };
            for (key, value) in &d.entries {
                let Some(key) = key.as_str() else {
                    return failed("keywords must be strings");
                };
                out.named.push((key.to_string(), value.clone()));
            }
        }
        Ok(out)
    }

    /// `{% call %}`: the call with the block's body as its `caller`.
    pub fn call_with(
        &mut self,
        call: &'a Expr,
        caller: Option<Value>,
        frame: &Rc<Frame>,
    ) -> Outcome<Value> {
        let ExprKind::Call(of, args) = &*call.kind else {
            return failed("nothing is called");
        };
        let of = self.eval(of, frame)?;
        let mut args = self.args(args, frame)?;
        if let Some(caller) = caller {
            args.named.push(("caller".into(), caller));
        }
        self.call(&of, args)
    }
}
