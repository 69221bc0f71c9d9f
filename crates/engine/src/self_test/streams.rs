//! Streams of hidden states, and what of a row is far above its mean.

use siskin_formats::TensorType;
use siskin_graph::MixSpec;

use super::Case;

impl Case {
    /// Three streams in some columns of a value are mixed to two, by coefficients of each token and by constants, then
    /// rescaled to the magnitude of one of them; of the result, what is far above the mean is left.
    ///
    /// # Errors
    /// If a shape does not match, which would be a mistake in the case itself.
    pub fn streams() -> siskin_graph::Result<Self> {
        const D: usize = 40;
        let (mut case, x) = Self::new(96);
        let projection = case.matrix("streams", &[(TensorType::F32, 8 + 3 * D)], 96);
        let router = case.matrix("router", &[(TensorType::F32, 5)], 96);
        let constants = case.vector("constants", 6);
        let weights = case.vector("coefficients", 6 * 5);
        let back = case.vector("constants back", 6);
        let spec = MixSpec {
            n_in: 3,
            n_out: 2,
            constants,
            weights: Some(weights),
        };
        let g = &mut case.graph;
        let all = g.linear(x, projection, None)?;
        let streams = g.slice(all, 8, 3 * D)?;
        let m = g.linear(x, router, None)?;
        let two = g.mix(streams, Some(m), spec)?;
        let back = MixSpec {
            n_in: 2,
            n_out: 3,
            constants: back,
            weights: None,
        };
        let three = g.mix(two, None, back)?;
        let target = g.slice(all, 8 + D, D)?;
        let y = g.rescale(three, target, 1e-5)?;
        let part = g.slice(y, D, 2 * D)?;
        let y = g.gaussian_top_k(part, 0.4);
        g.output(y);
        Ok(case)
    }
}
