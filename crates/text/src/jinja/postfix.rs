//! Parses suffixes of expressions: attributes, items, calls, filters, tests.

use super::ast::{Args, Expr, ExprKind};
use super::fault::{Kind, Outcome, fault, unsupported};
use super::lexer::Tok;
use super::parser::Parser;
use super::{filters, tests};

impl Parser {
    pub(super) fn postfix(&mut self, mut node: Expr) -> Outcome<Expr> {
        loop {
            let line = self.line();
            node = if self.skip_op(".") {
                match self.next() {
                    Tok::Name(name) => self.one(line, node, |n| ExprKind::Attribute(n, name))?,
                    Tok::Int(n) => {
                        let index = self.made(line, 1, ExprKind::Int(n))?;
                        self.two(line, node, index, ExprKind::Item)?
                    }
                    _ => return fault(Kind::Syntax, "expected a name or a number after `.`"),
                }
            } else if self.skip_op("[") {
                self.subscript(line, node)?
            } else if self.is_op("(") {
                self.call(node)?
            } else {
                return Ok(node);
            };
        }
    }

    fn subscript(&mut self, line: usize, node: Expr) -> Outcome<Expr> {
        let mut parts: [Option<Expr>; 3] = [None, None, None];
        let mut colons = 0;
        loop {
            if self.skip_op("]") {
                break;
            }
            if self.skip_op(":") {
                colons += 1;
                if colons > 2 {
                    return fault(Kind::Syntax, "too many `:` in a slice");
                }
            } else if self.is_op(",") {
                return unsupported("an index of several parts");
            } else if parts[colons].is_none() {
                parts[colons] = Some(self.expression()?);
            } else {
                return self.unexpected("`]`");
            }
        }
        let height = parts.iter().flatten().map(|e| e.height).max().unwrap_or(0);
        let height = height.max(node.height) + 1;
        if colons > 0 {
            return self.made(line, height, ExprKind::Slice(node, parts));
        }
        match parts {
            [Some(index), ..] => self.made(line, height, ExprKind::Item(node, index)),
            _ => self.unexpected("an index"),
        }
    }

    fn call(&mut self, node: Expr) -> Outcome<Expr> {
        let line = self.line();
        let (args, height) = self.args()?;
        let height = height.max(node.height) + 1;
        self.made(line, height, ExprKind::Call(node, args))
    }

    fn args(&mut self) -> Outcome<(Args, usize)> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut height = 0;
        let mut first = true;
        while !self.skip_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            first = false;
            let is_named = matches!(
                (self.peek(), self.peek_second()),
                (Tok::Name(_), Tok::Op("="))
            );
            if self.skip_op("*") {
                let value = self.expression()?;
                height = height.max(value.height);
                args.star = Some(value);
            } else if self.skip_op("**") {
                let value = self.expression()?;
                height = height.max(value.height);
                args.star_star = Some(value);
            } else if is_named {
                let name = self.name()?;
                self.next();
                let value = self.expression()?;
                height = height.max(value.height);
                args.named.push((name, value));
            } else if args.named.is_empty() && args.star.is_none() && args.star_star.is_none() {
                let value = self.expression()?;
                height = height.max(value.height);
                args.positional.push(value);
            } else {
                return fault(Kind::Syntax, "positional argument after keyword arguments");
            }
        }
        Ok((args, height))
    }

    pub(super) fn filters(&mut self, mut node: Expr) -> Outcome<Expr> {
        loop {
            node = if self.skip_op("|") {
                self.filter(node)?
            } else if self.is_name("is") {
                self.test(node)?
            } else if self.is_op("(") {
                self.call(node)?
            } else {
                return Ok(node);
            };
        }
    }

    /// A filter whose `|` has been read.
    pub(super) fn filter(&mut self, node: Expr) -> Outcome<Expr> {
        let line = self.line();
        let name = self.dotted()?;
        if !self.soft && !filters::is_known(&name) {
            self.unknown.push(format!("the filter `{name}`"));
        }
        let (args, height) = if self.is_op("(") {
            self.args()?
        } else {
            (Args::default(), 0)
        };
        let height = height.max(node.height) + 1;
        self.made(line, height, ExprKind::Filter(node, name, args))
    }

    fn dotted(&mut self) -> Outcome<String> {
        let mut name = self.name()?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    fn test(&mut self, node: Expr) -> Outcome<Expr> {
        let line = self.line();
        self.next();
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        if !self.soft && !tests::is_known(&name) {
            self.unknown.push(format!("the test `{name}`"));
        }
        let takes = match self.peek() {
            Tok::Name(n) => !matches!(n.as_str(), "else" | "or" | "and" | "is"),
            Tok::Str(_) | Tok::Int(_) | Tok::Float(_) => true,
            Tok::Op(o) => matches!(*o, "[" | "{"),
            _ => false,
        };
        if self.is_name("is") {
            return fault(Kind::Syntax, "chained tests");
        }
        let (args, height) = if self.is_op("(") {
            self.args()?
        } else if takes {
            let arg = self.primary()?;
            let arg = self.postfix(arg)?;
            let height = arg.height;
            let positional = vec![arg];
            (
                Args {
                    positional,
                    ..Args::default()
                },
                height,
            )
        } else {
            (Args::default(), 0)
        };
        let height = height.max(node.height) + 1;
        let test = self.made(line, height, ExprKind::Test(node, name, args))?;
        if negated {
            return self.one(line, test, ExprKind::Not);
        }
        Ok(test)
    }
}
