//! MLPs whose gates are mostly 0, by a bound that follows from their mean and standard deviation.

use serde_json::Value as Json;
use siskin_formats::{Array, Value};

use crate::Result;
use crate::config::Source;

/// How many standard deviations above the mean the gates of each layer must be. Folders have the share of gates that are
/// 0, GGUF files its quantile.
pub(crate) fn deviations(source: &Source<'_>, n_layers: usize) -> Result<Vec<Option<f32>>> {
    const KEY: &str = "activation_sparsity_pattern";
    const GGUF_KEY: &str = "activation_sparsity_scale";
    if let Some(value) = source.gguf_value(GGUF_KEY) {
        return match value {
            Value::Array(Array::Float(list)) if list.len() == n_layers => Ok(list
                .iter()
                .map(|v| Some(*v).filter(|v| v.is_finite()))
                .collect()),
            _ => Err(source.wrong(GGUF_KEY, "a list with a number for each layer")),
        };
    }
    let share = |v: &Json| v.as_f64().filter(|v| (0.0..1.0).contains(v));
    let shares: Option<Vec<f64>> = match source.json_value(KEY) {
        None | Some(Json::Null) => {
            let n_sparse = if n_layers > 10 { 10 } else { 0 };
            let of = |i: usize| if i < n_sparse { 0.95 } else { 0.0 };
            Some((0..n_layers).map(of).collect())
        }
        Some(Json::Array(list)) => list.iter().map(share).collect(),
        Some(_) => None,
    };
    let shares = shares
        .filter(|shares| shares.len() == n_layers)
        .ok_or_else(|| source.wrong(KEY, "a list with a share below 1 for each layer"))?;
    let of = |share: f64| (share > 0.0).then(|| quantile(share) as f32);
    Ok(shares.into_iter().map(of).collect())
}

/// Where the normal distribution's Φ is p, by bisection; Φ by its series (Marsaglia, "Evaluating the Normal
/// Distribution", 2004).
fn quantile(p: f64) -> f64 {
    let below = |x: f64| {
        let (mut sum, mut term, mut i) = (x, x, 1.0);
        while sum + term != sum {
            i += 2.0;
            term *= x * x / i;
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    };
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        match below(middle) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}
