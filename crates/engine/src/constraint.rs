//! What restricts the tokens of an answer. The crate `siskin-grammar` has grammars and JSON schemas.

use std::fmt::Debug;

/// What an answer must look like.
pub trait Grammar: Debug + Send + Sync {
    /// The beginning of an answer.
    ///
    /// # Errors
    /// Says why there can be none.
    fn begin(&self) -> Result<Box<dyn Constraint>, String>;
}

/// Which tokens may follow an answer so far.
pub trait Constraint: Debug + Send {
    /// The tokens that may come next, a bit each: `allowed[id / 32] >> (id % 32)`.
    ///
    /// # Errors
    /// Says why there are none.
    fn allowed(&mut self) -> Result<Vec<u32>, String>;

    /// Adds a token, which must have been allowed; and, if `may_force`, those that must come after it, which are returned.
    ///
    /// # Errors
    /// If it was not allowed.
    fn add(&mut self, token: u32, may_force: bool) -> Result<Vec<u32>, String>;

    /// Whether nothing may follow but the end.
    fn is_complete(&self) -> bool;
}
