/// `out = x / sqrt(mean(x²) + eps) · w` over each run of `w.len()` values.
pub fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(w.len()).zip(out.chunks_exact_mut(w.len())) {
        let mean = x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
            *out = x * scale * w;
        }
    }
}

/// `dx = r · (w ⊙ dy − x · r² / n · Σ(w ⊙ dy ⊙ x))` with `r = 1 / sqrt(mean(x²) + eps)`, over each run of
/// `w.len()` values.
pub fn rms_norm_grad(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = w.len();
    let runs = x.chunks_exact(n).zip(dy.chunks_exact(n));
    for ((x, dy), dx) in runs.zip(dx.chunks_exact_mut(n)) {
        let mean = x.iter().map(|v| v * v).sum::<f32>() / n as f32;
        let r = 1.0 / (mean + eps).sqrt();
        let dot: f32 = x.iter().zip(w).zip(dy).map(|((x, w), dy)| x * w * dy).sum();
        let back = dot * r * r / n as f32;
        for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(w).zip(dy) {
            *dx = r * (w * dy - x * back);
        }
    }
}
