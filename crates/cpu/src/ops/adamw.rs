use siskin_formats::{dynamic_map, nearest_code};
use siskin_graph::{AdamW, MOMENT_BLOCK, Moments};

use crate::threads::each_chunk;

/// Parameters, or blocks of them, that one thread takes at a time.
const RUN: usize = 1 << 14;

/// The norm of all gradients together.
pub fn global_norm(grads: &[f32]) -> f32 {
    let squares: f64 = grads.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    squares.sqrt() as f32
}

/// One step over all parameters.
pub fn adamw(o: &AdamW, norm: f32, grads: &[f32], moments: &mut Moments, params: &mut [f32]) {
    let update = Update::new(o, norm);
    match moments {
        Moments::F32(moments) => {
            each_chunk(moments, RUN, |i, moments| {
                for (m, g) in moments.iter_mut().zip(&grads[i * RUN..]) {
                    update.moments(m, *g);
                }
            });
            let moments = &*moments;
            each_chunk(params, RUN, |i, params| {
                for (p, m) in params.iter_mut().zip(&moments[i * RUN..]) {
                    update.param(p, *m);
                }
            });
        }
        Moments::Int8 { codes, peaks } => {
            let maps = [dynamic_map(true), dynamic_map(false)];
            let (first, second) = codes.split_at_mut(params.len());
            let firsts = first.chunks_exact_mut(MOMENT_BLOCK);
            let seconds = second.chunks_exact_mut(MOMENT_BLOCK);
            let mut blocks: Vec<_> = params
                .chunks_exact_mut(MOMENT_BLOCK)
                .zip(grads.chunks_exact(MOMENT_BLOCK))
                .zip(firsts.zip(seconds).zip(peaks))
                .collect();
            each_chunk(&mut blocks, RUN / MOMENT_BLOCK, |_, blocks| {
                for ((params, grads), ((first, second), peaks)) in blocks {
                    update.block(&maps, params, grads, [first, second], peaks);
                }
            });
        }
    }
}

struct Update<'a> {
    o: &'a AdamW,
    clip: f32,
    rate: f32,
    root: f32,
    decay: f32,
}

impl<'a> Update<'a> {
    fn new(o: &'a AdamW, norm: f32) -> Self {
        let (rate, root) = o.corrections();
        Self {
            o,
            clip: (o.max_grad_norm / (norm + 1e-6)).min(1.0),
            rate,
            root,
            decay: 1.0 - o.learning_rate * o.weight_decay,
        }
    }

    #[inline(always)]
    fn moments(&self, m: &mut [f32; 2], grad: f32) {
        let g = grad * self.clip;
        m[0] += (1.0 - self.o.beta1) * (g - m[0]);
        m[1] = self.o.beta2 * m[1] + (1.0 - self.o.beta2) * g * g;
    }

    #[inline(always)]
    fn param(&self, p: &mut f32, m: [f32; 2]) {
        *p = *p * self.decay - self.rate * m[0] / (m[1].sqrt() / self.root + self.o.eps);
    }

    /// The parameters move by the moments as they are before they are rounded again.
    fn block(
        &self,
        maps: &[[f32; 256]; 2],
        params: &mut [f32],
        grads: &[f32],
        codes: [&mut [u8]; 2],
        peaks: &mut [f32; 2],
    ) {
        let mut kept = [[0f32; 2]; MOMENT_BLOCK];
        let mut highest = [0f32; 2];
        for (i, kept) in kept.iter_mut().enumerate() {
            let value = |which: usize| peaks[which] * maps[which][usize::from(codes[which][i])];
            let root = value(1);
            let mut m = [value(0), root * root];
            self.moments(&mut m, grads[i]);
            self.param(&mut params[i], m);
            *kept = [m[0], m[1].sqrt()];
            highest = [highest[0].max(kept[0].abs()), highest[1].max(kept[1])];
        }
        let inverse = highest.map(|h| if h > 0.0 { 1.0 / h } else { 0.0 });
        let [first, second] = codes;
        for ((first, second), kept) in first.iter_mut().zip(second).zip(kept) {
            *first = nearest_code(&maps[0], kept[0] * inverse[0]);
            *second = nearest_code(&maps[1], kept[1] * inverse[1]);
        }
        *peaks = highest;
    }
}
