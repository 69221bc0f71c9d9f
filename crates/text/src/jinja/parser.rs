//! The parser: its tokens, names and limits. Statements and expressions are in separate files.

use std::collections::HashMap;

use super::ast::{Expr, ExprKind, Symbol, Tree};
use super::fault::{Kind, MAX_HEIGHT, MAX_NESTING, MAX_SOURCE, Outcome, fault, limit, unsupported};
use super::lexer::{Space, Tok, Token, tokens};

pub(super) struct Parser {
    tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) tree: Tree,
    symbols: HashMap<String, Symbol>,
    /// Names that are used, in order: those after a macro's start are used by the macro.
    pub(super) read: Vec<Symbol>,
    pub(super) nesting: usize,
    pub(super) loops: usize,
    /// Within a branch that may never run, where Jinja tolerates unknown names.
    pub(super) soft: bool,
    /// Unknown filters and tests outside such branches.
    pub(super) unknown: Vec<String>,
}

pub fn parse(source: &str, space: Space) -> Outcome<Tree> {
    if source.len() > MAX_SOURCE {
        return limit(format!("a source of more than {} KiB", MAX_SOURCE >> 10));
    }
    let mut parser = Parser {
        tokens: tokens(source, space)?,
        at: 0,
        tree: Tree::default(),
        symbols: HashMap::new(),
        read: vec![],
        nesting: 0,
        loops: 0,
        soft: false,
        unknown: vec![],
    };
    let line = |mut f: Box<super::fault::Fault>, p: &Parser| {
        if f.line == 0 {
            f.line = p.line();
        }
        f
    };
    let body = parser.body(&[]).map_err(|f| line(f, &parser))?;
    if let Some(what) = parser.unknown.pop() {
        return unsupported(what);
    }
    parser.tree.body = body;
    Ok(parser.tree)
}

impl Parser {
    pub(super) fn peek(&self) -> &Tok {
        &self.tokens[self.at].tok
    }

    pub(super) fn peek_second(&self) -> &Tok {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].tok
    }

    pub(super) fn line(&self) -> usize {
        self.tokens[self.at].line
    }

    pub(super) fn next(&mut self) -> Tok {
        let tok = self.tokens[self.at].tok.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        tok
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(o) if *o == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Tok::Name(n) if n == name)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let is = self.is_op(op);
        if is {
            self.next();
        }
        is
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        if is {
            self.next();
        }
        is
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Outcome<()> {
        if self.skip_op(op) {
            return Ok(());
        }
        self.unexpected(&format!("`{op}`"))
    }

    pub(super) fn name(&mut self) -> Outcome<String> {
        match self.peek() {
            Tok::Name(n) => {
                let n = n.clone();
                self.next();
                Ok(n)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub(super) fn unexpected<T>(&self, wanted: &str) -> Outcome<T> {
        let found = match self.peek() {
            Tok::Eof => "the end of the template".into(),
            Tok::BlockEnd => "`%}`".into(),
            Tok::PrintEnd => "`}}`".into(),
            Tok::Name(n) => format!("`{n}`"),
            Tok::Op(o) => format!("`{o}`"),
            Tok::Str(_) => "a string".into(),
            Tok::Int(_) | Tok::Float(_) => "a number".into(),
            Tok::Data(_) | Tok::BlockBegin | Tok::PrintBegin => "text".into(),
        };
        fault(Kind::Syntax, format!("expected {wanted}, found {found}"))
    }

    pub(super) fn symbol(&mut self, name: &str) -> Symbol {
        if let Some(s) = self.symbols.get(name) {
            return *s;
        }
        let s = self.tree.symbols.len() as Symbol;
        self.tree.symbols.push(name.into());
        self.symbols.insert(name.into(), s);
        s
    }

    pub(super) fn made(&self, line: usize, height: usize, kind: ExprKind) -> Outcome<Expr> {
        if height > MAX_HEIGHT {
            return limit(format!("an expression of more than {MAX_HEIGHT} levels"));
        }
        Ok(Expr {
            line,
            height,
            kind: Box::new(kind),
        })
    }

    /// Runs part of the parser one level deeper.
    pub(super) fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.nesting >= MAX_NESTING {
            return limit(format!("more than {MAX_NESTING} levels of nesting"));
        }
        self.nesting += 1;
        let result = part(self);
        self.nesting -= 1;
        result
    }
}
