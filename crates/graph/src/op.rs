//! What a node can compute.

use crate::{CacheId, Experts, LoraId, MixSpec, RouteSpec, StateId, WeightId};

/// The nonlinearity of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
    /// `x · Φ(x)`, with the normal distribution's Φ.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// gpt-oss's: with c = min(x, 7), `c · sigmoid(1.702 c)`; a gated MLP's second factor is then not `up`, but `up`
    /// within ±7, plus 1.
    ClampedSilu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// x itself: a gate by it is a product.
    Identity,
}

/// A function of each value by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Map {
    /// `by · x`.
    Scale(f32),
    /// `cap · tanh(x / cap)`.
    SoftCap(f32),
    /// `exp(m) − 1 − m` with m = `min(x, 0)`.
    ExpExcess,
    /// The activation of an MLP without a gate.
    Activation(Activation),
}

/// Shape and mask of an attention. Query head `i` reads the keys and values of head `i · n_kv_heads / n_heads`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub n_heads: usize,
    /// Heads of keys and values; a divisor of `n_heads` (grouped-query attention).
    pub n_kv_heads: usize,
    /// Dimensions of each head.
    pub head_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// A token sees itself and the `window − 1` tokens before it; if not causal, as many after it too.
    pub window: Option<usize>,
    /// Whether a token sees no token after it.
    pub causal: bool,
    /// Scores s become `cap · tanh(s / cap)`.
    pub soft_cap: Option<f32>,
    /// A score of each query head, `[n_heads]`, that takes part in the softmax and has no value: with it, the weights of
    /// a query sum to less than 1.
    pub sinks: Option<WeightId>,
}

impl AttentionSpec {
    /// The rows of a text of `len` tokens that its `row`-th one sees.
    pub fn seen(&self, row: usize, len: usize) -> std::ops::Range<usize> {
        let reach = self.window.unwrap_or(len);
        let end = if self.causal { row + 1 } else { row + reach };
        (row + 1).saturating_sub(reach)..end.min(len)
    }
}

/// What [`Op::JoinHeads`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeadsSpec {
    /// Heads of the result.
    pub n_heads: usize,
    /// Columns of each head.
    pub width: usize,
    /// Columns of each input that a head takes.
    pub lens: [usize; 2],
    /// Columns from one head's to the next one's; 0 where all heads take the same.
    pub strides: [usize; 2],
}

/// What a learned embedding of a token's place in its text is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The token's position in its text, plus `offset`.
    Position {
        /// Rows of the table before that of position 0.
        offset: usize,
    },
    /// Which of two texts that are read together it belongs to (BERT's token type).
    Kind,
}

/// How the rows of a text become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first row, which is that of BERT's `[CLS]`.
    First,
    /// The last row, the only one that has seen the whole text if attention is causal.
    Last,
}

/// Which dimensions of a head are rotated with one another, of the first `2 · len(inv_freq)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairs {
    /// Each of the first half with its like in the second, as Hugging Face's checkpoints have them.
    Halves,
    /// 2i and 2i + 1, as GPT-J has them.
    Interleaved,
}

/// How the heads of q or k are rotated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeSpec {
    /// Angle per position of each pair of dimensions, in radians.
    pub inv_freq: WeightId,
    /// Columns of each head; those beyond two for each frequency are not rotated.
    pub head_dim: usize,
    /// Which dimensions form a pair.
    pub pairs: Pairs,
    /// What rotated dimensions are multiplied by: other than 1 with YaRN and LongRoPE, which call it attention factor.
    pub scale: f32,
}

/// Heads of a gated delta rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeltaSpec {
    /// Heads of q and k.
    pub n_k_heads: usize,
    /// Heads of v, and of the result; a multiple of `n_k_heads`.
    pub n_v_heads: usize,
    /// Dimensions of each head of q and k.
    pub k_dim: usize,
    /// Dimensions of each head of v.
    pub v_dim: usize,
    /// Multiplies the result.
    pub scale: f32,
    /// Whether value head i has the key of head `i % n_k_heads`; otherwise that of `i · n_k_heads / n_v_heads`.
    pub tiled: bool,
}

/// Heads and states of a selective scan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanSpec {
    /// Heads: each has its own step size.
    pub n_heads: usize,
    /// Columns of x in each head; 1 in Mamba 1, where each column has a step size.
    pub head_dim: usize,
    /// Groups of heads that share B and C; a divisor of `n_heads`.
    pub n_groups: usize,
    /// States of each column.
    pub state_dim: usize,
    /// The least and the largest step size.
    pub step_limits: [f32; 2],
}

/// What a node computes. Values are f32 matrices `[rows, cols]`; T is the step's number of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// `table[token] · scale` → `[T, d]`.
    Embed {
        /// The embedding, `[vocab, d]`.
        table: WeightId,
        /// What rows are multiplied by: 1, or √d for Gemma.
        scale: f32,
        /// Whether tokens beyond the table have its first row; otherwise there must be none.
        is_open: bool,
    },
    /// The row of a learned table for each token's place in its text → `[T, d]`.
    EmbedPlace {
        /// The table, `[rows, d]`.
        table: WeightId,
        /// Which of its rows.
        place: Place,
    },
    /// `x / sqrt(mean(x²) + eps) · w` over each run of `len(w)` columns.
    RmsNorm {
        /// The vector w.
        weight: WeightId,
        /// What is added to the mean of squares.
        eps: f32,
    },
    /// `(x − mean(x)) / sqrt(var(x) + eps) · w + b` over each run of `len(w)` columns.
    LayerNorm {
        /// The vector w.
        weight: WeightId,
        /// The vector b, as long as w.
        bias: Option<WeightId>,
        /// What is added to the variance.
        eps: f32,
    },
    /// A function of each value.
    Map {
        /// The function.
        map: Map,
    },
    /// `x · w`, each column by its own factor, or all by one.
    ScaleColumns {
        /// The vector w, as long as x is wide, or a single value.
        weight: WeightId,
    },
    /// `x · Wᵀ + b`: `[T, k]`, `[n, k]` → `[T, n]`.
    Linear {
        /// W, `[n, k]`.
        weight: WeightId,
        /// b, `[n]`.
        bias: Option<WeightId>,
    },
    /// Columns `start .. start + len`, as a view.
    Slice {
        /// The first column.
        start: usize,
    },
    /// Of each head, some columns of x, then some of a second input, then zeros: `[T, n_heads · width]`.
    JoinHeads {
        /// Which columns.
        spec: HeadsSpec,
    },
    /// Rotates each head by its token's position, or back; dimensions beyond two for each frequency are as they are.
    Rope {
        /// Frequencies and pairs.
        spec: RopeSpec,
        /// Whether it rotates by the negated angle, which is the gradient of the rotation.
        back: bool,
    },
    /// Writes keys and values `[T, n_kv_heads · head_dim]` at the step's position.
    KvAppend {
        /// Where they are written.
        cache: CacheId,
    },
    /// Causal attention of q `[T, n_heads · head_dim]` over the cache.
    Attention {
        /// Keys and values, this step's included.
        cache: CacheId,
        /// Heads, scale and window.
        spec: AttentionSpec,
    },
    /// `act(b + Σ_i w_i · x[t − n + 1 + i])` of each column by itself, over the n last rows; those before the step are
    /// in the state, as f32.
    CausalConv {
        /// w, `[cols, n]`.
        weight: WeightId,
        /// b, `[cols]`.
        bias: Option<WeightId>,
        /// The last n − 1 rows of x, `[n − 1, cols]`.
        state: StateId,
        /// The function `act`.
        activation: Activation,
    },
    /// The gated delta rule (Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024), for each head of v, from q and k
    /// side by side `[T, 2 · n_k_heads · k_dim]`, v `[T, n_v_heads · v_dim]`, and b and α side by side
    /// `[T, 2 · n_v_heads]`: `S ← exp(a · softplus(α + dt)) S`, `S ← S + k ⊗ sigmoid(b) (v − Sᵀ k)`,
    /// `out = scale · Sᵀ q`.
    DeltaRule {
        /// Heads.
        spec: DeltaSpec,
        /// a, `[n_v_heads]`: below 0.
        a: WeightId,
        /// dt, `[n_v_heads]`.
        dt_bias: WeightId,
        /// S, `[n_v_heads, k_dim, v_dim]`.
        state: StateId,
    },
    /// The selective scan of Mamba (Gu and Dao, 2023; Dao and Gu, "Transformers are SSMs", 2024), for each column of x
    /// `[T, n_heads · head_dim]`, with steps `[T, n_heads]`, and B and C side by side `[T, 2 · n_groups · state_dim]`:
    /// `Δ = softplus(step + dt)`, `h ← exp(a Δ) h + Δ x B`, `out = C · h + d x`.
    SelectiveScan {
        /// Heads and states.
        spec: ScanSpec,
        /// a, below 0: `[n_heads]`, or `[n_heads, state_dim]`.
        a: WeightId,
        /// dt, `[n_heads]`.
        dt_bias: Option<WeightId>,
        /// d, `[n_heads]`.
        d: WeightId,
        /// h, `[n_heads, head_dim, state_dim]`.
        state: StateId,
    },
    /// `a + b`, of the same shape.
    Add,
    /// `act(gate) · up`.
    Gated {
        /// The function `act`.
        activation: Activation,
    },
    /// The experts of each row, from the router's logits `[T, n_experts]` → `[T, 2 · n_used]`: the indices of those with
    /// the highest scores, highest first and the lower index first among equals, then their weights.
    Route {
        /// How they are chosen and weighted.
        spec: RouteSpec,
    },
    /// From x `[T, k]` and a route: `W[e] · x + b[e]` of each chosen expert e → `[T, n_used · n]`. Where a matrix holds
    /// several projections one below the other, the results of the first are before those of the second.
    ExpertUp {
        /// The matrices.
        experts: Experts,
        /// How many projections of the same size each matrix holds: 2 for gate and up.
        projections: usize,
    },
    /// From h `[T, n_used · k]` and a route: `Σ weight · (W[e] · h[e] + b[e])` over the chosen experts → `[T, n]`.
    ExpertDown {
        /// The matrices.
        experts: Experts,
    },
    /// `x · sigmoid(g)`: `[T, n]`, `[T, 1]` → `[T, n]`.
    RowGate,
    /// Of streams side by side, `out[o] = Σ_i c[o, i] · x[i]` with `c = constants + W · m`: x `[T, n_in · d]`, and m `[T, r]`
    /// if there are weights → `[T, n_out · d]`.
    Mix {
        /// Streams and coefficients.
        spec: MixSpec,
    },
    /// `y · sqrt(mean(x²) / max(mean(y²), least))` over each run of as many columns as x has: y `[T, n · d]`, x `[T, d]` →
    /// `[T, n · d]`.
    Rescale {
        /// The least mean of squares that y is taken to have.
        least: f32,
    },
    /// `max(x − (mean(x) + deviations · std(x)), 0)` over each row, with the standard deviation of all of its values: of
    /// values with a normal distribution, a known share is not 0.
    GaussianTopK {
        /// How many standard deviations above the mean a value must be.
        deviations: f32,
    },
    /// The last row of the step: `[T, d]` → `[1, d]`.
    LastRow,
    /// The next token, from one row of logits, by the step's sampling parameters.
    Choose,
    /// `x · Aᵀ` of an adapter: `[T, k]` → `[T, spans · rank]`.
    LoraDown {
        /// The adapter, whose A is used.
        lora: LoraId,
    },
    /// `base + scale · u · Bᵀ`, each span of columns from its own `rank` columns of u, in place:
    /// `[T, n]`, `[T, spans · rank]` → `[T, n]`.
    LoraUp {
        /// The adapter, whose B is used.
        lora: LoraId,
    },
    /// `(x − b) · factor + b`, each column by its own factor, in place (see [`crate::Dora`]).
    Dora {
        /// The adapter with the magnitudes.
        lora: LoraId,
        /// b, which magnitudes do not multiply.
        bias: Option<WeightId>,
    },
    /// Each value is 0 with probability p, else divided by 1 − p; which ones depends on the batch's
    /// seed, `salt` and the value's place alone.
    Dropout {
        /// The probability of a zero.
        p: f32,
        /// Distinguishes the dropouts of a graph from one another.
        salt: u32,
    },
    /// Attention of q `[T, n_heads · head_dim]` over k and v `[T, n_kv_heads · head_dim]` of
    /// the same batch, each token within its segment.
    SelfAttention {
        /// Heads, scale, window, and whether it is causal.
        spec: AttentionSpec,
    },
    /// One row for each segment of the batch: `[T, d]` → `[segments, d]`.
    Pool {
        /// How it is made of the segment's rows.
        pooling: Pooling,
    },
    /// `x · Wᵀ`, and of its softmax the cross-entropy with each row's target, without ever holding all
    /// logits: `[T, d]`, `[vocab, d]` → `[T, 2]`: the loss times the row's weight, and the
    /// log-sum-exp of its logits. Rows of weight 0 are 0.
    CrossEntropy {
        /// W, `[vocab, d]`.
        weight: WeightId,
        /// Logits l become `cap · tanh(l / cap)`.
        soft_cap: Option<f32>,
    },
    /// `dy · W`: `[T, n]` → `[T, k]`.
    LinearGrad {
        /// W, `[n, k]`.
        weight: WeightId,
    },
    /// The gradient of [`Op::RmsNorm`]'s x, from x and dy.
    RmsNormGrad {
        /// The vector w.
        weight: WeightId,
        /// What was added to the mean of squares.
        eps: f32,
    },
    /// The gradient of [`Op::LayerNorm`]'s x, from x and dy.
    LayerNormGrad {
        /// The norm's w.
        weight: WeightId,
        /// The norm's eps.
        eps: f32,
    },
    /// The gradient of [`Op::Map`]'s x, from x and dy.
    MapGrad {
        /// The function.
        map: Map,
    },
    /// From gate, up and dy: the gradients of both, side by side.
    GatedGrad {
        /// The function whose derivative is taken.
        activation: Activation,
    },
    /// From a router's logits, the route and the route's gradient: the gradient of the logits. Which experts were chosen
    /// is constant, and so are bounds of the sum.
    RouteGrad {
        /// How they were chosen.
        spec: RouteSpec,
    },
    /// From a route and dy `[T, n_used · n]`: the gradient of [`Op::ExpertUp`]'s x, `[T, k]`.
    ExpertUpGrad {
        /// The matrices.
        experts: Experts,
        /// As in [`Op::ExpertUp`].
        projections: usize,
    },
    /// From h, a route and dy `[T, n]`: the gradients of [`Op::ExpertDown`]'s h `[T, n_used · k]` and of the route
    /// `[T, 2 · n_used]` (0 for the indices), side by side.
    ExpertDownGrad {
        /// The matrices.
        experts: Experts,
    },
    /// From x, g and dy: the gradient of [`Op::RowGate`]'s g, `[T, 1]`.
    RowGateGrad,
    /// From q, k, v, the result and its gradient: the gradients of q, k and v, side by side.
    SelfAttentionGrad {
        /// Heads, scale and window.
        spec: AttentionSpec,
    },
    /// From x and the result of [`Op::CrossEntropy`]: the gradient of x.
    CrossEntropyGrad {
        /// W, `[vocab, d]`.
        weight: WeightId,
        /// As in [`Op::CrossEntropy`].
        soft_cap: Option<f32>,
    },
    /// `scale · dy · B`, span by span: the gradient of u.
    LoraUpGrad {
        /// The adapter, whose B is used.
        lora: LoraId,
    },
    /// `du · A`: the gradient of x.
    LoraDownGrad {
        /// The adapter, whose A is used.
        lora: LoraId,
    },
    /// Adds `duᵀ · x` to the gradient of A, from x and du.
    LoraGradA {
        /// The adapter, whose A has the gradient.
        lora: LoraId,
    },
    /// Adds `scale · dyᵀ · u`, span by span, to the gradient of B, from u and dy.
    LoraGradB {
        /// The adapter, whose B has the gradient.
        lora: LoraId,
    },
    /// `dy · factor`: the gradient of x.
    DoraGrad {
        /// The adapter with the magnitudes.
        lora: LoraId,
    },
    /// Adds `Σ dy (y − b) / m` over the rows to the gradient of the magnitudes, from y and dy.
    DoraGradM {
        /// The adapter with the magnitudes.
        lora: LoraId,
        /// b, which magnitudes do not multiply.
        bias: Option<WeightId>,
    },
    /// Its inputs side by side.
    Concat,
}

impl Op {
    /// The op's name, `rms_norm` for example: that of its kernel, of its file in the CPU crate, and of errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::EmbedPlace { .. } => "embed_place",
            Self::RmsNorm { .. } => "rms_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Map { .. } => "map",
            Self::ScaleColumns { .. } => "scale_columns",
            Self::JoinHeads { .. } => "join_heads",
            Self::Linear { .. } => "linear",
            Self::Slice { .. } => "slice",
            Self::Rope { .. } => "rope",
            Self::KvAppend { .. } => "kv_append",
            Self::Attention { .. } => "attention",
            Self::CausalConv { .. } => "causal_conv",
            Self::DeltaRule { .. } => "delta_rule",
            Self::SelectiveScan { .. } => "selective_scan",
            Self::Add => "add",
            Self::Gated { .. } => "gated",
            Self::Route { .. } => "route",
            Self::ExpertUp { .. } => "expert_up",
            Self::ExpertDown { .. } => "expert_down",
            Self::RowGate => "row_gate",
            Self::Mix { .. } => "mix",
            Self::Rescale { .. } => "rescale",
            Self::GaussianTopK { .. } => "gaussian_top_k",
            Self::LastRow => "last_row",
            Self::Choose => "choose",
            Self::LoraDown { .. } => "lora_down",
            Self::LoraUp { .. } => "lora_up",
            Self::Dora { .. } => "dora",
            Self::Dropout { .. } => "dropout",
            Self::SelfAttention { .. } => "self_attention",
            Self::Pool { .. } => "pool",
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::LinearGrad { .. } => "linear_grad",
            Self::RmsNormGrad { .. } => "rms_norm_grad",
            Self::LayerNormGrad { .. } => "layer_norm_grad",
            Self::MapGrad { .. } => "map_grad",
            Self::GatedGrad { .. } => "gated_grad",
            Self::RouteGrad { .. } => "route_grad",
            Self::ExpertUpGrad { .. } => "expert_up_grad",
            Self::ExpertDownGrad { .. } => "expert_down_grad",
            Self::RowGateGrad => "row_gate_grad",
            Self::SelfAttentionGrad { .. } => "self_attention_grad",
            Self::CrossEntropyGrad { .. } => "cross_entropy_grad",
            Self::LoraUpGrad { .. } => "lora_up_grad",
            Self::LoraDownGrad { .. } => "lora_down_grad",
            Self::LoraGradA { .. } => "lora_grad_a",
            Self::LoraGradB { .. } => "lora_grad_b",
            Self::DoraGrad { .. } => "dora_grad",
            Self::DoraGradM { .. } => "dora_grad_m",
            Self::Concat => "concat",
        }
    }
}
