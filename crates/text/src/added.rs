//! Finds added tokens in text.

use std::collections::BTreeSet;

use daachorse::{DoubleArrayAhoCorasick, DoubleArrayAhoCorasickBuilder, MatchKind};

/// Finds the leftmost and, among those, the longest of some words; the value is a word's index in the list. `None` if
/// there are no words.
pub(crate) fn finder<'a>(
    words: impl Iterator<Item = &'a str>,
) -> Option<DoubleArrayAhoCorasick<u32>> {
    let mut seen = BTreeSet::new();
    let patterns: Vec<(&str, u32)> = words
        .zip(0..)
        .filter(|(w, _)| !w.is_empty() && seen.insert(*w))
        .collect();
    if patterns.is_empty() {
        return None;
    }
    DoubleArrayAhoCorasickBuilder::new()
        .match_kind(MatchKind::LeftmostLongest)
        .build_with_values(patterns)
        .ok()
}
