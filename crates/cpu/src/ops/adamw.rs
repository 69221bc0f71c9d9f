use siskin_graph::AdamW;

use crate::threads::each_chunk;

/// The norm of all gradients together.
pub fn global_norm(grads: &[f32]) -> f32 {
    let squares: f64 = grads.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
    squares.sqrt() as f32
}

/// One step over all parameters; `moments` holds the first, then the second moment of each.
pub fn adamw(o: &AdamW, norm: f32, grads: &[f32], moments: &mut [[f32; 2]], params: &mut [f32]) {
    let clip = (o.max_grad_norm / (norm + 1e-6)).min(1.0);
    let (rate, root) = o.corrections();
    let decay = 1.0 - o.learning_rate * o.weight_decay;
    const RUN: usize = 1 << 14;
    each_chunk(moments, RUN, |i, moments| {
        for (m, g) in moments.iter_mut().zip(&grads[i * RUN..]) {
            let g = g * clip;
            m[0] += (1.0 - o.beta1) * (g - m[0]);
            m[1] = o.beta2 * m[1] + (1.0 - o.beta2) * g * g;
        }
    });
    let moments = &*moments;
    each_chunk(params, RUN, |i, params| {
        for (p, m) in params.iter_mut().zip(&moments[i * RUN..]) {
            *p = *p * decay - rate * m[0] / (m[1].sqrt() / root + o.eps);
        }
    });
}
