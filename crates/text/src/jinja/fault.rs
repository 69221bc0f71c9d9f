//! Errors of templates, and the limits for untrusted templates.

use std::cell::Cell;

/// Source, in bytes.
pub const MAX_SOURCE: usize = 1 << 20;
/// Nesting of brackets and blocks in the source.
pub const MAX_NESTING: usize = 64;
/// Height of an expression's tree: a chain of calls or sums is as high as it is long.
pub const MAX_HEIGHT: usize = 200;
/// Nesting of expressions, blocks and macros during rendering.
pub const MAX_RUN_DEPTH: usize = 300;
/// Nesting of lists and mappings.
pub const MAX_VALUE_DEPTH: usize = 200;
/// Steps, of about 50 ns each.
const MAX_STEPS: u64 = 20_000_000;
/// Total bytes of all strings and lists created, whether still needed or not.
const MAX_BYTES: usize = 160 << 20;
/// Bytes of one string.
pub const MAX_TEXT: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Syntax,
    /// The template called `raise_exception`.
    Raised,
    Unsupported,
    Limit,
    /// What would be an exception in Python.
    Failed,
}

#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    pub message: String,
    /// 0 if unknown.
    pub line: usize,
}

pub type Outcome<T> = Result<T, Box<Fault>>;

pub fn fault<T>(kind: Kind, message: impl Into<String>) -> Outcome<T> {
    Err(Box::new(Fault {
        kind,
        message: message.into(),
        line: 0,
    }))
}

pub fn failed<T>(message: impl Into<String>) -> Outcome<T> {
    fault(Kind::Failed, message)
}

pub fn unsupported<T>(what: impl Into<String>) -> Outcome<T> {
    fault(Kind::Unsupported, what)
}

pub fn limit<T>(what: impl Into<String>) -> Outcome<T> {
    fault(Kind::Limit, what)
}

/// The resources that a rendering has used.
#[derive(Debug, Default)]
pub struct Budget {
    steps: Cell<u64>,
    bytes: Cell<usize>,
}

impl Budget {
    pub fn step(&self, count: usize) -> Outcome<()> {
        if self.goes_on(count) {
            return Ok(());
        }
        limit(format!("more than {MAX_STEPS} steps"))
    }

    /// For code that cannot fail: whether any steps are left. If not, the next `step` fails.
    pub fn goes_on(&self, count: usize) -> bool {
        self.steps
            .set(self.steps.get().saturating_add(count as u64));
        self.steps.get() <= MAX_STEPS
    }

    /// Reserves a string of this many bytes.
    pub fn text(&self, bytes: usize) -> Outcome<()> {
        if bytes > MAX_TEXT {
            return limit(format!("a string of more than {} MiB", MAX_TEXT >> 20));
        }
        self.room(bytes)
    }

    /// Reserves a list of this many values.
    pub fn list(&self, values: usize) -> Outcome<()> {
        self.room(values.saturating_mul(size_of::<super::value::Value>()))
    }

    fn room(&self, bytes: usize) -> Outcome<()> {
        let all = self.bytes.get().saturating_add(bytes.saturating_add(32));
        self.bytes.set(all);
        if all > MAX_BYTES {
            return limit(format!(
                "more than {} MiB of strings and lists",
                MAX_BYTES >> 20
            ));
        }
        self.step(bytes / 256 + 1)
    }
}
