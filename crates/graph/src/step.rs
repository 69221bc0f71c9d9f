/// How the next token is chosen. The filters apply in this order, each over what is left by those
/// before it: repeat penalty, temperature, top-k, top-p, min-p. What a step adds to logits
/// ([`crate::SequenceRows::added`]) is added before them. The default is the likeliest token.
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
    /// Logits of tokens that are in the context are divided by this if positive, multiplied if
    /// negative (`transformers.RepetitionPenaltyLogitsProcessor`); 1 changes nothing.
    pub repeat_penalty: f32,
    /// Decides the draw, together with the position: the same seed draws the same tokens on every device.
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

/// One run over whole texts, in training or to embed them: the tokens of one or several texts, one after another. All
/// vectors have the same length, but for those of which one of the two has no use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The tokens that are fed, one per row.
    pub tokens: Vec<u32>,
    /// Each token's position in its own text: 0 begins a segment, and tokens see their segment only.
    pub positions: Vec<u32>,
    /// Which of two texts that are read together each token belongs to; empty if there is only one.
    pub kinds: Vec<u32>,
    /// The token to be predicted at each row; empty if there is no loss.
    pub targets: Vec<u32>,
    /// What each row's loss is multiplied by; 0 leaves the row out. Empty if there is no loss.
    pub weights: Vec<f32>,
    /// Decides what dropout drops.
    pub seed: u32,
}

impl Batch {
    /// Adds a text: its tokens, and of which of two texts each is.
    pub fn push(&mut self, tokens: &[u32], kinds: &[u32]) {
        self.tokens.extend(tokens);
        self.positions.extend(0..tokens.len() as u32);
        self.kinds.extend(kinds);
    }

    /// How many tokens it has.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The rows of each segment.
    pub fn segments(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = (0..self.rows()).filter(|t| self.positions[*t] == 0);
        starts.map(|start| {
            let next = (start + 1..self.rows()).find(|t| self.positions[*t] == 0);
            start..next.unwrap_or(self.rows())
        })
    }
}

/// What dropout multiplies the `index`-th value by: 0 with probability `p`, otherwise `1 / (1 − p)`. The same hash as
/// [`Sampling::uniform`].
pub fn dropout_factor(p: f32, seed: u32, salt: u32, index: u32) -> f32 {
    let bits = pcg(index ^ pcg(seed ^ pcg(salt)));
    let uniform = ((bits >> 8) as f32 + 0.5) / 16_777_216.0;
    if uniform < p { 0.0 } else { 1.0 / (1.0 - p) }
}

/// Pseudo-random numbers in order, for what is drawn on the host: initial adapters, shuffling.
#[derive(Debug, Clone)]
pub struct Noise {
    key: u32,
    at: u32,
}

impl Noise {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        let key = pcg((seed as u32) ^ pcg((seed >> 32) as u32));
        Self { key, at: 0 }
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.at = self.at.wrapping_add(1);
        pcg(self.at ^ pcg(self.key))
    }

    /// The next number in (0, 1).
    pub fn uniform(&mut self) -> f32 {
        ((self.bits() >> 8) as f32 + 0.5) / 16_777_216.0
    }

    /// Puts items into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = (u64::from(self.bits()) * (i as u64 + 1)) >> 32;
            items.swap(i, j as usize);
        }
    }
}
