/// How the next token is chosen. The filters apply in this order, each over what is left by those
/// before it: repeat penalty, temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token, whatever the other fields say (but for the penalty).
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the fewest likeliest whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Keep those at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens that stand in the context are divided by this if positive, multiplied if
    /// negative (`transformers.RepetitionPenaltyLogitsProcessor`); 1 changes nothing.
    pub repeat_penalty: f32,
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Noise for token `id` at `position`: a uniform in (0, 1) that depends on nothing else, so
    /// that any device draws the same. Hash: PCG, M. Jarzynski and M. Olano, "Hash Functions for
    /// GPU Rendering" (2020).
    pub fn uniform(&self, position: u32, id: u32) -> f32 {
        let key = pcg((self.seed as u32) ^ pcg((self.seed >> 32) as u32 ^ pcg(position)));
        let bits = pcg(id ^ key);
        ((bits >> 8) as f32 + 0.5) / 16_777_216.0
    }
}

fn pcg(v: u32) -> u32 {
    let state = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}
