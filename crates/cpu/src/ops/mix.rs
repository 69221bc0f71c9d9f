/// Coefficients of a mix, as [`siskin_graph::MixSpec`] has them.
#[derive(Debug, Clone, Copy)]
pub struct Coefficients<'a> {
    /// Streams that are mixed.
    pub n_in: usize,
    /// `[n_out · n_in]`.
    pub constants: &'a [f32],
    /// W, `[n_out · n_in, r]`, and m, `[r]`.
    pub of_token: Option<(&'a [f32], &'a [f32])>,
}

impl Coefficients<'_> {
    fn at(&self, i: usize) -> f32 {
        let of_token = self.of_token.map_or(0.0, |(w, m)| {
            let w = &w[i * m.len()..][..m.len()];
            w.iter().zip(m).map(|(w, m)| w * m).sum()
        });
        self.constants[i] + of_token
    }
}

/// `out[o] = Σ_i c[o, i] · x[i]` with `c = constants + W · m`, of one row.
pub fn mix(c: Coefficients<'_>, x: &[f32], out: &mut [f32]) {
    let d = x.len() / c.n_in;
    out.fill(0.0);
    for (o, out) in out.chunks_exact_mut(d).enumerate() {
        for (i, x) in x.chunks_exact(d).enumerate() {
            let by = c.at(o * c.n_in + i);
            out.iter_mut().zip(x).for_each(|(out, x)| *out += by * x);
        }
    }
}
