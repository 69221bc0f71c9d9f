//! What is known of a record after it was run: enough to put all metrics together again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A metric's value for a record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Score {
    /// The metric is the mean of these.
    Mean(f64),
    /// A sum and what it is a sum over: the metric is of the ratio of their sums.
    Ratio([f64; 2]),
    /// A sum over tokens, how many they are, and the sum of squares.
    Tokens([f64; 3]),
}

impl Score {
    pub(crate) fn of(is_good: bool) -> Self {
        Self::Mean(f64::from(is_good))
    }
}

/// How a model did on a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemResult {
    /// Which record it is, from 0 on.
    pub index: usize,
    /// By metric, with the filter's name where there is one: `exact_match,strict-match`.
    pub scores: BTreeMap<String, Score>,
    /// Of each continuation, or of the whole text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_likelihoods: Vec<f64>,
    /// Whether each continuation is what the model would have generated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub is_greedy: Vec<bool>,
    /// What was generated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// What the filters made of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<String, String>,
}
