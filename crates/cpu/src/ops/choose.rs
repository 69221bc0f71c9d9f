//! The next token. The definition that the shader repeats: every filter is a threshold on the
//! scaled logits, and the choice is the largest of logit + Gumbel noise above it, so nothing is
//! sorted and no running sum decides.

use std::borrow::Cow;

use siskin_graph::{BANNED, Sampled, Sampling};

/// Some tokens, a bit each.
pub type TokenSet = [u32];

fn contains(set: &TokenSet, id: usize) -> bool {
    set.get(id / 32).is_some_and(|w| (w >> (id % 32)) & 1 == 1)
}

/// In place of a token where a logit is not finite.
pub const NOT_FINITE: u32 = u32::MAX;

/// The token of a choice, of equal ones the lowest id; or [`NOT_FINITE`]. `seen` are the tokens of the context.
pub fn choose(logits: &[f32], seen: &TokenSet, choice: &Sampled<'_>) -> u32 {
    if logits.iter().any(|l| !l.is_finite()) {
        return NOT_FINITE;
    }
    let s = choice.sampling;
    let logits = with_added(logits, choice.added);
    let penalised = |id: usize| {
        let l = logits[id];
        let is_allowed = choice.allowed.is_none_or(|allowed| contains(allowed, id));
        if !is_allowed || l <= BANNED {
            return BANNED;
        }
        match (contains(seen, id), l > 0.0) {
            (false, _) => l,
            (true, true) => l / s.repeat_penalty,
            (true, false) => l * s.repeat_penalty,
        }
    };
    if s.temperature == 0.0 {
        return argmax((0..logits.len()).map(penalised));
    }
    let z: Vec<f32> = (0..logits.len())
        .map(|id| penalised(id) / s.temperature)
        .collect();
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let threshold = threshold(&z, max, s);
    argmax(z.iter().enumerate().map(|(id, z)| {
        if key(*z) < threshold {
            return f32::NEG_INFINITY;
        }
        let u = s.uniform(choice.position as u32, id as u32);
        z - (-u.ln()).ln()
    }))
}

fn with_added<'a>(logits: &'a [f32], added: &[(u32, f32)]) -> Cow<'a, [f32]> {
    let mut logits = Cow::Borrowed(logits);
    for (id, value) in added {
        logits.to_mut()[*id as usize] += value;
    }
    logits
}

fn argmax(values: impl Iterator<Item = f32>) -> u32 {
    let best = values
        .zip(0u32..)
        .fold((f32::NEG_INFINITY, u32::MAX), |best, (v, id)| {
            if v > best.0 || best.1 == u32::MAX {
                (v, id)
            } else {
                best
            }
        });
    best.1
}

/// Floats as integers in the same order.
fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 0x8000_0000
    }
}

/// The largest `t ≥ low` for which `enough(t)`, by bisection; `enough(low)` holds.
fn bisect(low: u32, high: u32, enough: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if enough(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

fn threshold(z: &[f32], max: f32, s: &Sampling) -> u32 {
    let top = key(max);
    let mut t = 0;
    if s.top_k > 0 && (s.top_k as usize) < z.len() {
        let count = |t| z.iter().filter(|z| key(**z) >= t).count();
        t = bisect(t, top, |t| count(t) >= s.top_k as usize);
    }
    if s.top_p < 1.0 {
        let mass = |t| {
            z.iter()
                .filter(|z| key(**z) >= t)
                .map(|z| (z - max).exp())
                .sum::<f32>()
        };
        let wanted = s.top_p * mass(t);
        t = bisect(t, top, |t| mass(t) >= wanted);
    }
    if s.min_p > 0.0 {
        t = t.max(key(max + s.min_p.ln()));
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(s: &Sampling, position: usize) -> Sampled<'_> {
        Sampled {
            row: 0,
            position,
            slot: 0,
            sampling: s,
            allowed: None,
            added: &[],
        }
    }

    fn draws(logits: &[f32], s: Sampling) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for position in 0..20_000 {
            counts[choose(logits, &[], &choice(&s, position)) as usize] += 1;
        }
        counts
    }

    #[test]
    fn frequencies_are_the_softmax() {
        let logits = [0.0, 1.0, 2.0, -1.0];
        let s = Sampling {
            temperature: 1.0,
            seed: 7,
            ..Sampling::default()
        };
        let total: f32 = logits.iter().map(|l: &f32| l.exp()).sum();
        for (count, l) in draws(&logits, s).iter().zip(logits) {
            let (found, wanted) = (*count as f32 / 20_000.0, l.exp() / total);
            assert!((found - wanted).abs() < 0.015, "{found} {wanted}");
        }
    }

    #[test]
    fn filters_cut_the_tail() {
        let logits = [3.0, 2.0, 1.0, 0.0];
        let warm = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let kept = |s| draws(&logits, s).iter().filter(|c| **c > 0).count();
        assert_eq!(kept(warm), 4);
        assert_eq!(kept(Sampling { top_k: 2, ..warm }), 2);
        // Probabilities: .64 .24 .09 .03.
        assert_eq!(kept(Sampling { top_p: 0.6, ..warm }), 1);
        assert_eq!(kept(Sampling { top_p: 0.9, ..warm }), 3);
        assert_eq!(kept(Sampling { min_p: 0.2, ..warm }), 2);
    }

    #[test]
    fn only_allowed_tokens_are_chosen() {
        let logits = [3.0, 2.0, 1.0, 9.0];
        let greedy = Sampling::default();
        let chosen = |s: &Sampling, position, allowed| {
            let allowed = Some(allowed);
            let choice = Sampled {
                allowed,
                ..choice(s, position)
            };
            choose(&logits, &[], &choice)
        };
        assert_eq!(chosen(&greedy, 0, &[0b0110]), 1);
        // What is beyond the set is not in it.
        assert_eq!(chosen(&greedy, 0, &[]), 0);
        let warm = Sampling {
            temperature: 3.0,
            top_k: 3,
            top_p: 0.99,
            ..greedy
        };
        let mut counts = [0; 4];
        for position in 0..1000 {
            counts[chosen(&warm, position, &[0b0110]) as usize] += 1;
        }
        assert!(counts[1] > counts[2] && counts[2] > 100, "{counts:?}");
        assert_eq!([counts[0], counts[3]], [0, 0]);
    }

    #[test]
    fn greedy_penalty_and_ties() {
        let s = Sampling {
            repeat_penalty: 2.0,
            ..Sampling::default()
        };
        let choice = choice(&s, 0);
        assert_eq!(choose(&[1.0, 3.0, 2.0, 2.0], &[0], &choice), 1);
        assert_eq!(choose(&[1.0, 3.0, 2.0, 2.0], &[0b10], &choice), 2);
    }

    #[test]
    fn logits_are_added_to_before_the_penalty() {
        let logits = [1.0, 3.0, 2.0, -2.0];
        let s = Sampling {
            repeat_penalty: 2.0,
            ..Sampling::default()
        };
        let chosen = |s: &Sampling, position, added| {
            let choice = Sampled {
                added,
                ..choice(s, position)
            };
            choose(&logits, &[0b1000], &choice)
        };
        assert_eq!(chosen(&s, 0, &[(1, -1.5)]), 2);
        // 4.5 over the penalty of 2.
        assert_eq!(chosen(&s, 0, &[(3, 6.5)]), 1);
        assert_eq!(chosen(&s, 0, &[(3, 8.5)]), 3);
        // At any temperature.
        let hot = Sampling {
            temperature: 100.0,
            ..s
        };
        let others = [(0, BANNED), (2, BANNED), (3, BANNED)];
        assert!((0..1000).all(|position| chosen(&hot, position, &others) == 1));
    }
}
