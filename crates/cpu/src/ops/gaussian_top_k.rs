/// `out = max(x − (mean(x) + deviations · std(x)), 0)`, of one row.
pub fn gaussian_top_k(x: &[f32], deviations: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let cutoff = mean + deviations * variance.sqrt();
    out.iter_mut()
        .zip(x)
        .for_each(|(out, x)| *out = (x - cutoff).max(0.0));
}
