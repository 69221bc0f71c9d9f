use siskin_graph::Pairs;

/// How heads are rotated.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Radians per position of each pair.
    pub inv_freq: &'a [f32],
    /// Values of each head.
    pub head_dim: usize,
    /// Which values form a pair.
    pub pairs: Pairs,
    /// What rotated values are multiplied by.
    pub scale: f32,
    /// Whether the angle is negated, which is the gradient of the rotation.
    pub back: bool,
}

impl<'a> Turn<'a> {
    /// Whole heads, by halves, as Hugging Face's models have it.
    pub fn whole(inv_freq: &'a [f32]) -> Self {
        Self {
            inv_freq,
            head_dim: 2 * inv_freq.len(),
            pairs: Pairs::Halves,
            scale: 1.0,
            back: false,
        }
    }
}

/// Rotates each head of `x` by `position · inv_freq`, pair by pair; dimensions beyond two for each frequency are as
/// they are.
pub fn rope(x: &[f32], turn: Turn<'_>, position: usize, out: &mut [f32]) {
    let half = turn.inv_freq.len();
    let angles: Vec<(f32, f32)> = turn
        .inv_freq
        .iter()
        .map(|f| {
            let (sin, cos) = (position as f32 * f).sin_cos();
            let sin = if turn.back { -sin } else { sin };
            (turn.scale * sin, turn.scale * cos)
        })
        .collect();
    let heads = x.chunks_exact(turn.head_dim);
    for (x, out) in heads.zip(out.chunks_exact_mut(turn.head_dim)) {
        for (i, (sin, cos)) in angles.iter().enumerate() {
            let (first, second) = match turn.pairs {
                Pairs::Halves => (i, i + half),
                Pairs::Interleaved => (2 * i, 2 * i + 1),
            };
            let (a, b) = (x[first], x[second]);
            out[first] = a * cos - b * sin;
            out[second] = b * cos + a * sin;
        }
        out[2 * half..].copy_from_slice(&x[2 * half..]);
    }
}
