use std::ops::Range;

use siskin_graph::Pooling;

use super::gemm::Mat;

/// One row of `out` for each segment of x's rows.
pub fn pool(pooling: Pooling, segments: &[Range<usize>], x: Mat<'_>, out: &mut [f32]) {
    let cols = out.len() / segments.len().max(1);
    for (segment, out) in segments.iter().zip(out.chunks_exact_mut(cols)) {
        match pooling {
            Pooling::First => out.copy_from_slice(x.row(segment.start)),
            Pooling::Last => out.copy_from_slice(x.row(segment.end - 1)),
            Pooling::Mean => {
                out.fill(0.0);
                for t in segment.clone() {
                    out.iter_mut().zip(x.row(t)).for_each(|(o, x)| *o += x);
                }
                out.iter_mut().for_each(|o| *o /= segment.len() as f32);
            }
        }
    }
}
