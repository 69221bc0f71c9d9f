// ln(1 + exp(x)). For small exp(x), 1 + exp(x) would lose most of its digits.
fn softplus(x: f32) -> f32 {
    let e = exp(min(x, 20.0));
    let series = e * (1.0 - e * (0.5 - e * 0.33333334));
    return select(select(log(1.0 + e), series, e < 0.01), x, x > 20.0);
}
