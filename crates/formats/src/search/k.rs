//! Blocks of 256, whose scales are quantised, too: scales of the parts first, then the scale of the scales, and last the
//! integers with the scales as they are stored.

use half::f16;

use super::Block;
use super::fit::{self, Tries, inverse, nearest, peak};

/// A block's scales and minima as they are stored, and what they stand for.
struct Scales {
    /// The scale of the scales, and of the minima.
    d: [f16; 2],
    /// Of each part, the scale and the minimum.
    levels: Vec<[u8; 2]>,
}

/// What differs between formats whose parts have a scale and a minimum.
struct WithMinimum {
    /// Values in a part.
    part: usize,
    /// The greatest integer.
    n: i32,
    /// The greatest scale and minimum as stored.
    levels: i32,
    /// What the block's mean square is multiplied by in the weights.
    power: f32,
    /// What is tried without an importance.
    tries: Tries,
    /// What errors weigh without an importance, from a value and the root of the part's mean square.
    weight: fn(f32, f32) -> f32,
}

/// What is tried where columns have an importance.
const WEIGHTED: Tries = Tries {
    from: -0.9,
    step: 0.05,
    n: 36,
    is_absolute: false,
};

impl WithMinimum {
    fn scales(&self, block: Block<'_>) -> Scales {
        let power = self.power * block.power();
        let (mut found, mut total) = ([vec![], vec![]], vec![]);
        for part in block.parts(self.part) {
            let root = part.power().sqrt();
            let weights = part.weights(power, |x| (self.weight)(x, root));
            let tries = match part.importance {
                Some(_) => &WEIGHTED,
                None => &self.tries,
            };
            let (d, m) = fit::with_minimum(self.n, part.x, &weights, tries);
            found[0].push(d.max(0.0));
            found[1].push(m);
            total.push(weights.iter().sum());
        }
        let d = found.each_ref().map(|of| match block.importance {
            Some(_) => fit::positive(self.levels, of, &total),
            None => of.iter().copied().fold(0.0, f32::max) / self.levels as f32,
        });
        let level = |d: f32, of: f32| nearest(of * inverse(d)).clamp(0, self.levels) as u8;
        let levels = found[0].iter().zip(&found[1]);
        Scales {
            levels: levels
                .map(|(s, m)| [level(d[0], *s), level(d[1], *m)])
                .collect(),
            d: d.map(f16::from_f32),
        }
    }

    /// The integers that come nearest with the scales.
    fn codes(&self, block: Block<'_>, scales: &Scales) -> Vec<u8> {
        let d = scales.d.map(f16::to_f32);
        let mut out = Vec::with_capacity(block.x.len());
        for (part, [scale, min]) in block.parts(self.part).zip(&scales.levels) {
            let id = inverse(d[0] * f32::from(*scale));
            let m = d[1] * f32::from(*min);
            let code = |x: &f32| nearest((x + m) * id).clamp(0, self.n) as u8;
            out.extend(part.x.iter().map(code));
        }
        out
    }
}

const Q2: WithMinimum = WithMinimum {
    part: 16,
    n: 3,
    levels: 15,
    power: 1.0,
    tries: Tries {
        from: -0.5,
        step: 0.1,
        n: 15,
        is_absolute: true,
    },
    weight: |x, _| x.abs(),
};

const Q4: WithMinimum = WithMinimum {
    part: 32,
    n: 15,
    levels: 63,
    power: 2.0,
    tries: Tries {
        from: -1.0,
        step: 0.1,
        n: 20,
        is_absolute: false,
    },
    weight: |x, root| root + x.abs(),
};

const Q5: WithMinimum = WithMinimum {
    n: 31,
    tries: Tries {
        from: -0.5,
        step: 0.1,
        n: 15,
        is_absolute: false,
    },
    ..Q4
};

/// Two bits of each of 256 codes: in the bytes of each half, those of four runs of 32.
fn quarters(q: &[u8]) -> impl Iterator<Item = u8> {
    let bits = |half: usize, l: usize, run: usize| (q[half * 128 + run * 32 + l] & 3) << (2 * run);
    (0..64).map(move |i| (0..4).fold(0, |all, run| all | bits(i / 32, i % 32, run)))
}

pub(super) fn q2(block: Block<'_>, out: &mut Vec<u8>) {
    let scales = Q2.scales(block);
    let q = Q2.codes(block, &scales);
    out.extend(scales.levels.iter().map(|[s, m]| s | (m << 4)));
    out.extend(quarters(&q));
    out.extend(scales.d.iter().flat_map(|d| d.to_le_bytes()));
}

/// `d`, `dmin`, and the 6-bit scales and minima in 12 bytes, as [`crate::formats::k_scale_min`] reads them.
fn scales_45(scales: &Scales, out: &mut Vec<u8>) {
    out.extend(scales.d.iter().flat_map(|d| d.to_le_bytes()));
    let s = &scales.levels;
    let high = |i: usize, which: usize| (s[i + 4][which] >> 4) << 6;
    out.extend((0..4).map(|i| s[i][0] | high(i, 0)));
    out.extend((0..4).map(|i| s[i][1] | high(i, 1)));
    out.extend((4..8).map(|i| (s[i][0] & 15) | ((s[i][1] & 15) << 4)));
}

/// The low four bits: runs 2i and 2i + 1 of 32 in the same bytes.
fn nibbles(q: &[u8]) -> impl Iterator<Item = u8> {
    let at = |i: usize| (i / 32) * 64 + i % 32;
    (0..128).map(move |i| (q[at(i)] & 15) | ((q[at(i) + 32] & 15) << 4))
}

/// A bit of each of 256 codes: that of the i-th run of 32 is the i-th.
fn bit(q: &[u8], which: u8) -> impl Iterator<Item = u8> {
    let bit = move |l: usize, run: usize| ((q[run * 32 + l] >> which) & 1) << run;
    (0..32).map(move |l| (0..8).fold(0, |all, run| all | bit(l, run)))
}

pub(super) fn q4(block: Block<'_>, out: &mut Vec<u8>) {
    let scales = Q4.scales(block);
    let q = Q4.codes(block, &scales);
    scales_45(&scales, out);
    out.extend(nibbles(&q));
}

pub(super) fn q5(block: Block<'_>, out: &mut Vec<u8>) {
    let scales = Q5.scales(block);
    let q = Q5.codes(block, &scales);
    scales_45(&scales, out);
    out.extend(bit(&q, 4));
    out.extend(nibbles(&q));
}

/// The codes, from 0 to 2n − 1, of formats whose parts of 16 have a signed scale `d · level`.
fn signed_codes(block: Block<'_>, n: i32, d: f32, levels: &[i32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.x.len());
    for (part, level) in block.parts(16).zip(levels) {
        let id = inverse(d * *level as f32);
        let code = |x: &f32| (nearest(x * id).clamp(-n, n - 1) + n) as u8;
        out.extend(part.x.iter().map(code));
    }
    out
}

pub(super) fn q3(block: Block<'_>, out: &mut Vec<u8>) {
    let power = 2.0 * block.power();
    let (mut found, mut total) = (vec![], vec![]);
    for part in block.parts(16) {
        let weights = part.weights(power, |x| x * x);
        found.push(match part.importance {
            Some(_) => fit::signed(4, part.x, &weights),
            None => fit::signed_by_descent(4, part.x, &weights),
        });
        total.push(weights.iter().sum());
    }
    let d = match block.importance {
        Some(_) => fit::signed(32, &found, &total),
        None => peak(&found).unwrap_or(0.0) / -32.0,
    };
    let level = |s: &f32| nearest(s * inverse(d)).clamp(-32, 31);
    let levels: Vec<i32> = found.iter().map(level).collect();
    let d = f16::from_f32(d);
    let q = signed_codes(block, 4, d.to_f32(), &levels);
    out.extend(bit(&q, 2));
    out.extend(quarters(&q));
    let bits = |i: usize| (levels[i] + 32) as u8;
    out.extend((0..8).map(|i| (bits(i) & 15) | ((bits(i + 8) & 15) << 4)));
    let high = |i: usize, four: usize| (bits(4 * four + i) >> 4) << (2 * four);
    out.extend((0..4).map(|i| (0..4).fold(0, |all, four| all | high(i, four))));
    out.extend(d.to_le_bytes());
}

pub(super) fn q6(block: Block<'_>, out: &mut Vec<u8>) {
    let scale = |part: Block<'_>| match part.importance {
        // With 64 integers the magnitudes need no weight of their own.
        Some(w) => fit::signed(32, part.x, w),
        None => fit::signed(32, part.x, &part.weights(0.0, |x| x * x)),
    };
    let found: Vec<f32> = block.parts(16).map(scale).collect();
    let d = peak(&found).unwrap_or(0.0) / -128.0;
    let level = |s: &f32| nearest(s * inverse(d)).clamp(-128, 127);
    let levels: Vec<i32> = found.iter().map(level).collect();
    let d = f16::from_f32(d);
    let q = signed_codes(block, 32, d.to_f32(), &levels);
    // In each half of 128, the low bits of run j are those of a byte's low or high nibble.
    let low = |i: usize| (i / 64) * 128 + i % 64;
    out.extend((0..128).map(|i| (q[low(i)] & 15) | ((q[low(i) + 64] & 15) << 4)));
    let high: Vec<u8> = q.iter().map(|q| q >> 4).collect();
    out.extend(quarters(&high));
    out.extend(levels.iter().map(|l| *l as i8 as u8));
    out.extend(d.to_le_bytes());
}
