//! Packs examples into batches.

use siskin_graph::{Batch, Noise};

use crate::Tokens;

/// Batches of at most `max_rows` rows for one step. Each learned token has the same weight, so packing
/// changes only the time that a step takes. Without `packing` each example is a batch of its own.
pub fn pack(examples: &[&Tokens], max_rows: usize, packing: bool, seed: u32) -> Vec<Batch> {
    let learned: usize = examples.iter().map(|e| e.learned_len()).sum();
    let weight = 1.0 / learned.max(1) as f32;
    let mut batches: Vec<Batch> = vec![];
    for example in examples {
        let rows = example.rows();
        let room = batches
            .iter()
            .position(|b| packing && b.rows() + rows <= max_rows);
        let at = room.unwrap_or(batches.len());
        if at == batches.len() {
            let seed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(at as u32);
            batches.push(Batch {
                seed,
                ..Batch::default()
            });
        }
        let batch = &mut batches[at];
        batch.push(&example.ids[..rows], &[]);
        batch.targets.extend(&example.ids[1..]);
        let weights = example.learned[1..].iter();
        batch
            .weights
            .extend(weights.map(|l| if *l { weight } else { 0.0 }));
    }
    batches
}

/// Indices, out of `n`, of the examples to learn from and of those held out, chosen by the seed.
pub fn split(n: usize, held_out: f32, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..n).collect();
    Noise::new(seed ^ 0x5b1d_e057).shuffle(&mut order);
    let mut k = (n as f32 * held_out).round() as usize;
    if held_out > 0.0 && n >= 5 {
        k = k.max(1);
    }
    let mut rest = order.split_off(k.min(n.saturating_sub(1)));
    order.sort_unstable();
    rest.sort_unstable();
    (rest, order)
}

/// The places of `n` examples in the order in which an epoch, counted from 0, learns from them.
pub fn epoch_order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Noise::new(seed ^ ((epoch as u64 + 1) << 32)).shuffle(&mut order);
    order
}
