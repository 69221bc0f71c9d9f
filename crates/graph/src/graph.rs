use crate::{Lora, Part, Weight, WeightId, WeightKind};

/// The result of building or rewriting a graph.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a node cannot be added to a graph: shapes that do not match, a name that does not exist, or an op without a
/// gradient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} `{label}`: {what}")]
pub struct Error {
    /// The op's name, as [`Op::name`] returns it.
    pub op: &'static str,
    /// The weight or the named value that is concerned; empty where there is none.
    pub label: String,
    /// The shapes that do not match, or what is missing.
    pub what: String,
}

/// A node's index in [`Graph::nodes`]. Nodes run in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A KV cache's index in [`Graph::caches`]: one per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub usize);

/// How many rows a value has: one for each token of the step, or only the last one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// One row for each token of the step.
    All,
    /// One row: the last token's.
    Last,
}

/// The nonlinearity of a gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
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
    /// A token sees itself and the `window − 1` tokens before it.
    pub window: Option<usize>,
}

/// Which dimensions of a head are rotated with one another, of the first `2 · len(inv_freq)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairs {
    /// Each of the first half with its like in the second, as Hugging Face's checkpoints have them.
    Halves,
    /// 2i and 2i + 1, as GPT-J has them.
    Interleaved,
}

/// Keys and values of all earlier tokens, `[n_kv_heads, context, head_dim]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Dimensions of each head.
    pub head_dim: usize,
}

/// A low-rank adapter's index in [`Graph::loras`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraId(pub usize);

/// What a node computes. Values are f32 matrices `[rows, cols]`; T is the step's number of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// `table[token] · scale` → `[T, d]`.
    Embed {
        /// The embedding, `[vocab, d]`.
        table: WeightId,
        /// What rows are multiplied by: 1, or √d for Gemma.
        scale: f32,
    },
    /// `x / sqrt(mean(x²) + eps) · w` over each run of `len(w)` columns.
    RmsNorm {
        /// The vector w.
        weight: WeightId,
        /// What is added to the mean of squares.
        eps: f32,
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
    /// Rotates each head by its token's position, or back; dimensions beyond two for each frequency are as they are.
    Rope {
        /// Angle per position of each pair of dimensions, in radians.
        inv_freq: WeightId,
        /// Columns of each head.
        head_dim: usize,
        /// Which dimensions form a pair.
        pairs: Pairs,
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
    /// `a + b`, of the same shape.
    Add,
    /// `act(gate) · up`.
    Gated {
        /// The function `act`.
        activation: Activation,
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
    /// Causal attention of q `[T, n_heads · head_dim]` over k and v `[T, n_kv_heads · head_dim]` of
    /// the same batch, each token within its segment.
    SelfAttention {
        /// Heads, scale and window.
        spec: AttentionSpec,
    },
    /// `x · Wᵀ`, and of its softmax the cross-entropy with each row's target, without ever holding all
    /// logits: `[T, d]`, `[vocab, d]` → `[T, 2]`: the loss times the row's weight, and the
    /// log-sum-exp of its logits. Rows of weight 0 are 0.
    CrossEntropy {
        /// W, `[vocab, d]`.
        weight: WeightId,
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
    /// From gate, up and dy: the gradients of both, side by side.
    GatedGrad {
        /// The function whose derivative is taken.
        activation: Activation,
    },
    /// From q, k, v, the result and its gradient: the gradients of q, k and v, side by side.
    SelfAttentionGrad {
        /// Heads, scale and window.
        spec: AttentionSpec,
    },
    /// From x and the result of [`Op::CrossEntropy`]: the gradient of x.
    CrossEntropyGrad {
        /// W, `[vocab, d]`.
        weight: WeightId,
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
            Self::RmsNorm { .. } => "rms_norm",
            Self::Linear { .. } => "linear",
            Self::Slice { .. } => "slice",
            Self::Rope { .. } => "rope",
            Self::KvAppend { .. } => "kv_append",
            Self::Attention { .. } => "attention",
            Self::Add => "add",
            Self::Gated { .. } => "gated",
            Self::LastRow => "last_row",
            Self::Choose => "choose",
            Self::LoraDown { .. } => "lora_down",
            Self::LoraUp { .. } => "lora_up",
            Self::Dora { .. } => "dora",
            Self::Dropout { .. } => "dropout",
            Self::SelfAttention { .. } => "self_attention",
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::LinearGrad { .. } => "linear_grad",
            Self::RmsNormGrad { .. } => "rms_norm_grad",
            Self::GatedGrad { .. } => "gated_grad",
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

/// An op with its inputs, and the shape of its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// The values it reads, in the order in which [`Op`] names them.
    pub inputs: Vec<NodeId>,
    /// Rows of its value.
    pub rows: Rows,
    /// Columns of its value; 0 for an op that only writes elsewhere (a cache, gradients).
    pub cols: usize,
}

/// A forward pass, and after [`Graph::differentiate`] its backward pass too.
///
/// Each method that adds a node checks the shapes of its inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// In the order in which they run: inputs come before the nodes that read them.
    pub nodes: Vec<Node>,
    /// What ops refer to by [`WeightId`].
    pub weights: Vec<Weight>,
    /// KV caches, one per layer, which ops refer to by [`CacheId`].
    pub caches: Vec<Cache>,
    /// Adapters, which ops refer to by [`LoraId`].
    pub loras: Vec<Lora>,
    /// Values that outlive the run, to be read afterwards.
    pub outputs: Vec<NodeId>,
    /// Values that can be tapped, by name; a name costs nothing until it is.
    pub names: Vec<(String, NodeId)>,
    /// The hidden state after each layer.
    pub layer_ends: Vec<NodeId>,
}

impl Graph {
    /// A node by its id.
    ///
    /// # Panics
    /// For an id of another graph that has more nodes.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// A weight by its id.
    ///
    /// # Panics
    /// For an id of another graph that has more weights.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0]
    }

    /// Declares a matrix of the checkpoint, or several tensors (name, rows) stacked by rows, all `cols` wide. A name
    /// that was declared before is the same weight.
    pub fn matrix(&mut self, name: &str, parts: &[(&str, usize)], cols: usize) -> WeightId {
        self.declare(name, WeightKind::Matrix, parts, cols)
    }

    /// Declares a matrix made of ranges of the checkpoint's tensors, stacked by rows.
    ///
    /// # Errors
    /// If a range is not within its tensor, or the ranges differ in width.
    pub fn matrix_of(&mut self, name: &str, parts: Vec<Part>) -> Result<WeightId> {
        let cols = parts.first().map_or(0, |p| p.cols.len());
        for part in &parts {
            let fits = part.is_sound() && part.cols.len() == cols;
            self.check("matrix", name, fits, || {
                let Part {
                    tensor,
                    shape,
                    rows,
                    cols: found,
                } = part;
                format!("rows {rows:?}, columns {found:?} of `{tensor}` {shape:?}, {cols} wide")
            })?;
        }
        Ok(self.declare_parts(name, WeightKind::Matrix, parts, cols))
    }

    /// Declares a vector of the checkpoint, or several tensors (name, length) joined.
    pub fn vector(&mut self, name: &str, parts: &[(&str, usize)]) -> WeightId {
        self.declare(name, WeightKind::Vector, parts, 1)
    }

    /// Declares a vector that is computed from the configuration, such as rotary frequencies.
    pub fn constant(&mut self, name: &str, values: Vec<f32>) -> WeightId {
        self.declare(name, WeightKind::Constant(values), &[], 1)
    }

    fn declare(
        &mut self,
        name: &str,
        kind: WeightKind,
        parts: &[(&str, usize)],
        cols: usize,
    ) -> WeightId {
        let whole = |(tensor, rows): &(&str, usize)| Part::whole(*tensor, [*rows, cols]);
        self.declare_parts(name, kind, parts.iter().map(whole).collect(), cols)
    }

    /// The same name again is the same weight (a tied embedding, a shared table).
    fn declare_parts(
        &mut self,
        name: &str,
        kind: WeightKind,
        parts: Vec<Part>,
        cols: usize,
    ) -> WeightId {
        if let Some(i) = self.weights.iter().position(|w| w.name == name) {
            return WeightId(i);
        }
        self.weights.push(Weight {
            name: name.into(),
            kind,
            parts,
            cols,
        });
        WeightId(self.weights.len() - 1)
    }

    /// Declares the KV cache of a layer.
    pub fn cache(&mut self, n_kv_heads: usize, head_dim: usize) -> CacheId {
        self.caches.push(Cache {
            n_kv_heads,
            head_dim,
        });
        CacheId(self.caches.len() - 1)
    }

    pub(crate) fn push(&mut self, op: Op, inputs: &[NodeId], rows: Rows, cols: usize) -> NodeId {
        self.nodes.push(Node {
            op,
            inputs: inputs.into(),
            rows,
            cols,
        });
        NodeId(self.nodes.len() - 1)
    }

    pub(crate) fn check(
        &self,
        op: &'static str,
        label: &str,
        ok: bool,
        what: impl Fn() -> String,
    ) -> Result<()> {
        if ok {
            return Ok(());
        }
        Err(Error {
            op,
            label: label.into(),
            what: what(),
        })
    }

    /// Adds [`Op::Embed`]: the step's tokens, looked up in `table` `[vocab, d]`.
    pub fn embed(&mut self, table: WeightId, scale: f32) -> NodeId {
        let cols = self.weight(table).cols;
        self.push(Op::Embed { table, scale }, &[], Rows::All, cols)
    }

    /// Adds [`Op::RmsNorm`] over each run of as many columns as `weight` has values: over a row, or over each head.
    ///
    /// # Errors
    /// If the columns of x are not a multiple of the length of `weight`.
    pub fn rms_norm(&mut self, x: NodeId, weight: WeightId, eps: f32) -> Result<NodeId> {
        let (w, Node { cols, rows, .. }) = (self.weight(weight), self.node(x));
        let (n, cols, rows) = (w.rows(), *cols, *rows);
        self.check("rms_norm", &w.name, n > 0 && cols % n == 0, || {
            format!("{cols} columns are not a multiple of {n} weights")
        })?;
        Ok(self.push(Op::RmsNorm { weight, eps }, &[x], rows, cols))
    }

    /// Adds [`Op::Linear`]: x `[T, k]`, `weight` `[n, k]`, `bias` `[n]` → `[T, n]`.
    ///
    /// # Errors
    /// If x has another number of columns than the weight, or the bias is not as long as the weight has rows.
    pub fn linear(
        &mut self,
        x: NodeId,
        weight: WeightId,
        bias: Option<WeightId>,
    ) -> Result<NodeId> {
        let (w, Node { cols, rows, .. }) = (self.weight(weight), self.node(x));
        let (n, k, cols, rows) = (w.rows(), w.cols, *cols, *rows);
        self.check("linear", &w.name, k == cols, || {
            format!("the input has {cols} columns, the weight is [{n}, {k}]")
        })?;
        let bias_len = bias.map_or(n, |b| self.weight(b).rows());
        self.check("linear", &w.name, bias_len == n, || {
            format!("the weight is [{n}, {k}], the bias has {bias_len} values")
        })?;
        Ok(self.push(Op::Linear { weight, bias }, &[x], rows, n))
    }

    /// Adds [`Op::Slice`]: columns `start .. start + len` of x, without copying them.
    ///
    /// # Errors
    /// If x has fewer columns.
    pub fn slice(&mut self, x: NodeId, start: usize, len: usize) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        self.check("slice", "", start + len <= cols, || {
            format!("columns {start}..{} of {cols}", start + len)
        })?;
        Ok(self.push(Op::Slice { start }, &[x], rows, len))
    }

    /// Adds [`Op::Rope`] over whole heads, [by halves](Pairs::Halves), as Hugging Face's models have it (Su et al.,
    /// "RoFormer", 2021). `inv_freq` has `head_dim / 2` values.
    ///
    /// # Errors
    /// If the columns of x are not whole heads, or the number of frequencies is not half of `head_dim`.
    pub fn rope(&mut self, x: NodeId, inv_freq: WeightId, head_dim: usize) -> Result<NodeId> {
        let n = self.weight(inv_freq).rows();
        self.check_rope(x, head_dim, n, head_dim == 2 * n)?;
        self.rope_of(x, inv_freq, head_dim, Pairs::Halves)
    }

    /// Adds [`Op::Rope`] over the first two dimensions per frequency of each head; the others stay as they are.
    ///
    /// # Errors
    /// If the columns of x are not whole heads, or there are more than `head_dim / 2` frequencies.
    pub fn rope_of(
        &mut self,
        x: NodeId,
        inv_freq: WeightId,
        head_dim: usize,
        pairs: Pairs,
    ) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let n = self.weight(inv_freq).rows();
        let fits = n > 0 && 2 * n <= head_dim && cols.is_multiple_of(head_dim);
        self.check_rope(x, head_dim, n, fits)?;
        let op = Op::Rope {
            inv_freq,
            head_dim,
            pairs,
            back: false,
        };
        Ok(self.push(op, &[x], rows, cols))
    }

    fn check_rope(&self, x: NodeId, head_dim: usize, n: usize, fits: bool) -> Result<()> {
        let cols = self.node(x).cols;
        self.check("rope", "", fits, || {
            format!("{cols} columns, heads of {head_dim}, {n} frequencies")
        })
    }

    /// Adds [`Op::KvAppend`]: the step's keys and values, `[T, n_kv_heads · head_dim]` each. It has no value; the
    /// attention that reads the cache must come after it.
    ///
    /// # Errors
    /// If k or v has another number of columns than the cache.
    pub fn kv_append(&mut self, k: NodeId, v: NodeId, cache: CacheId) -> Result<NodeId> {
        let Cache {
            n_kv_heads,
            head_dim,
        } = self.caches[cache.0];
        let (k_cols, v_cols) = (self.node(k).cols, self.node(v).cols);
        let wanted = n_kv_heads * head_dim;
        self.check(
            "kv_append",
            "",
            k_cols == wanted && v_cols == wanted,
            || format!("keys of {k_cols} and values of {v_cols} columns, the cache holds {wanted}"),
        )?;
        Ok(self.push(Op::KvAppend { cache }, &[k, v], Rows::All, 0))
    }

    /// Adds [`Op::Attention`]: `softmax(scale · q kᵀ) v` for each head, over the cache up to and including each token.
    ///
    /// # Errors
    /// If q, `spec` and the cache differ in heads or in their dimensions.
    pub fn attention(&mut self, q: NodeId, cache: CacheId, spec: AttentionSpec) -> Result<NodeId> {
        let Cache {
            n_kv_heads,
            head_dim,
        } = self.caches[cache.0];
        let Node { cols, rows, .. } = *self.node(q);
        let fits = spec.n_kv_heads == n_kv_heads
            && spec.head_dim == head_dim
            && spec.n_heads.is_multiple_of(n_kv_heads)
            && cols == spec.n_heads * head_dim;
        self.check("attention", "", fits, || {
            format!(
                "q has {cols} columns, {spec:?}, the cache has {n_kv_heads} heads of {head_dim}"
            )
        })?;
        Ok(self.push(Op::Attention { cache, spec }, &[q], rows, cols))
    }

    fn same_shape(&self, op: &'static str, a: NodeId, b: NodeId) -> Result<(Rows, usize)> {
        let (a, b) = (self.node(a), self.node(b));
        self.check(op, "", a.cols == b.cols && a.rows == b.rows, || {
            format!("{:?} × {} and {:?} × {}", a.rows, a.cols, b.rows, b.cols)
        })?;
        Ok((a.rows, a.cols))
    }

    /// Adds [`Op::Add`].
    ///
    /// # Errors
    /// If a and b differ in shape.
    pub fn add(&mut self, a: NodeId, b: NodeId) -> Result<NodeId> {
        let (rows, cols) = self.same_shape("add", a, b)?;
        Ok(self.push(Op::Add, &[a, b], rows, cols))
    }

    /// Adds [`Op::Gated`]: the activation of a gated MLP (Shazeer, "GLU Variants Improve Transformer", 2020).
    ///
    /// # Errors
    /// If `gate` and `up` differ in shape.
    pub fn gated(&mut self, gate: NodeId, up: NodeId, activation: Activation) -> Result<NodeId> {
        let (rows, cols) = self.same_shape("gated", gate, up)?;
        Ok(self.push(Op::Gated { activation }, &[gate, up], rows, cols))
    }

    /// Adds [`Op::LastRow`]: the only row of which a prompt needs the logits.
    pub fn last_row(&mut self, x: NodeId) -> NodeId {
        let cols = self.node(x).cols;
        self.push(Op::LastRow, &[x], Rows::Last, cols)
    }

    /// Adds [`Op::CrossEntropy`]: the loss of each row against its target, through the head `weight` `[vocab, d]`.
    ///
    /// # Errors
    /// If x has another number of columns than the weight.
    pub fn cross_entropy(&mut self, x: NodeId, weight: WeightId) -> Result<NodeId> {
        let (w, Node { cols, rows, .. }) = (self.weight(weight), self.node(x));
        let (n, k, cols, rows) = (w.rows(), w.cols, *cols, *rows);
        self.check("cross_entropy", &w.name, k == cols, || {
            format!("the input has {cols} columns, the weight is [{n}, {k}]")
        })?;
        Ok(self.push(Op::CrossEntropy { weight }, &[x], rows, 2))
    }

    /// Adds [`Op::Choose`]: the next token, from logits `[1, vocab]`.
    pub fn choose(&mut self, logits: NodeId) -> NodeId {
        self.push(Op::Choose, &[logits], Rows::Last, 1)
    }

    /// Makes a value an output: it is kept until the end of the run, to be read back.
    pub fn output(&mut self, node: NodeId) {
        self.outputs.push(node);
    }

    /// Gives a value a name, by which [`Graph::tap`] finds it.
    pub fn name(&mut self, node: NodeId, name: impl Into<String>) {
        self.names.push((name.into(), node));
    }

    /// Names the hidden state after a layer, and records it in [`Graph::layer_ends`].
    pub fn end_layer(&mut self, node: NodeId, name: impl Into<String>) {
        self.name(node, name);
        self.layer_ends.push(node);
    }

    /// Makes a named value an output, after those there are.
    ///
    /// # Errors
    /// If no value has that name; the message lists all names.
    pub fn tap(&mut self, name: &str) -> Result<NodeId> {
        let found = self.names.iter().find(|n| n.0 == name).map(|n| n.1);
        let node = found.ok_or_else(|| Error {
            op: "tap",
            label: name.into(),
            what: format!(
                "no value has that name; there are {}",
                self.names
                    .iter()
                    .map(|n| n.0.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        })?;
        self.output(node);
        Ok(node)
    }
}
