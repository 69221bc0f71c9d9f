/// `out = y · sqrt(mean(x²) / max(mean(y²), least))` over each run of `x.len()` values.
pub fn rescale(y: &[f32], x: &[f32], least: f32, out: &mut [f32]) {
    let n = x.len();
    let mean = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>() / n as f32;
    let wanted = mean(x);
    for (y, out) in y.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        let by = (wanted / mean(y).max(least)).sqrt();
        out.iter_mut().zip(y).for_each(|(out, y)| *out = by * y);
    }
}
