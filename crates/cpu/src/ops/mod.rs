//! One op per file, named as its shader; an op's gradient is beside it.

/// Functions of each value: activations, with and without a gate, scale and soft cap.
pub mod activation;
/// The optimiser (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2017), with f32 or 8-bit moments.
pub mod adamw;
/// Attention over a KV cache.
pub mod attention;
/// A causal convolution of each column, with a state.
pub mod causal_conv;
/// The choice of a token.
pub mod choose;
/// The loss and its gradient, without storing all logits.
pub mod cross_entropy;
/// The gated delta rule, with a state.
pub mod delta_rule;
/// DoRA's magnitudes (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024).
pub mod dora;
/// Linears of the experts that a route chooses, and their gradients.
pub mod experts;
mod few_rows;
mod float_rows;
/// What of a row is far above its mean.
pub mod gaussian_top_k;
/// Views of matrices, and their products.
pub mod gemm;
/// Heads that are put together from columns of one or two values.
pub mod heads;
/// Layer norm and its gradient.
pub mod layer_norm;
/// Products with quantised weights.
pub mod linear;
/// LoRA's low-rank products (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021).
pub mod lora;
/// Sums of streams of hidden states, with coefficients.
pub mod mix;
/// The rows of a text become one.
pub mod pool;
/// Runs of a row, scaled to the magnitude of another value.
pub mod rescale;
/// RMSNorm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
pub mod rms_norm;
/// Rotary positions (Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021).
pub mod rope;
/// The choice of experts.
pub mod route;
/// Mamba's selective scan, with a state.
pub mod selective_scan;
/// Attention within the texts of a batch, and its gradient.
pub mod self_attention;
