//! A router's logits as a choice of experts. A route is the indices of the chosen and then their weights.

use siskin_formats::sort_by;
use siskin_graph::{RouteSpec, Score};

/// What the logits of all experts are made into.
fn scores(score: Score, logits: &[f32]) -> Vec<f32> {
    match score {
        Score::SparseMixer { .. } => logits.to_vec(),
        Score::Sigmoid => logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect(),
        Score::Softmax => {
            let peak = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let powers: Vec<f32> = logits.iter().map(|l| (l - peak).exp()).collect();
            let total: f32 = powers.iter().sum();
            powers.iter().map(|p| p / total).collect()
        }
    }
}

/// The route of one row, `[2 · n_used]`, from its logits `[n_experts]`; the bias and the experts' scales are those of
/// `spec`.
pub fn route(
    spec: &RouteSpec,
    [bias, expert_scales]: [Option<&[f32]>; 2],
    logits: &[f32],
    out: &mut [f32],
) {
    let scores = scores(spec.score, logits);
    let rank = |e: usize| scores[e] + bias.map_or(0.0, |b| b[e]);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Stable: of equal ones the lower index first.
    sort_by(&mut order, &mut |a, b| rank(*b).total_cmp(&rank(*a)));
    let chosen = &order[..spec.n_used];
    let total = spec.eps + chosen.iter().map(|e| scores[*e]).sum::<f32>();
    let scale = if spec.renormalise {
        spec.scale / total
    } else {
        spec.scale
    };
    let (indices, weights) = out.split_at_mut(spec.n_used);
    if let Score::SparseMixer { jitter } = spec.score {
        for (slot, (index, weight)) in indices.iter_mut().zip(weights).enumerate() {
            // Those chosen before are first in the order.
            let left = order[slot..].iter().map(|e| logits[*e]);
            *index = order[slot] as f32;
            *weight = spec.scale * mixed(logits[order[slot]], left, jitter);
        }
        return;
    }
    for ((index, weight), e) in indices.iter_mut().zip(weights).zip(chosen) {
        *index = *e as f32;
        *weight = scale * scores[*e] * expert_scales.map_or(1.0, |s| s[*e]);
    }
}

/// The softmax of the highest of some logits over those that are close to it.
fn mixed(highest: f32, all: impl Iterator<Item = f32>, jitter: f32) -> f32 {
    let is_close = |s: &f32| (highest - s) / s.abs().max(highest) <= 2.0 * jitter;
    1.0 / all
        .filter(is_close)
        .map(|s| (s - highest).exp())
        .sum::<f32>()
}

/// The expert of each slot of a route, and its weight.
pub(super) fn slots(route: &[f32]) -> impl Iterator<Item = (usize, f32)> {
    let (indices, weights) = route.split_at(route.len() / 2);
    indices.iter().zip(weights).map(|(i, w)| (*i as usize, *w))
}

/// The gradient of one row's logits, from the route and the route's gradient. The choice is constant.
pub fn route_grad(spec: &RouteSpec, logits: &[f32], route: &[f32], dy: &[f32], out: &mut [f32]) {
    let scores = scores(spec.score, logits);
    out.fill(0.0);
    let dy = &dy[spec.n_used..];
    let chosen: Vec<usize> = slots(route).map(|s| s.0).collect();
    let total = spec.eps + chosen.iter().map(|e| scores[*e]).sum::<f32>();
    let inner: f32 = chosen.iter().zip(dy).map(|(e, d)| scores[*e] * d).sum();
    // Of the scores.
    for (e, d) in chosen.iter().zip(dy) {
        out[*e] = match spec.renormalise {
            true => spec.scale * (d - inner / total) / total,
            false => spec.scale * d,
        };
    }
    match spec.score {
        // It has no gradient.
        Score::SparseMixer { .. } => out.fill(0.0),
        Score::Sigmoid => {
            for (d, s) in out.iter_mut().zip(&scores) {
                *d *= s * (1.0 - s);
            }
        }
        Score::Softmax => {
            let mean: f32 = out.iter().zip(&scores).map(|(d, s)| d * s).sum();
            for (d, s) in out.iter_mut().zip(&scores) {
                *d = s * (*d - mean);
            }
        }
    }
}
