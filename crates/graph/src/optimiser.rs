/// One step of the optimiser: AdamW (Loshchilov and Hutter, 2017) as `torch.optim.AdamW` computes
/// it, after clipping by the global norm as `torch.nn.utils.clip_grad_norm_` does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step, after any schedule.
    pub learning_rate: f32,
    /// Decay of the first moment per step; usually 0.9.
    pub beta1: f32,
    /// Decay of the second moment per step; usually 0.999.
    pub beta2: f32,
    /// What is added to the root of the second moment; usually 1e-8.
    pub eps: f32,
    /// Fraction of `learning_rate` by which parameters shrink, apart from their gradient.
    pub weight_decay: f32,
    /// Gradients are scaled down to this norm; infinite leaves them.
    pub max_grad_norm: f32,
    /// Which step this is, counted from 1.
    pub step: u32,
}

impl AdamW {
    /// The learning rate and the root of the second moment's correction for this step.
    pub fn corrections(&self) -> (f32, f32) {
        let correct = |beta: f32| 1.0 - f64::from(beta).powi(self.step as i32);
        let rate = f64::from(self.learning_rate) / correct(self.beta1);
        (rate as f32, correct(self.beta2).sqrt() as f32)
    }
}

/// How many parameters share a peak of their 8-bit moments.
pub const MOMENT_BLOCK: usize = 256;

/// How the moments of the optimiser are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MomentType {
    /// Two f32 per parameter.
    #[default]
    F32,
    /// Eight bits relative to the peak of each [`MOMENT_BLOCK`] (Dettmers et al., "8-bit Optimizers via
    /// Block-wise Quantization", 2021). Of the second moment the root is kept: its range is half as wide.
    Int8,
}

impl MomentType {
    /// Bytes of both moments of `n` parameters, a whole number of blocks.
    pub fn bytes(self, n: usize) -> u64 {
        match self {
            Self::F32 => 8 * n as u64,
            Self::Int8 => 2 * n as u64 + 8 * (n / MOMENT_BLOCK) as u64,
        }
    }
}

/// The first and second moments of all parameters; empty before the first step.
#[derive(Debug, Clone, PartialEq)]
pub enum Moments {
    /// First and second moment of each parameter.
    F32(Vec<[f32; 2]>),
    /// As [`MomentType::Int8`].
    Int8 {
        /// A code of each parameter's first moment, then one of each second moment's root.
        codes: Vec<u8>,
        /// Peaks of both in each block.
        peaks: Vec<[f32; 2]>,
    },
}

impl Default for Moments {
    fn default() -> Self {
        Self::F32(vec![])
    }
}

impl Moments {
    /// Whether no step has been taken yet.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::F32(moments) => moments.is_empty(),
            Self::Int8 { codes, .. } => codes.is_empty(),
        }
    }

    /// The moments of `n` parameters before the first step.
    pub fn zero(ty: MomentType, n: usize) -> Self {
        match ty {
            MomentType::F32 => Self::F32(vec![[0.0; 2]; n]),
            MomentType::Int8 => Self::Int8 {
                codes: vec![0; 2 * n],
                peaks: vec![[0.0; 2]; n / MOMENT_BLOCK],
            },
        }
    }

    /// Whether they are empty, or are the moments of `n` parameters of type `ty`.
    pub fn fit(&self, ty: MomentType, n: usize) -> bool {
        match (self, ty) {
            _ if self.is_empty() => true,
            (Self::F32(moments), MomentType::F32) => moments.len() == n,
            (Self::Int8 { codes, peaks }, MomentType::Int8) => {
                codes.len() == 2 * n && peaks.len() == n / MOMENT_BLOCK
            }
            _ => false,
        }
    }
}
