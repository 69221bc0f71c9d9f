//! Scales with which integers come near to given values. Rounding to a grid is not linear in its scale, so that a few
//! scales about the obvious one are tried; for the integers of each, the best scale is that of least squares. The methods
//! are those of ggml's reference (`ggml-quants.c`: `make_qx_quants`, `make_q3_quants`, `make_qp_quants` and
//! `make_qkx3_quants`), so that files are as good as those that other programs write.

/// Values smaller than this are zeros.
const TINY: f32 = 1e-15;

/// The nearest integer, of two the even one.
pub(super) fn nearest(v: f32) -> i32 {
    v.round_ties_even() as i32
}

/// `1 / d`, and 0 for 0.
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The value of greatest magnitude, with its sign; `None` if there is none but zeros.
pub(super) fn peak(x: &[f32]) -> Option<f32> {
    let larger = |a: f32, b: &f32| if b.abs() > a.abs() { *b } else { a };
    let peak = x.iter().fold(0.0, larger);
    (peak.abs() >= TINY).then_some(peak)
}

/// Weighted sums over values `x` and integers `q`: of `x · q` and of `q²`.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    xq: f32,
    qq: f32,
}

impl Sums {
    pub fn add(&mut self, w: f32, x: f32, q: f32) {
        self.xq += w * x * q;
        self.qq += w * q * q;
    }

    /// The scale of least squares.
    pub fn scale(self) -> Option<f32> {
        (self.qq > 0.0).then(|| self.xq / self.qq)
    }

    /// Whether the least squared error with these integers is smaller than with others.
    pub fn is_better(self, than: Self) -> bool {
        self.qq > 0.0
            && (than.qq <= 0.0 || self.xq * self.xq * than.qq > than.xq * than.xq * self.qq)
    }
}

/// The scale of least error among those of `inverses`, where `code` makes an integer of a scaled value.
pub(super) fn best_of(
    inverses: impl Iterator<Item = f32>,
    x: &[f32],
    w: &[f32],
    code: impl Fn(f32) -> f32,
) -> Option<f32> {
    let mut best = Sums::default();
    for inverse in inverses {
        let mut sums = Sums::default();
        for (x, w) in x.iter().zip(w) {
            sums.add(*w, *x, code(inverse * x));
        }
        if sums.is_better(best) {
            best = sums;
        }
    }
    best.scale()
}

/// For integers from −n to n − 1. The value of greatest magnitude is near −n, which reaches further than n − 1.
pub(super) fn signed(n: i32, x: &[f32], w: &[f32]) -> f32 {
    let Some(peak) = peak(x) else { return 0.0 };
    let steps = std::iter::once(0).chain(-9..=9);
    let inverses = steps.map(|step| -(n as f32 + 0.1 * step as f32) / peak);
    let code = |v: f32| nearest(v).clamp(-n, n - 1) as f32;
    // Without weights there is no best one.
    best_of(inverses, x, w, code).unwrap_or(peak / -n as f32)
}

/// As [`signed`], but from one scale, by changing one integer at a time.
pub(super) fn signed_by_descent(n: i32, x: &[f32], w: &[f32]) -> f32 {
    let Some(peak) = peak(x) else { return 0.0 };
    let scale = peak / -n as f32;
    descent(scale, (-n, n - 1), x, w).unwrap_or(scale)
}

/// For integers from 0 to n and values that are not negative.
pub(super) fn positive(n: i32, x: &[f32], w: &[f32]) -> f32 {
    let Some(peak) = peak(x).filter(|p| *p > 0.0) else {
        return 0.0;
    };
    let error = |scale: f32| -> f32 {
        let of = |(x, w): (&f32, &f32)| {
            let apart = x - scale * nearest(x / scale).min(n) as f32;
            w * apart * apart
        };
        x.iter().zip(w).map(of).sum()
    };
    let steps = std::iter::once(0).chain(-4..=4);
    let scales = steps.map(|step| peak / (n as f32 + 0.1 * step as f32));
    let (scale, _) = scales.fold((peak / n as f32, f32::INFINITY), |best, scale| {
        let error = error(scale);
        if error < best.1 { (scale, error) } else { best }
    });
    descent(scale, (0, n), x, w).unwrap_or(scale)
}

/// From the integers that a scale gives: moves each to where the scale of least squares of all others wants it, while
/// that makes the error smaller, and returns the scale of least squares.
fn descent(scale: f32, (low, high): (i32, i32), x: &[f32], w: &[f32]) -> Option<f32> {
    const ROUNDS: usize = 5;
    let mut q: Vec<i32> = x
        .iter()
        .map(|x| nearest(x / scale).clamp(low, high))
        .collect();
    let mut sums = Sums::default();
    for ((x, w), q) in x.iter().zip(w).zip(&q) {
        sums.add(*w, *x, *q as f32);
    }
    for _ in 0..ROUNDS {
        let mut is_changed = false;
        for ((x, w), q) in x.iter().zip(w).zip(&mut q) {
            let mut moved = sums;
            moved.add(-w, *x, *q as f32);
            if moved.xq <= 0.0 || moved.qq <= 0.0 {
                continue;
            }
            let wanted = nearest(x * moved.qq / moved.xq).clamp(low, high);
            moved.add(*w, *x, wanted as f32);
            if wanted != *q && moved.is_better(sums) {
                (*q, sums) = (wanted, moved);
                is_changed = true;
            }
        }
        if !is_changed {
            break;
        }
    }
    sums.scale()
}

/// Which scales [`with_minimum`] tries, and by which error it chooses.
pub(super) struct Tries {
    /// What is added to n: from here,
    pub from: f32,
    /// in steps of this,
    pub step: f32,
    /// so many times.
    pub n: usize,
    /// Whether errors count by their magnitude, not squared.
    pub is_absolute: bool,
}

/// A scale and a minimum `(d, m)`, not negative, for integers from 0 to n: `x ≈ d · q − m`.
pub(super) fn with_minimum(n: i32, x: &[f32], w: &[f32], tries: &Tries) -> (f32, f32) {
    let min = x.iter().copied().fold(0.0, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max <= min {
        return (0.0, -min);
    }
    let (mut sum_w, mut sum_x) = (0.0, 0.0);
    for (x, w) in x.iter().zip(w) {
        sum_w += w;
        sum_x += w * x;
    }
    let codes = |inverse: f32, min: f32| {
        let code = move |x: &f32| nearest(inverse * (x - min)).clamp(0, n) as f32;
        x.iter().map(code)
    };
    let error = |(inverse, from): (f32, f32), (d, m): (f32, f32)| -> f32 {
        let each = codes(inverse, from).zip(x).zip(w).map(|((q, x), w)| {
            let apart = d * q + m - x;
            w * if tries.is_absolute {
                apart.abs()
            } else {
                apart * apart
            }
        });
        each.sum()
    };
    let first = n as f32 / (max - min);
    let mut best = (1.0 / first, min);
    let mut least = error((first, min), best);
    for i in 0..=tries.n {
        // From the best minimum so far.
        let from = best.1;
        let inverse = (tries.from + tries.step * i as f32 + n as f32) / (max - from);
        let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
        for ((q, x), w) in codes(inverse, from).zip(x).zip(w) {
            sum_q += w * q;
            sum_qq += w * q * q;
            sum_xq += w * q * x;
        }
        // The normal equations of `d · q + m`.
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant <= 0.0 {
            continue;
        }
        let mut found = (
            (sum_w * sum_xq - sum_x * sum_q) / determinant,
            (sum_qq * sum_x - sum_q * sum_xq) / determinant,
        );
        if found.1 > 0.0 {
            found = (sum_xq / sum_qq, 0.0);
        }
        let error = error((inverse, from), found);
        if error < least {
            (best, least) = (found, error);
        }
    }
    (best.0, -best.1)
}
