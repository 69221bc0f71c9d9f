//! Parses expressions, with Jinja's precedence.

use super::ast::{Binary, Compare, Expr, ExprKind};
use super::fault::Outcome;
use super::lexer::Tok;
use super::parser::Parser;

impl Parser {
    pub(super) fn expression(&mut self) -> Outcome<Expr> {
        self.deeper(Self::conditional)
    }

    /// One expression, or several separated by commas; `()` is allowed if `parenthesised`.
    pub(super) fn tuple(&mut self, with_condition: bool, parenthesised: bool) -> Outcome<Expr> {
        let line = self.line();
        let mut items: Vec<Expr> = vec![];
        let mut is_tuple = false;
        loop {
            if matches!(self.peek(), Tok::BlockEnd | Tok::PrintEnd) || self.is_op(")") {
                break;
            }
            items.push(if with_condition {
                self.expression()?
            } else {
                self.deeper(Self::or)?
            });
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            if let Some(only) = items.pop() {
                return Ok(only);
            }
            if !parenthesised {
                return self.unexpected("an expression");
            }
        }
        self.many(line, items, ExprKind::Tuple)
    }

    /// The iterable of a `for`: `recursive` ends it, and an `if` belongs to the loop.
    pub(super) fn tuple_until_recursive(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let first = self.deeper(Self::or)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op(",") {
            if matches!(self.peek(), Tok::BlockEnd) || self.is_name("recursive") {
                break;
            }
            items.push(self.deeper(Self::or)?);
        }
        self.many(line, items, ExprKind::Tuple)
    }

    pub(super) fn many(
        &self,
        line: usize,
        items: Vec<Expr>,
        kind: impl FnOnce(Vec<Expr>) -> ExprKind,
    ) -> Outcome<Expr> {
        let height = items.iter().map(|e| e.height).max().unwrap_or(0) + 1;
        self.made(line, height, kind(items))
    }

    pub(super) fn two(
        &self,
        line: usize,
        a: Expr,
        b: Expr,
        kind: impl FnOnce(Expr, Expr) -> ExprKind,
    ) -> Outcome<Expr> {
        let height = a.height.max(b.height) + 1;
        self.made(line, height, kind(a, b))
    }

    pub(super) fn one(
        &self,
        line: usize,
        a: Expr,
        kind: impl FnOnce(Expr) -> ExprKind,
    ) -> Outcome<Expr> {
        let height = a.height + 1;
        self.made(line, height, kind(a))
    }

    fn conditional(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let unknown = self.unknown.len();
        let mut value = self.or()?;
        while self.skip_name("if") {
            // The expression before an `if` may never run.
            self.unknown.truncate(unknown);
            let soft = std::mem::replace(&mut self.soft, true);
            let condition = self.or()?;
            let other = if self.skip_name("else") {
                Some(self.deeper(Self::conditional)?)
            } else {
                None
            };
            self.soft = soft;
            let height = [Some(&value), Some(&condition), other.as_ref()];
            let height = height.iter().flatten().map(|e| e.height).max().unwrap_or(0) + 1;
            value = self.made(line, height, ExprKind::Cond(condition, value, other))?;
        }
        Ok(value)
    }

    fn or(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let mut left = self.and()?;
        while self.skip_name("or") {
            let right = self.and()?;
            left = self.two(line, left, right, ExprKind::Or)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let mut left = self.not()?;
        while self.skip_name("and") {
            let right = self.not()?;
            left = self.two(line, left, right, ExprKind::And)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Outcome<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let inner = self.deeper(Self::not)?;
            return self.one(line, inner, ExprKind::Not);
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = vec![];
        loop {
            let op = match self.peek() {
                Tok::Op("==") => Compare::Eq,
                Tok::Op("!=") => Compare::Ne,
                Tok::Op("<") => Compare::Lt,
                Tok::Op("<=") => Compare::Le,
                Tok::Op(">") => Compare::Gt,
                Tok::Op(">=") => Compare::Ge,
                Tok::Name(n) if n == "in" => Compare::In,
                Tok::Name(n)
                    if n == "not" && matches!(self.peek_second(), Tok::Name(n) if n == "in") =>
                {
                    self.next();
                    Compare::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((op, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let height = rest.iter().map(|(_, e)| e.height).max().unwrap_or(0);
        let height = height.max(first.height) + 1;
        self.made(line, height, ExprKind::Compare(first, rest))
    }

    fn sum(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let mut left = self.concat()?;
        loop {
            let op = match self.peek() {
                Tok::Op("+") => Binary::Add,
                Tok::Op("-") => Binary::Sub,
                _ => return Ok(left),
            };
            self.next();
            let right = self.concat()?;
            left = self.two(line, left, right, |a, b| ExprKind::Binary(op, a, b))?;
        }
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        self.many(line, parts, ExprKind::Concat)
    }

    fn product(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let mut left = self.power()?;
        loop {
            let op = match self.peek() {
                Tok::Op("*") => Binary::Mul,
                Tok::Op("/") => Binary::Div,
                Tok::Op("//") => Binary::FloorDiv,
                Tok::Op("%") => Binary::Mod,
                _ => return Ok(left),
            };
            self.next();
            let right = self.power()?;
            left = self.two(line, left, right, |a, b| ExprKind::Binary(op, a, b))?;
        }
    }

    fn power(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let mut left = self.unary(true)?;
        while self.skip_op("**") {
            let right = self.unary(true)?;
            left = self.two(line, left, right, |a, b| {
                ExprKind::Binary(Binary::Pow, a, b)
            })?;
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Outcome<Expr> {
        let line = self.line();
        let node = if self.skip_op("-") {
            let inner = self.deeper(|p| p.unary(false))?;
            self.one(line, inner, ExprKind::Neg)?
        } else if self.skip_op("+") {
            let inner = self.deeper(|p| p.unary(false))?;
            self.one(line, inner, ExprKind::Pos)?
        } else {
            self.primary()?
        };
        let node = self.postfix(node)?;
        if with_filters {
            self.filters(node)
        } else {
            Ok(node)
        }
    }

    pub(super) fn primary(&mut self) -> Outcome<Expr> {
        let line = self.line();
        let kind = match self.peek().clone() {
            Tok::Name(name) => {
                self.next();
                match name.as_str() {
                    "true" | "True" => ExprKind::Bool(true),
                    "false" | "False" => ExprKind::Bool(false),
                    "none" | "None" => ExprKind::None,
                    _ => {
                        let symbol = self.symbol(&name);
                        self.read.push(symbol);
                        ExprKind::Name(symbol)
                    }
                }
            }
            Tok::Str(mut text) => {
                self.next();
                while let Tok::Str(more) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                ExprKind::Str(text)
            }
            Tok::Int(n) => {
                self.next();
                ExprKind::Int(n)
            }
            Tok::Float(n) => {
                self.next();
                ExprKind::Float(n)
            }
            Tok::Op("(") => {
                self.next();
                let inner = self.tuple(true, true)?;
                self.expect_op(")")?;
                return Ok(inner);
            }
            Tok::Op("[") => {
                self.next();
                let items = self.items("]", Self::expression)?;
                return self.many(line, items, ExprKind::List);
            }
            Tok::Op("{") => {
                self.next();
                let pairs = self.items("}", |p| {
                    let key = p.expression()?;
                    p.expect_op(":")?;
                    Ok((key, p.expression()?))
                })?;
                let height = pairs.iter().map(|(k, v)| k.height.max(v.height)).max();
                return self.made(line, height.unwrap_or(0) + 1, ExprKind::Dict(pairs));
            }
            _ => return self.unexpected("an expression"),
        };
        self.made(line, 1, kind)
    }

    fn items<T>(
        &mut self,
        end: &str,
        mut item: impl FnMut(&mut Self) -> Outcome<T>,
    ) -> Outcome<Vec<T>> {
        let mut items = vec![];
        while !self.skip_op(end) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.skip_op(end) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }
}
