//! A forward pass, node by node: each method checks the shapes of what it reads.

use crate::graph::Result;
use crate::{
    Activation, AttentionSpec, Cache, CacheId, Graph, HeadsSpec, Map, Node, NodeId, Op, Pairs,
    Place, Pooling, RopeSpec, Rows, WeightId,
};

impl Graph {
    /// Adds [`Op::Embed`]: the step's tokens, looked up in `table` `[vocab, d]`.
    pub fn embed(&mut self, table: WeightId, scale: f32) -> NodeId {
        self.embed_from(table, scale, false)
    }

    /// The same from a table that may not have all tokens: the others have its first row.
    pub fn embed_known(&mut self, table: WeightId, scale: f32) -> NodeId {
        self.embed_from(table, scale, true)
    }

    fn embed_from(&mut self, table: WeightId, scale: f32, is_open: bool) -> NodeId {
        let cols = self.weight(table).cols;
        let op = Op::Embed {
            table,
            scale,
            is_open,
        };
        self.push(op, &[], Rows::All, cols)
    }

    /// Adds [`Op::EmbedPlace`]: what `table` `[rows, d]` holds for each token's place in its text.
    pub fn embed_place(&mut self, table: WeightId, place: Place) -> NodeId {
        let cols = self.weight(table).cols;
        self.push(Op::EmbedPlace { table, place }, &[], Rows::All, cols)
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

    /// Adds [`Op::LayerNorm`] over each run of as many columns as `weight` has values.
    ///
    /// # Errors
    /// If the columns of x are not a multiple of the length of `weight`, or the bias is of another length.
    pub fn layer_norm(
        &mut self,
        x: NodeId,
        weight: WeightId,
        bias: Option<WeightId>,
        eps: f32,
    ) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let n = self.weight(weight).rows();
        let bias_len = bias.map_or(n, |b| self.weight(b).rows());
        let fits = n > 0 && cols.is_multiple_of(n) && bias_len == n;
        self.check("layer_norm", &self.weight(weight).name, fits, || {
            format!("the input has {cols} columns, the weight {n}, the bias {bias_len}")
        })?;
        let op = Op::LayerNorm { weight, bias, eps };
        Ok(self.push(op, &[x], rows, cols))
    }

    /// Adds [`Op::Map`].
    pub fn map(&mut self, x: NodeId, map: Map) -> NodeId {
        let Node { cols, rows, .. } = *self.node(x);
        self.push(Op::Map { map }, &[x], rows, cols)
    }

    /// Adds [`Op::ScaleColumns`].
    ///
    /// # Errors
    /// If the weight has neither as many values as x has columns, nor one.
    pub fn scale_columns(&mut self, x: NodeId, weight: WeightId) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let n = self.weight(weight).rows();
        self.check(
            "scale_columns",
            &self.weight(weight).name,
            n == cols || n == 1,
            || format!("the input has {cols} columns, the weight {n}"),
        )?;
        Ok(self.push(Op::ScaleColumns { weight }, &[x], rows, cols))
    }

    /// Adds [`Op::JoinHeads`], of one or two inputs.
    ///
    /// # Errors
    /// If an input has fewer columns than are taken, or a head is to have more than it takes from both and zeros.
    pub fn join_heads(&mut self, inputs: &[NodeId], spec: HeadsSpec) -> Result<NodeId> {
        let HeadsSpec {
            n_heads,
            width,
            lens,
            strides,
        } = spec;
        let rows = self.node(inputs[0]).rows;
        let taken = lens
            .iter()
            .zip(strides)
            .map(|(len, stride)| (n_heads - 1) * stride + len);
        let found: Vec<usize> = inputs.iter().map(|x| self.node(*x).cols).collect();
        let fits = lens[0] + lens[1] <= width
            && lens.iter().skip(inputs.len()).all(|len| *len == 0)
            && taken.zip(&found).all(|(taken, cols)| taken <= *cols);
        self.check("join_heads", "", fits, || {
            format!("{n_heads} heads of {lens:?} each {strides:?} from {found:?} columns")
        })?;
        Ok(self.push(Op::JoinHeads { spec }, inputs, rows, n_heads * width))
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
        let spec = RopeSpec {
            inv_freq,
            head_dim,
            pairs: Pairs::Halves,
            scale: 1.0,
        };
        self.rope_of(x, spec)
    }

    /// Adds [`Op::Rope`] over the first two dimensions per frequency of each head; the others stay as they are.
    ///
    /// # Errors
    /// If the columns of x are not whole heads, or there are more than `head_dim / 2` frequencies.
    pub fn rope_of(&mut self, x: NodeId, spec: RopeSpec) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        let (n, head_dim) = (self.weight(spec.inv_freq).rows(), spec.head_dim);
        let fits = n > 0 && 2 * n <= head_dim && cols.is_multiple_of(head_dim);
        self.check_rope(x, head_dim, n, fits)?;
        Ok(self.push(Op::Rope { spec, back: false }, &[x], rows, cols))
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
    /// If q, `spec` and the cache differ in heads or in their dimensions, or the attention is not causal: a cache holds
    /// nothing of later tokens.
    pub fn attention(&mut self, q: NodeId, cache: CacheId, spec: AttentionSpec) -> Result<NodeId> {
        let Cache {
            n_kv_heads,
            head_dim,
        } = self.caches[cache.0];
        let Node { cols, rows, .. } = *self.node(q);
        let sinks = spec.sinks.map_or(spec.n_heads, |s| self.weight(s).rows());
        let fits = spec.n_kv_heads == n_kv_heads
            && sinks == spec.n_heads
            && spec.head_dim == head_dim
            && spec.n_heads.is_multiple_of(n_kv_heads)
            && cols == spec.n_heads * head_dim;
        self.check("attention", "", fits, || {
            format!(
                "q has {cols} columns, {spec:?}, the cache has {n_kv_heads} heads of {head_dim}"
            )
        })?;
        self.check("attention", "", spec.causal, || {
            "attention over a cache is causal".into()
        })?;
        Ok(self.push(Op::Attention { cache, spec }, &[q], rows, cols))
    }

    /// Adds [`Op::SelfAttention`]: `softmax(scale · q kᵀ) v` for each head, over the tokens of each segment of a batch.
    ///
    /// # Errors
    /// If q, k, v and `spec` differ in heads or in their dimensions.
    pub fn self_attention(
        &mut self,
        [q, k, v]: [NodeId; 3],
        spec: AttentionSpec,
    ) -> Result<NodeId> {
        let [nq, nk, nv] = [q, k, v].map(|x| self.node(x).cols);
        let fits = spec.n_heads.is_multiple_of(spec.n_kv_heads)
            && nq == spec.n_heads * spec.head_dim
            && [nk, nv] == [spec.n_kv_heads * spec.head_dim; 2];
        self.check("self_attention", "", fits, || {
            format!("q, k and v have {nq}, {nk} and {nv} columns, {spec:?}")
        })?;
        Ok(self.push(Op::SelfAttention { spec }, &[q, k, v], Rows::All, nq))
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

    /// Adds [`Op::LastRow`]: the rows of which logits are needed.
    pub fn last_row(&mut self, x: NodeId) -> NodeId {
        let cols = self.node(x).cols;
        self.push(Op::LastRow, &[x], Rows::Last, cols)
    }

    /// Adds [`Op::Pool`]: one row for each segment of the batch.
    ///
    /// # Errors
    /// If x does not have a row for each token.
    pub fn pool(&mut self, x: NodeId, pooling: Pooling) -> Result<NodeId> {
        let Node { cols, rows, .. } = *self.node(x);
        self.check("pool", "", rows == Rows::All, || {
            format!("{rows:?} rows instead of one for each token")
        })?;
        Ok(self.push(Op::Pool { pooling }, &[x], Rows::Segments, cols))
    }

    /// Adds [`Op::CrossEntropy`]: the loss of each row against its target, through the head `weight` `[vocab, d]` and the
    /// logits' soft cap.
    ///
    /// # Errors
    /// If x has another number of columns than the weight.
    pub fn cross_entropy(
        &mut self,
        x: NodeId,
        weight: WeightId,
        soft_cap: Option<f32>,
    ) -> Result<NodeId> {
        let (w, Node { cols, rows, .. }) = (self.weight(weight), self.node(x));
        let (n, k, cols, rows) = (w.rows(), w.cols, *cols, *rows);
        self.check("cross_entropy", &w.name, k == cols, || {
            format!("the input has {cols} columns, the weight is [{n}, {k}]")
        })?;
        let op = Op::CrossEntropy { weight, soft_cap };
        Ok(self.push(op, &[x], rows, 2))
    }

    /// Adds [`Op::Choose`]: the next token of each sequence, from its logits, `[vocab]`.
    pub fn choose(&mut self, logits: NodeId) -> NodeId {
        self.push(Op::Choose, &[logits], Rows::Last, 1)
    }
}
