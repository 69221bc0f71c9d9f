//! Parses statements.

use super::ast::{Expr, ExprKind, For, Macro, Stmt, StmtKind, Symbol, Target};
use super::fault::{Kind, Outcome, fault, unsupported};
use super::lexer::Tok;
use super::parser::Parser;

impl Parser {
    fn block_end(&mut self) -> Outcome<()> {
        if *self.peek() == Tok::BlockEnd {
            self.next();
            return Ok(());
        }
        self.unexpected("`%}`")
    }

    /// Statements up to one of the tags `ends`, whose name is not consumed.
    pub(super) fn body(&mut self, ends: &[&str]) -> Outcome<Vec<Stmt>> {
        self.deeper(|p| p.statements(ends))
    }

    fn statements(&mut self, ends: &[&str]) -> Outcome<Vec<Stmt>> {
        let mut out = vec![];
        loop {
            let line = self.line();
            match self.next() {
                Tok::Eof if ends.is_empty() => return Ok(out),
                Tok::Eof => {
                    return fault(Kind::Syntax, format!("missing `{}`", ends[0]));
                }
                Tok::Data(text) => out.push(Stmt {
                    line,
                    kind: StmtKind::Data(text),
                }),
                Tok::PrintBegin => {
                    let value = self.tuple(true, false)?;
                    if self.next() != Tok::PrintEnd {
                        self.at -= 1;
                        return self.unexpected("`}}`");
                    }
                    let kind = StmtKind::Print(value);
                    out.push(Stmt { line, kind });
                }
                Tok::BlockBegin => {
                    if let Tok::Name(n) = self.peek()
                        && ends.contains(&n.as_str())
                    {
                        return Ok(out);
                    }
                    let kind = self.statement()?;
                    out.push(Stmt { line, kind });
                }
                _ => return fault(Kind::Syntax, "unexpected token"),
            }
        }
    }

    /// A body that ends with the tag `end`.
    fn body_to(&mut self, end: &str) -> Outcome<Vec<Stmt>> {
        let soft = std::mem::replace(&mut self.soft, false);
        let body = self.body(&[end])?;
        self.soft = soft;
        self.next();
        self.block_end()?;
        Ok(body)
    }

    fn statement(&mut self) -> Outcome<StmtKind> {
        let tag = self.name()?;
        match tag.as_str() {
            "if" => self.if_block(),
            "for" => self.for_block(),
            "set" => self.set_block(),
            "macro" => {
                let name = self.name()?;
                let symbol = self.symbol(&name);
                let id = self.macro_block(name, "endmacro")?;
                debug_assert_eq!(
                    self.tree.symbols[symbol as usize],
                    self.tree.macros[id].name
                );
                Ok(StmtKind::Macro(id))
            }
            "call" => {
                // `{% call(user) list() %}`: the parameters precede the call.
                let params = self.params()?;
                let line = self.line();
                let call = self.expression()?;
                if !matches!(*call.kind, ExprKind::Call(..)) {
                    return self.unexpected("a call");
                }
                debug_assert!(line > 0);
                let id = self.macro_body("caller".into(), params, "endcall")?;
                Ok(StmtKind::Call(call, id))
            }
            "filter" => {
                let hole = self.made(self.line(), 1, ExprKind::Hole)?;
                let filter = self.filter(hole)?;
                let filter = self.filters(filter)?;
                self.block_end()?;
                Ok(StmtKind::Filter(filter, self.body_to("endfilter")?))
            }
            "with" => {
                let mut values = vec![];
                while *self.peek() != Tok::BlockEnd {
                    if !values.is_empty() {
                        self.expect_op(",")?;
                    }
                    let target = self.target(false, &[])?;
                    self.expect_op("=")?;
                    values.push((target, self.expression()?));
                }
                self.block_end()?;
                Ok(StmtKind::With(values, self.body_to("endwith")?))
            }
            "generation" => {
                self.block_end()?;
                self.tree.has_generation = true;
                Ok(StmtKind::Generation(self.body_to("endgeneration")?))
            }
            "block" => {
                let name = self.name()?;
                self.block_end()?;
                let soft = std::mem::replace(&mut self.soft, false);
                let body = self.body(&["endblock"])?;
                self.soft = soft;
                self.next();
                self.skip_name(&name);
                self.block_end()?;
                Ok(StmtKind::Block(body))
            }
            "break" | "continue" => {
                self.block_end()?;
                if self.loops == 0 {
                    return fault(Kind::Syntax, format!("`{tag}` outside a loop"));
                }
                Ok(if tag == "break" {
                    StmtKind::Break
                } else {
                    StmtKind::Continue
                })
            }
            "include" | "import" | "from" | "extends" | "autoescape" => {
                unsupported(format!("`{{% {tag} %}}`"))
            }
            _ => fault(Kind::Syntax, format!("unknown tag `{tag}`")),
        }
    }

    fn if_block(&mut self) -> Outcome<StmtKind> {
        let soft = std::mem::replace(&mut self.soft, true);
        let mut branches = vec![];
        let mut otherwise = vec![];
        loop {
            let condition = self.tuple(false, false)?;
            self.block_end()?;
            branches.push((condition, self.body(&["elif", "else", "endif"])?));
            match self.name()?.as_str() {
                "elif" => continue,
                "else" => {
                    self.block_end()?;
                    otherwise = self.body(&["endif"])?;
                    self.next();
                }
                _ => {}
            }
            break;
        }
        self.block_end()?;
        self.soft = soft;
        Ok(StmtKind::If {
            branches,
            otherwise,
        })
    }

    fn for_block(&mut self) -> Outcome<StmtKind> {
        let target = self.target(true, &["in"])?;
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let over = self.tuple_until_recursive()?;
        let condition = if self.skip_name("if") {
            Some(self.expression()?)
        } else {
            None
        };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        let soft = std::mem::replace(&mut self.soft, false);
        self.loops += 1;
        let body = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let mut otherwise = vec![];
        if self.name()? == "else" {
            self.block_end()?;
            otherwise = self.body(&["endfor"])?;
            self.next();
        }
        self.block_end()?;
        self.soft = soft;
        self.tree.loops.push(For {
            target,
            over,
            condition,
            recursive,
            body,
            otherwise,
        });
        Ok(StmtKind::For(self.tree.loops.len() - 1))
    }

    fn set_block(&mut self) -> Outcome<StmtKind> {
        let target = self.target(true, &[])?;
        if self.skip_op("=") {
            let value = self.tuple(true, false)?;
            self.block_end()?;
            return Ok(StmtKind::Set(target, value));
        }
        let filter = if self.is_op("|") {
            let hole = self.made(self.line(), 1, ExprKind::Hole)?;
            Some(self.filters(hole)?)
        } else {
            None
        };
        self.block_end()?;
        Ok(StmtKind::SetBlock(target, filter, self.body_to("endset")?))
    }

    fn params(&mut self) -> Outcome<Vec<(Symbol, Option<Expr>)>> {
        let mut params: Vec<(Symbol, Option<Expr>)> = vec![];
        if !self.skip_op("(") {
            return Ok(params);
        }
        while !self.skip_op(")") {
            if !params.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.name()?;
            let symbol = self.symbol(&name);
            let default = if self.skip_op("=") {
                Some(self.expression()?)
            } else if params.last().is_some_and(|(_, d)| d.is_some()) {
                return fault(
                    Kind::Syntax,
                    "parameter without a default after one with a default",
                );
            } else {
                None
            };
            params.push((symbol, default));
        }
        Ok(params)
    }

    fn macro_block(&mut self, name: String, end: &str) -> Outcome<usize> {
        if !self.is_op("(") {
            return self.unexpected("`(`");
        }
        let params = self.params()?;
        self.macro_body(name, params, end)
    }

    fn macro_body(
        &mut self,
        name: String,
        params: Vec<(Symbol, Option<Expr>)>,
        end: &str,
    ) -> Outcome<usize> {
        self.block_end()?;
        let start = self.read.len();
        let loops = std::mem::take(&mut self.loops);
        let body = self.body_to(end)?;
        self.loops = loops;
        let mut uses = |name: &str| {
            let symbol = self.symbol(name);
            self.read[start..].contains(&symbol)
        };
        let (uses_varargs, uses_kwargs, uses_caller) =
            (uses("varargs"), uses("kwargs"), uses("caller"));
        self.tree.macros.push(Macro {
            name,
            params,
            body,
            uses_varargs,
            uses_kwargs,
            uses_caller,
        });
        Ok(self.tree.macros.len() - 1)
    }

    fn target(&mut self, with_tuple: bool, ends: &[&str]) -> Outcome<Target> {
        let mut parts = vec![];
        let mut is_tuple = false;
        loop {
            if matches!(self.peek(), Tok::Name(n) if ends.contains(&n.as_str()))
                || matches!(self.peek(), Tok::BlockEnd)
                || self.is_op("=")
                || self.is_op(")")
            {
                break;
            }
            parts.push(self.one_target()?);
            if !with_tuple || !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(last) if parts.is_empty() && !is_tuple => Ok(last),
            Some(last) => {
                parts.push(last);
                Ok(Target::Tuple(parts))
            }
            None => self.unexpected("a name"),
        }
    }

    fn one_target(&mut self) -> Outcome<Target> {
        if self.skip_op("(") {
            let inner = self.deeper(|p| p.target(true, &[]))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if matches!(
            name.as_str(),
            "true" | "false" | "none" | "True" | "False" | "None"
        ) {
            return fault(Kind::Syntax, format!("`{name}` cannot be set"));
        }
        let symbol = self.symbol(&name);
        if self.skip_op(".") {
            return Ok(Target::Attribute(symbol, self.name()?));
        }
        Ok(Target::Name(symbol))
    }
}
