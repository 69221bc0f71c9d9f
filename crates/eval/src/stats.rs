//! Metrics of all records, their standard errors, and paired tests.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::{ItemResult, Score};

/// How often a paired test reassigns its values.
const PERMUTATIONS: u32 = 10_000;

/// A metric over all records.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Its value.
    pub value: f64,
    /// Its standard error; `None` where it cannot be estimated. That of means is the one of lm-evaluation-harness, others
    /// are by the delta method.
    pub stderr: Option<f64>,
    /// Records.
    pub n: usize,
}

/// Two models on the same records.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// The first one's value minus the second one's.
    pub difference: f64,
    /// The standard error of the difference of means, of pairs.
    pub stderr: Option<f64>,
    /// How likely a difference of at least this size is if both are alike: by McNemar's exact test where values are 0 and
    /// 1, and otherwise by random exchanges of the two values of records.
    pub p: f64,
    /// Records.
    pub n: usize,
}

/// How a value is made of the mean, or the ratio of sums.
fn transformed(metric: &str, mean: f64) -> f64 {
    let name = metric.split(',').next().unwrap_or(metric);
    match name {
        "perplexity" | "word_perplexity" | "byte_perplexity" => (-mean).exp(),
        "bits_per_byte" => -mean / std::f64::consts::LN_2,
        _ => mean,
    }
}

/// The size of that function's slope.
fn slope(metric: &str, mean: f64) -> f64 {
    match metric {
        "perplexity" | "word_perplexity" | "byte_perplexity" => (-mean).exp(),
        "bits_per_byte" => std::f64::consts::LN_2.recip(),
        _ => 1.0,
    }
}

/// A sum and its weight.
fn parts(score: &Score) -> [f64; 2] {
    match score {
        Score::Mean(v) => [*v, 1.0],
        Score::Ratio(parts) => *parts,
        Score::Tokens([sum, n, _]) => [*sum, *n],
    }
}

fn ratio(scores: &[Score]) -> f64 {
    let [sum, weight] = scores
        .iter()
        .map(parts)
        .fold([0.0, 0.0], |t, p| [t[0] + p[0], t[1] + p[1]]);
    sum / weight
}

/// The standard error of a ratio of sums.
fn ratio_error(scores: &[Score]) -> Option<f64> {
    let ratio = ratio(scores);
    if let Some(Score::Tokens(_)) = scores.first() {
        // Over tokens, as llama-perplexity does.
        let (mut n, mut squares) = (0.0, 0.0);
        for score in scores {
            if let Score::Tokens([_, tokens, of]) = score {
                n += tokens;
                squares += of;
            }
        }
        let variance = (squares / n - ratio * ratio).max(0.0);
        return (n > 1.0).then(|| (variance / (n - 1.0)).sqrt());
    }
    let n = scores.len() as f64;
    if n < 2.0 {
        return None;
    }
    let weight: f64 = scores.iter().map(|s| parts(s)[1]).sum();
    let rests = scores
        .iter()
        .map(parts)
        .map(|[a, b]| (a - ratio * b).powi(2));
    Some((n / (n - 1.0) * rests.sum::<f64>()).sqrt() / weight)
}

/// The metrics of a task.
pub fn summaries(results: &[ItemResult]) -> BTreeMap<String, Summary> {
    let mut by_metric: BTreeMap<&str, Vec<Score>> = BTreeMap::new();
    for result in results {
        for (metric, score) in &result.scores {
            by_metric.entry(metric).or_default().push(*score);
        }
    }
    let summary = |(metric, scores): (&str, Vec<Score>)| {
        let mean = ratio(&scores);
        let summary = Summary {
            value: transformed(metric, mean),
            stderr: ratio_error(&scores).map(|e| e * slope(metric, mean)),
            n: scores.len(),
        };
        (metric.to_string(), summary)
    };
    by_metric.into_iter().map(summary).collect()
}

/// Compares two models' results of the same records, metric by metric. A metric whose weights differ, as those of tokens
/// do between tokenizers, is left out.
pub fn comparisons(a: &[ItemResult], b: &[ItemResult]) -> BTreeMap<String, Comparison> {
    let b: BTreeMap<usize, &ItemResult> = b.iter().map(|r| (r.index, r)).collect();
    let mut pairs: BTreeMap<&str, Vec<[Score; 2]>> = BTreeMap::new();
    for result in a {
        let Some(other) = b.get(&result.index) else {
            continue;
        };
        for (metric, score) in &result.scores {
            if let Some(other) = other.scores.get(metric) {
                pairs.entry(metric).or_default().push([*score, *other]);
            }
        }
    }
    let alike = |pairs: &[[Score; 2]]| pairs.iter().all(|[a, b]| parts(a)[1] == parts(b)[1]);
    pairs
        .into_iter()
        .filter(|(_, pairs)| alike(pairs))
        .map(|(metric, pairs)| (metric.to_string(), compare(metric, &pairs)))
        .collect()
}

fn compare(metric: &str, pairs: &[[Score; 2]]) -> Comparison {
    let side = |i: usize| pairs.iter().map(|p| p[i]).collect::<Vec<Score>>();
    let [a, b] = [ratio(&side(0)), ratio(&side(1))];
    let differences: Vec<f64> = pairs
        .iter()
        .map(|[a, b]| parts(a)[0] - parts(b)[0])
        .collect();
    let is_binary = |s: &Score| matches!(s, Score::Mean(v) if *v == 0.0 || *v == 1.0);
    let p = match pairs.iter().flatten().all(is_binary) {
        true => mcnemar(&differences),
        false => exchanged(&differences),
    };
    let is_mean = pairs.iter().flatten().all(|s| matches!(s, Score::Mean(_)));
    let means: Vec<Score> = differences.iter().map(|d| Score::Mean(*d)).collect();
    let stderr = ratio_error(&means).filter(|_| is_mean && metric != "perplexity");
    Comparison {
        difference: transformed(metric, a) - transformed(metric, b),
        stderr,
        p,
        n: pairs.len(),
    }
}

/// Two-sided, over records of which one model is right and the other wrong (Q. McNemar, 1947).
fn mcnemar(differences: &[f64]) -> f64 {
    let better = differences.iter().filter(|d| **d > 0.0).count();
    let worse = differences.iter().filter(|d| **d < 0.0).count();
    let n = better + worse;
    // Logarithms, since 2^-n may be too small.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for k in 0..=better.min(worse) {
        sum += log.exp();
        log += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

/// The part of random exchanges after which the sum of differences is at least as large.
fn exchanged(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut as_large = 0;
    for _ in 0..PERMUTATIONS {
        let mut sum = 0.0;
        for chunk in differences.chunks(64) {
            // xorshift64 (G. Marsaglia, 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            for (i, d) in chunk.iter().enumerate() {
                sum += if state >> i & 1 == 1 { *d } else { -d };
            }
        }
        // What is equal but for the order of its sum is as large.
        as_large += u32::from(sum.abs() >= observed * (1.0 - 1e-9));
    }
    f64::from(as_large + 1) / f64::from(PERMUTATIONS + 1)
}

#[cfg(test)]
mod tests {
    use super::{exchanged, mcnemar};

    #[test]
    fn p_of_pairs() {
        let differences = |better: usize, worse: usize| -> Vec<f64> {
            let ones = (0..better).map(|_| 1.0).chain((0..worse).map(|_| -1.0));
            ones.chain([0.0; 5]).collect()
        };
        // scipy.stats.binomtest(1, 9).pvalue, binomtest(5, 10).pvalue, binomtest(20, 60).pvalue
        for (better, worse, p) in [(1, 8, 0.0390625), (5, 5, 1.0), (20, 40, 0.013486)] {
            let differences = differences(better, worse);
            assert!(
                (mcnemar(&differences) - p).abs() < 1e-5,
                "{}",
                mcnemar(&differences)
            );
            assert!(
                (exchanged(&differences) - p).abs() < 0.02,
                "{}",
                exchanged(&differences)
            );
        }
        assert_eq!(mcnemar(&[]), 1.0);
        assert!(exchanged(&[0.5; 40]) < 1e-3);
    }
}
