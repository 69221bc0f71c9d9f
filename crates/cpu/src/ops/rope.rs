/// Rotates each head of `x` by `position · inv_freq`: dimension i goes with i + head_dim / 2
/// (the order of Hugging Face's checkpoints). `back` turns the other way, which is rope's gradient.
pub fn rope(x: &[f32], inv_freq: &[f32], position: usize, back: bool, out: &mut [f32]) {
    let half = inv_freq.len();
    let angles: Vec<(f32, f32)> = inv_freq
        .iter()
        .map(|f| {
            let (sin, cos) = (position as f32 * f).sin_cos();
            (if back { -sin } else { sin }, cos)
        })
        .collect();
    for (x, out) in x.chunks_exact(2 * half).zip(out.chunks_exact_mut(2 * half)) {
        for (i, (sin, cos)) in angles.iter().enumerate() {
            let (a, b) = (x[i], x[i + half]);
            out[i] = a * cos - b * sin;
            out[i + half] = b * cos + a * sin;
        }
    }
}
