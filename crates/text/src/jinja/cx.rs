//! The context that is passed to all parts of a rendering.

use super::fault::Budget;
use super::mask::Mask;
use crate::time::DateTime;

#[derive(Debug)]
pub struct Cx {
    pub budget: Budget,
    pub mask: Mask,
    pub now: DateTime,
    /// Whether what is undefined can be neither printed nor tested (Jinja2's `StrictUndefined`).
    pub strict: bool,
}
