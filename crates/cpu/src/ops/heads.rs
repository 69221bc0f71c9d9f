//! Heads that are put together from columns of one or two values.

use siskin_graph::HeadsSpec;

/// One row `[n_heads · width]` from those of the inputs.
pub fn join_heads(spec: &HeadsSpec, inputs: [&[f32]; 2], out: &mut [f32]) {
    out.fill(0.0);
    for (head, out) in out.chunks_exact_mut(spec.width).enumerate() {
        let mut at = 0;
        for ((x, len), stride) in inputs.iter().zip(spec.lens).zip(spec.strides) {
            out[at..at + len].copy_from_slice(&x[head * stride..][..len]);
            at += len;
        }
    }
}
