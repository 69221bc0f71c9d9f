//! Blocks of 32, and IQ4_XS, which is eight of IQ4_NL with scales that are quantised, too.

use half::f16;

use super::Block;
use super::fit::{self, Tries, best_of, inverse, nearest, peak};
use crate::formats::IQ4_VALUES;

/// As ggml's reference has it for all types where columns have an importance.
const TRIES: Tries = Tries {
    from: -0.9,
    step: 0.05,
    n: 36,
    is_absolute: false,
};

/// The scale as it is stored, appended.
fn scale(d: f32, out: &mut Vec<u8>) -> f32 {
    let d = f16::from_f32(d);
    out.extend(d.to_le_bytes());
    d.to_f32()
}

/// Bytes of the low four bits: of the first 16 codes, and above them of the last 16.
fn nibbles(q: &[u8; 32]) -> impl Iterator<Item = u8> {
    (0..16).map(|i| (q[i] & 15) | ((q[i + 16] & 15) << 4))
}

/// The fifth bits.
fn fifth_bits(q: &[u8; 32]) -> [u8; 4] {
    let bits = (0..32).map(|i| u32::from(q[i] >> 4) << i);
    bits.fold(0, |a, b| a | b).to_le_bytes()
}

/// Codes from 0 to 2n − 1 of a format whose codes mean −n to n − 1, after their scale.
fn signed(block: Block<'_>, n: i32, out: &mut Vec<u8>) -> [u8; 32] {
    let d = match block.importance {
        Some(_) => fit::signed(n, block.x, &block.weights(block.row_power, |x| x * x)),
        // As ggml's reference: the value of greatest magnitude becomes −n.
        None => peak(block.x).unwrap_or(0.0) / -n as f32,
    };
    let is_weighted = block.importance.is_some();
    let stored = scale(d, out);
    let id = inverse(if is_weighted { stored } else { d });
    std::array::from_fn(|i| {
        let q = (block.x[i] * id + n as f32 + 0.5).floor();
        q.clamp(0.0, (2 * n - 1) as f32) as u8
    })
}

/// Codes from 0 to n, after their scale and minimum.
fn with_minimum(block: Block<'_>, n: i32, out: &mut Vec<u8>) -> [u8; 32] {
    let (d, m) = match block.importance {
        Some(_) => {
            let weights = block.weights(block.row_power, |x| x * x);
            let (d, m) = fit::with_minimum(n, block.x, &weights, &TRIES);
            (d, -m)
        }
        None => {
            let min = block.x.iter().copied().fold(f32::INFINITY, f32::min);
            let max = block.x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            ((max - min) / n as f32, min)
        }
    };
    scale(d, out);
    scale(m, out);
    let id = inverse(d);
    std::array::from_fn(|i| ((block.x[i] - m) * id + 0.5).clamp(0.0, n as f32) as u8)
}

pub(super) fn q4_0(block: Block<'_>, out: &mut Vec<u8>) {
    let q = signed(block, 8, out);
    out.extend(nibbles(&q));
}

pub(super) fn q4_1(block: Block<'_>, out: &mut Vec<u8>) {
    let q = with_minimum(block, 15, out);
    out.extend(nibbles(&q));
}

pub(super) fn q5_0(block: Block<'_>, out: &mut Vec<u8>) {
    let q = signed(block, 16, out);
    out.extend(fifth_bits(&q));
    out.extend(nibbles(&q));
}

pub(super) fn q5_1(block: Block<'_>, out: &mut Vec<u8>) {
    let q = with_minimum(block, 31, out);
    out.extend(fifth_bits(&q));
    out.extend(nibbles(&q));
}

/// The code of the nearest of [`IQ4_VALUES`]; of two, the higher one.
fn code(v: f32) -> u8 {
    let middle =
        |i: &usize| f32::from(i16::from(IQ4_VALUES[*i]) + i16::from(IQ4_VALUES[i + 1])) / 2.0;
    (0..15).take_while(|i| v >= middle(i)).count() as u8
}

/// The scale for the values of a table.
fn table_scale(block: Block<'_>, power: f32) -> f32 {
    let Some(peak) = peak(block.x) else {
        return 0.0;
    };
    let first = f32::from(IQ4_VALUES[0]);
    let weights = block.weights(power, |x| x * x);
    let inverses = std::iter::once(-first)
        .chain((-7..=7).map(|step| step as f32 + first))
        .map(|v| v / peak);
    let value = |v: f32| f32::from(IQ4_VALUES[usize::from(code(v))]);
    best_of(inverses, block.x, &weights, value).unwrap_or(peak / first)
}

fn codes(x: &[f32], d: f32) -> [u8; 32] {
    let id = inverse(d);
    std::array::from_fn(|i| code(id * x[i]))
}

pub(super) fn iq4_nl(block: Block<'_>, out: &mut Vec<u8>) {
    let d = scale(table_scale(block, 2.0 * block.power()), out);
    out.extend(nibbles(&codes(block.x, d)));
}

pub(super) fn iq4_xs(block: Block<'_>, out: &mut Vec<u8>) {
    let power = 2.0 * block.power();
    let scales: Vec<f32> = block.parts(32).map(|p| table_scale(p, power)).collect();
    let d = scale(peak(&scales).unwrap_or(0.0) / -32.0, out);
    let id = inverse(d);
    let levels: Vec<i32> = scales
        .iter()
        .map(|s| nearest(id * s).clamp(-32, 31))
        .collect();
    let bits = |i: usize| (levels[i] + 32) as u16;
    let high = (0..8).fold(0, |all, i| all | ((bits(i) >> 4) << (2 * i)));
    out.extend(high.to_le_bytes());
    out.extend((0..4).map(|i| ((bits(2 * i) & 15) | ((bits(2 * i + 1) & 15) << 4)) as u8));
    for (part, level) in block.parts(32).zip(&levels) {
        out.extend(nibbles(&codes(part.x, d * *level as f32)));
    }
}
