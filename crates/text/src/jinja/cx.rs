//! What every part of a rendering is given.

use super::fault::Budget;
use super::mask::Mask;
use crate::time::DateTime;

#[derive(Debug)]
pub struct Cx {
    pub budget: Budget,
    pub mask: Mask,
    pub now: DateTime,
}
