//! Runs a template: statements, scopes, loops, macros. Expressions are in `eval`, calls in `calls`.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use super::ast::{For, Stmt, StmtKind, Symbol, Target, Tree};
use super::cx::Cx;
use super::fault::{Fault, MAX_RUN_DEPTH, Outcome, failed, limit};
use super::print::write_text;
use super::value::{MacroValue, Value, equal};

/// Variables of one scope. Scopes are small, so they are searched linearly, from the end.
#[derive(Debug, Default)]
pub struct Frame {
    pub vars: RefCell<Vec<(Symbol, Value)>>,
    pub parent: Option<Rc<Frame>>,
}

impl Frame {
    pub fn within(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self {
            vars: RefCell::default(),
            parent: Some(parent.clone()),
        })
    }

    pub fn set(&self, name: Symbol, value: Value) {
        let mut vars = self.vars.borrow_mut();
        match vars.iter_mut().find(|(n, _)| *n == name) {
            Some(var) => var.1 = value,
            None => vars.push((name, value)),
        }
    }

    pub fn get(&self, name: Symbol) -> Option<Value> {
        let mut frame = self;
        loop {
            let found = frame
                .vars
                .borrow()
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.clone());
            match (found, &frame.parent) {
                (Some(v), _) => return Some(v),
                (None, Some(parent)) => frame = parent,
                (None, None) => return None,
            }
        }
    }
}

/// The variable `loop`.
#[derive(Debug)]
pub struct LoopState {
    items: Vec<Value>,
    at: std::cell::Cell<usize>,
    depth: usize,
    changed: RefCell<Option<Vec<Value>>>,
    /// For a recursive loop: its index in the tree, and its frame.
    pub again: Option<(usize, Rc<Frame>)>,
}

impl LoopState {
    pub fn index0(&self) -> usize {
        self.at.get()
    }

    pub fn length(&self) -> usize {
        self.items.len()
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    pub fn depth_of_values(&self, depth: impl Fn(&Value) -> usize) -> usize {
        self.items.iter().map(depth).max().unwrap_or(0) + 1
    }

    pub fn changed(&self, cx: &Cx, values: Vec<Value>) -> bool {
        let mut last = self.changed.borrow_mut();
        let same = last.as_ref().is_some_and(|l| {
            l.len() == values.len() && l.iter().zip(&values).all(|(a, b)| equal(cx, a, b))
        });
        *last = Some(values);
        !same
    }

    pub fn attribute(&self, name: &str) -> Option<Value> {
        let (at, length) = (self.at.get(), self.items.len());
        let int = |n: usize| Value::Int(n as i128);
        let near = |i: Option<usize>, what: &str| {
            let item = i.and_then(|i| self.items.get(i)).cloned();
            item.unwrap_or_else(|| Value::undefined(format!("there is no {what} item")))
        };
        Some(match name {
            "index" => int(at + 1),
            "index0" => int(at),
            "revindex" => int(length - at),
            "revindex0" => int(length - at - 1),
            "first" => Value::Bool(at == 0),
            "last" => Value::Bool(at + 1 == length),
            "length" => int(length),
            "depth" => int(self.depth),
            "depth0" => int(self.depth - 1),
            "previtem" => near(at.checked_sub(1), "previous"),
            "nextitem" => near(Some(at + 1), "next"),
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    On,
    Break,
    Continue,
}

pub struct Renderer<'a> {
    pub tree: &'a Tree,
    pub cx: Cx,
    pub root: Rc<Frame>,
    /// Outputs in progress, the template's own first.
    out: Vec<String>,
    /// The texts to which block filters are applied.
    pub holes: Vec<Value>,
    pub generation: Vec<Range<usize>>,
    depth: usize,
    /// Scopes held by macros: cleared at the end, since they refer to each other.
    held: Vec<Rc<Frame>>,
    pub loop_symbol: Option<Symbol>,
    pub namespaces: Vec<Rc<super::value::Namespace>>,
}

impl std::fmt::Debug for Renderer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renderer").finish_non_exhaustive()
    }
}

impl Drop for Renderer<'_> {
    fn drop(&mut self) {
        for frame in self.held.drain(..) {
            frame.vars.take();
        }
        for namespace in self.namespaces.drain(..) {
            namespace.values.take();
        }
    }
}

impl<'a> Renderer<'a> {
    pub fn new(tree: &'a Tree, cx: Cx) -> Self {
        let loop_symbol = tree.symbols.iter().position(|s| s == "loop");
        Self {
            tree,
            cx,
            root: Rc::default(),
            out: vec![String::new()],
            holes: vec![],
            generation: vec![],
            depth: 0,
            held: vec![],
            loop_symbol: loop_symbol.map(|i| i as Symbol),
            namespaces: vec![],
        }
    }

    pub fn run(&mut self) -> Outcome<String> {
        let root = self.root.clone();
        let tree = self.tree;
        self.statements(&tree.body, &root)?;
        Ok(std::mem::take(&mut self.out[0]))
    }

    /// Enters a deeper level; `leave` returns from it.
    pub fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > MAX_RUN_DEPTH {
            return limit(format!("more than {MAX_RUN_DEPTH} levels of recursion"));
        }
        self.cx.budget.step(1)
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        let Self { out, cx, .. } = self;
        if let Some(last) = out.last_mut() {
            if last.len() + text.len() > super::fault::MAX_TEXT {
                cx.budget.text(last.len() + text.len())?;
            }
            last.push_str(text);
        }
        Ok(())
    }

    pub fn statements(&mut self, body: &'a [Stmt], frame: &Rc<Frame>) -> Outcome<Flow> {
        self.enter()?;
        for stmt in body {
            let flow = self.statement(stmt, frame).map_err(|mut f| {
                if f.line == 0 {
                    f.line = stmt.line;
                }
                f
            })?;
            if flow != Flow::On {
                self.leave();
                return Ok(flow);
            }
        }
        self.leave();
        Ok(Flow::On)
    }

    /// The output of a body, returned instead of written.
    pub fn captured(&mut self, body: &'a [Stmt], frame: &Rc<Frame>) -> Outcome<String> {
        self.out.push(String::new());
        let result = self.statements(body, frame);
        let text = self.out.pop().unwrap_or_default();
        result?;
        self.cx.budget.text(text.len())?;
        Ok(text)
    }

    fn statement(&mut self, stmt: &'a Stmt, frame: &Rc<Frame>) -> Outcome<Flow> {
        self.cx.budget.step(1)?;
        match &stmt.kind {
            StmtKind::Data(text) => self.write(text)?,
            StmtKind::Print(expr) => {
                let value = self.eval(expr, frame)?;
                let Self { out, cx, .. } = self;
                if let Some(last) = out.last_mut() {
                    write_text(cx, last, &value)?;
                }
            }
            StmtKind::If {
                branches,
                otherwise,
            } => {
                for (condition, body) in branches {
                    if self.eval(condition, frame)?.is_true(&self.cx)? {
                        return self.statements(body, frame);
                    }
                }
                return self.statements(otherwise, frame);
            }
            StmtKind::For(id) => {
                let tree = self.tree;
                let over = self.eval(&tree.loops[*id].over, frame)?;
                self.run_loop(*id, &over, frame, 1)?;
            }
            StmtKind::Set(target, expr) => {
                let value = self.eval(expr, frame)?;
                self.assign(target, value, frame)?;
            }
            StmtKind::SetBlock(target, filter, body) => {
                let text = self.captured(body, &Frame::within(frame))?;
                let mut value: Value = text.into();
                if let Some(filter) = filter {
                    self.holes.push(value);
                    let filtered = self.eval(filter, frame);
                    self.holes.pop();
                    value = filtered?;
                }
                self.assign(target, value, frame)?;
            }
            StmtKind::Macro(id) => {
                let value = self.macro_value(*id, frame)?;
                let name = &self.tree.macros[*id].name;
                let symbol = self.tree.symbols.iter().position(|s| s == name);
                frame.set(symbol.unwrap_or_default() as Symbol, value);
            }
            StmtKind::Call(call, id) => {
                let caller = self.macro_value(*id, frame)?;
                let value = self.call_with(call, Some(caller), frame)?;
                let text = super::print::text(&self.cx, &value)?;
                self.write(&text)?;
            }
            StmtKind::Filter(filter, body) => {
                let text = self.captured(body, &Frame::within(frame))?;
                self.holes.push(text.into());
                let filtered = self.eval(filter, frame);
                self.holes.pop();
                let text = super::print::text(&self.cx, &filtered?)?;
                self.write(&text)?;
            }
            StmtKind::With(values, body) => {
                let inner = Frame::within(frame);
                for (target, expr) in values {
                    let value = self.eval(expr, frame)?;
                    self.assign(target, value, &inner)?;
                }
                return self.statements(body, &inner);
            }
            StmtKind::Generation(body) => {
                // As in transformers: relative to the output so far, even within a macro.
                let start = self.out[0].len();
                let text = self.captured(body, &Frame::within(frame))?;
                self.generation.push(start..start + text.len());
                self.write(&text)?;
            }
            StmtKind::Block(body) => {
                let inner = Frame::within(&self.root);
                self.statements(body, &inner)?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn macro_value(&mut self, id: usize, frame: &Rc<Frame>) -> Outcome<Value> {
        // A scope and a macro use memory, and the scope keeps it until the end.
        self.cx.budget.list(32)?;
        self.held.push(frame.clone());
        let params = self.tree.macros[id].params.iter();
        let names = params.map(|(s, _)| self.tree.symbols[*s as usize].as_str().into());
        let arguments = super::value::tuple(&self.cx, names.collect())?;
        Ok(Value::Macro(Rc::new(MacroValue {
            id,
            arguments,
            name: self.tree.macros[id].name.as_str().into(),
            frame: frame.clone(),
        })))
    }

    pub fn run_loop(
        &mut self,
        id: usize,
        over: &Value,
        frame: &Rc<Frame>,
        depth: usize,
    ) -> Outcome<()> {
        let tree = self.tree;
        let stmt: &'a For = &tree.loops[id];
        let mut items = over.items(&self.cx)?;
        if let Some(condition) = &stmt.condition {
            let mut kept = vec![];
            for item in items {
                let inner = Frame::within(frame);
                self.assign(&stmt.target, item.clone(), &inner)?;
                if self.eval(condition, &inner)?.is_true(&self.cx)? {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            self.statements(&stmt.otherwise, &Frame::within(frame))?;
            return Ok(());
        }
        let state = Rc::new(LoopState {
            items,
            at: std::cell::Cell::new(0),
            depth,
            changed: RefCell::default(),
            again: stmt.recursive.then(|| (id, frame.clone())),
        });
        let mut whole = false;
        for i in 0..state.items.len() {
            state.at.set(i);
            let inner = Frame::within(frame);
            if let Some(name) = self.loop_symbol {
                inner.set(name, Value::Loop(state.clone()));
            }
            self.assign(&stmt.target, state.items[i].clone(), &inner)?;
            match self.statements(&stmt.body, &inner)? {
                Flow::Break => break,
                Flow::Continue => {}
                Flow::On => whole = true,
            }
        }
        // Jinja's `else` runs if no iteration of the loop completed.
        if !whole {
            self.statements(&stmt.otherwise, &Frame::within(frame))?;
        }
        Ok(())
    }

    /// The output of a call to a recursive loop.
    pub fn loop_again(&mut self, state: &LoopState, over: &Value) -> Outcome<Value> {
        let Some((id, frame)) = state.again.clone() else {
            return failed("a loop that is not `recursive` was called");
        };
        self.enter()?;
        self.out.push(String::new());
        let result = self.run_loop(id, over, &frame, state.depth() + 1);
        let text = self.out.pop().unwrap_or_default();
        self.leave();
        result?;
        self.cx.budget.text(text.len())?;
        Ok(text.into())
    }

    pub fn assign(&mut self, target: &'a Target, value: Value, frame: &Rc<Frame>) -> Outcome<()> {
        match target {
            Target::Name(name) => {
                frame.set(*name, value);
                Ok(())
            }
            Target::Attribute(name, attribute) => match frame.get(*name) {
                Some(Value::Namespace(n)) => n.set(attribute, value),
                _ => failed("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let items = value.items(&self.cx)?;
                if items.len() != targets.len() {
                    return failed(format!(
                        "{} values to unpack into {} names",
                        items.len(),
                        targets.len()
                    ));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, frame)?;
                }
                Ok(())
            }
        }
    }

    /// Adds the line of the expression to an error.
    pub fn at_line<T>(result: Outcome<T>, line: usize) -> Outcome<T> {
        result.map_err(|mut f: Box<Fault>| {
            if f.line == 0 {
                f.line = line;
            }
            f
        })
    }
}
