/// `out = (x − mean(x)) / sqrt(var(x) + eps) · w + b` over each run of `w.len()` values; the variance is the mean of
/// squared differences.
pub fn layer_norm(x: &[f32], w: &[f32], b: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let n = w.len();
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        let (mean, r) = moments(x, eps);
        for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
            *out = (x - mean) * r * w;
        }
        for (out, b) in out.iter_mut().zip(b.unwrap_or_default()) {
            *out += b;
        }
    }
}

/// `dx = r · (g − mean(g) − z · mean(g ⊙ z))` with `g = w ⊙ dy`, `z = (x − mean(x)) · r` and
/// `r = 1 / sqrt(var(x) + eps)`, over each run of `w.len()` values.
pub fn layer_norm_grad(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = w.len();
    let runs = x.chunks_exact(n).zip(dy.chunks_exact(n));
    for ((x, dy), dx) in runs.zip(dx.chunks_exact_mut(n)) {
        let (mean, r) = moments(x, eps);
        let (mut sum, mut dot) = (0.0, 0.0);
        for ((x, w), dy) in x.iter().zip(w).zip(dy) {
            sum += w * dy;
            dot += w * dy * (x - mean) * r;
        }
        let (sum, dot) = (sum / n as f32, dot / n as f32);
        for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(w).zip(dy) {
            *dx = r * (w * dy - sum - (x - mean) * r * dot);
        }
    }
}

/// The mean, and `1 / sqrt(var + eps)`.
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    (mean, 1.0 / (var + eps).sqrt())
}
