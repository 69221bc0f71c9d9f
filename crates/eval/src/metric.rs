//! Metrics: which there are, and their values for a record.

use fancy_regex::Regex;
use serde_json::Value as Json;

use crate::error::bad;
use crate::field::Field;
use crate::fields::Fields;
use crate::filter::{Comparison, regex};
use crate::record::Score;
use crate::task::Kind;
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct Metric {
    pub name: &'static str,
    pub of: Of,
}

/// What a metric needs besides its name.
#[derive(Debug)]
pub(crate) enum Of {
    Plain,
    /// Which choices are true: TruthfulQA's mc2.
    Labels(Field),
    Comparison(Comparison),
    Match(Regex),
}

/// Those of each kind of task, the first ones by default.
fn known(kind: Kind) -> (&'static [&'static str], usize) {
    match kind {
        Kind::MultipleChoice => (
            &[
                "acc",
                "acc_norm",
                "acc_bytes",
                "acc_mutual_info",
                "exact_match",
                "brier_score",
                "mc2",
            ],
            2,
        ),
        Kind::LogLikelihood => (&["perplexity", "acc"], 2),
        Kind::Rolling => (&["word_perplexity", "byte_perplexity", "bits_per_byte"], 3),
        Kind::Perplexity => (&["perplexity"], 1),
        Kind::Generate => (&["exact_match", "regex_match", "valid_json"], 1),
    }
}

/// How a metric is put together from its values for records, if not as their mean.
fn aggregation(name: &str) -> &'static str {
    match name {
        "perplexity" => "perplexity",
        "word_perplexity" | "byte_perplexity" => "weighted_perplexity",
        "bits_per_byte" => "bits_per_byte",
        "brier_score" => "brier_score",
        _ => "mean",
    }
}

impl Metric {
    pub fn parse_all(fields: Option<Vec<Fields>>, kind: Kind) -> Result<Vec<Self>> {
        let (names, defaults) = known(kind);
        let Some(all) = fields else {
            let of = |name: &&str| match *name {
                "exact_match" if kind == Kind::Generate => Of::Comparison(Comparison::default()),
                _ => Of::Plain,
            };
            let metric = |name: &&'static str| Self { name, of: of(name) };
            return Ok(names[..defaults].iter().map(metric).collect());
        };
        let mut out = vec![];
        for fields in all {
            out.push(Self::parse(fields, kind, names)?);
        }
        match out.is_empty() {
            true => bad("metric_list", "is empty"),
            false => Ok(out),
        }
    }

    fn parse(mut fields: Fields, kind: Kind, names: &[&'static str]) -> Result<Self> {
        let Some(given) = fields.text("metric")? else {
            return fields.missing("metric");
        };
        let Some(name) = names.iter().find(|name| **name == given) else {
            return bad(
                fields.key("metric"),
                format!("is `{given}`; use {}", names.join(", ")),
            );
        };
        let wanted = aggregation(name);
        if let Some(given) = fields.text("aggregation")?.filter(|given| given != wanted) {
            return bad(
                fields.key("aggregation"),
                format!("is `{given}`; that of {name} is {wanted}"),
            );
        }
        fields.ignore(&["higher_is_better"]);
        if fields.flag("hf_evaluate")? == Some(true) {
            return bad(fields.key("hf_evaluate"), "is not supported");
        }
        let of = match *name {
            "mc2" => match Field::take(&mut fields, "labels")? {
                Some(labels) => Of::Labels(labels),
                None => return fields.missing("labels"),
            },
            "exact_match" if kind == Kind::Generate => {
                Of::Comparison(Comparison::take(&mut fields)?)
            }
            "regex_match" => match fields.text("pattern")? {
                Some(pattern) => Of::Match(regex(fields.key("pattern"), &pattern)?),
                None => return fields.missing("pattern"),
            },
            _ => Of::Plain,
        };
        fields.finish()?;
        Ok(Self { name, of })
    }

    /// How good a generated result is.
    pub fn of_result(&self, result: &str, targets: &[String]) -> Score {
        let is_good = match &self.of {
            Of::Comparison(comparison) => targets.iter().any(|t| comparison.is_equal(result, t)),
            Of::Match(regex) => regex.is_match(result).unwrap_or(false),
            Of::Plain | Of::Labels(_) => serde_json::from_str::<Json>(result.trim()).is_ok(),
        };
        Score::of(is_good)
    }
}

/// The log-likelihoods of a record's choices.
#[derive(Debug)]
pub(crate) struct Choices<'a> {
    pub texts: &'a [String],
    pub log_likelihoods: &'a [f64],
    pub is_greedy: &'a [bool],
    /// Without the context, if a metric needs it.
    pub unconditional: &'a [f64],
    /// Which are right.
    pub right: &'a [usize],
    /// Which are true, if a metric needs it.
    pub labels: Option<Vec<bool>>,
}

/// The first of the largest.
fn argmax(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, v) in values.enumerate() {
        if v > best.1 {
            best = (i, v);
        }
    }
    best.0
}

impl Choices<'_> {
    pub fn score(&self, metric: &str) -> Score {
        let lls = self.log_likelihoods.iter();
        let per = |length: fn(&String) -> usize| {
            let lengths = self.texts.iter().map(length);
            argmax(lls.clone().zip(lengths).map(|(ll, n)| ll / n as f64))
        };
        let is_right = |i: usize| Score::of(self.right.contains(&i));
        match metric {
            "acc" => is_right(argmax(lls.copied())),
            "acc_norm" => is_right(per(|t| t.chars().count())),
            "acc_bytes" => is_right(per(String::len)),
            "acc_mutual_info" => {
                let gained = lls.zip(self.unconditional).map(|(ll, u)| ll - u);
                is_right(argmax(gained))
            }
            "exact_match" => Score::of(self.right.iter().any(|i| self.is_greedy[*i])),
            "brier_score" => {
                let probabilities = self.probabilities().into_iter().enumerate();
                let error = |(i, p): (usize, f64)| (p - f64::from(self.right.contains(&i))).powi(2);
                Score::Mean(probabilities.map(error).sum())
            }
            _ => {
                let labels = self.labels.iter().flatten();
                let labelled = self.probabilities().into_iter().zip(labels);
                Score::Mean(labelled.filter(|(_, l)| **l).map(|(p, _)| p).sum())
            }
        }
    }

    /// Of each choice, if one of them is what follows.
    fn probabilities(&self) -> Vec<f64> {
        let max = self
            .log_likelihoods
            .iter()
            .copied()
            .fold(f64::MIN, f64::max);
        let exp: Vec<f64> = self
            .log_likelihoods
            .iter()
            .map(|ll| (ll - max).exp())
            .collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(|e| e / sum).collect()
    }
}

/// The labels of a record's choices: 0 and 1, or false and true.
pub(crate) fn labels(values: &[Json], choices: usize) -> std::result::Result<Vec<bool>, String> {
    let label = |v: &Json| v.as_bool().or(v.as_i64().map(|n| n == 1));
    let all: Option<Vec<bool>> = values.iter().map(label).collect();
    all.filter(|all| all.len() == choices)
        .ok_or_else(|| format!("its labels are not 0 or 1 for each of {choices} choices"))
}

impl Error {
    pub(crate) fn record(index: usize, what: impl Into<String>) -> Self {
        Self::Record {
            number: index + 1,
            what: what.into(),
        }
    }
}
