//! The sizes that every family has.

use crate::Result;
use crate::config::Source;

/// The sizes of a model, and what every family has beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dims {
    /// Transformer blocks.
    pub n_layers: usize,
    /// Columns of the hidden state.
    pub hidden_size: usize,
    /// Columns within the MLP; where layers differ, the most.
    pub intermediate_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Heads of keys and values; where layers differ, the most.
    pub n_kv_heads: usize,
    /// Dimensions of each head.
    pub head_dim: usize,
    /// Rows of the embedding, which may be more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// What norms add to the mean of squares.
    pub rms_norm_eps: f32,
    /// The base of the rotary frequencies.
    pub rope_theta: f32,
    /// The longest context that the configuration allows, in tokens.
    pub context_length: usize,
    /// Where layers differ; `n_kv_heads` and `intermediate_size` are then the largest.
    by_layer: Vec<LayerDims>,
}

/// The sizes that may differ between layers.
#[derive(Debug, Clone, PartialEq)]
struct LayerDims {
    n_kv_heads: usize,
    intermediate_size: usize,
}

/// What a family's class in transformers (5.24) takes for what `config.json` leaves out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    /// `None`: as many as heads.
    pub n_kv_heads: Option<usize>,
    /// `None`: `hidden_size / n_heads`.
    pub head_dim: Option<usize>,
    pub context_length: usize,
    pub tied: bool,
}

impl Dims {
    /// The sizes of one layer.
    pub(crate) fn layer(&self, i: usize) -> Self {
        let own = self.by_layer.get(i);
        Self {
            n_kv_heads: own.map_or(self.n_kv_heads, |l| l.n_kv_heads),
            intermediate_size: own.map_or(self.intermediate_size, |l| l.intermediate_size),
            ..self.clone()
        }
    }

    /// Whether all layers have the same sizes.
    pub(crate) fn is_uniform(&self) -> bool {
        self.by_layer.is_empty()
    }

    /// # Errors
    /// If a size is missing from a GGUF file, or makes no sense.
    pub(crate) fn read(source: &Source<'_>, defaults: &Defaults) -> Result<Self> {
        const MAX: usize = 1 << 20;
        // GGUF files have all of them.
        let or = |default: usize| (!source.is_gguf()).then_some(default);
        let n_heads = source.size(
            "num_attention_heads",
            "attention.head_count",
            or(defaults.n_heads),
            1024,
        )?;
        let hidden_size = source.size(
            "hidden_size",
            "embedding_length",
            or(defaults.hidden_size),
            MAX,
        )?;
        let n_layers = source.size(
            "num_hidden_layers",
            "block_count",
            or(defaults.n_layers),
            1024,
        )?;
        let kv_by_layer = source.by_layer("attention.head_count_kv", n_layers)?;
        let mlp_by_layer = source.by_layer("feed_forward_length", n_layers)?;
        let largest = |list: &Option<Vec<usize>>| list.iter().flatten().max().copied();
        // Null is not the class's default, but as many as heads.
        let default = defaults
            .n_kv_heads
            .filter(|_| !source.is_gguf() && !source.is_null("num_key_value_heads"));
        let n_kv_heads = match largest(&kv_by_layer) {
            Some(n) => n,
            None => source
                .uint("num_key_value_heads", "attention.head_count_kv")?
                .or(default)
                .unwrap_or(n_heads),
        };
        let intermediate_size = match largest(&mlp_by_layer) {
            Some(n) => n,
            None => source.size(
                "intermediate_size",
                "feed_forward_length",
                or(defaults.intermediate_size),
                MAX,
            )?,
        };
        let default = defaults
            .head_dim
            .filter(|_| !source.is_gguf() && !source.is_null("head_dim"));
        let head_dim = source
            .uint("head_dim", "attention.key_length")?
            .or(default)
            .unwrap_or(hidden_size / n_heads);
        if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > 256 {
            return Err(source.wrong("head_dim", "a multiple of 4 up to 256"));
        }
        let kv_heads = kv_by_layer.iter().flatten().copied();
        if kv_heads
            .chain([n_kv_heads])
            .any(|n| n == 0 || n_heads % n != 0)
        {
            return Err(source.wrong("num_key_value_heads", "a divisor of the number of heads"));
        }
        for (key, what) in [
            ("attention.value_length", "another size than the keys'"),
            ("rope.dimension_count", "rope on a part of each head"),
        ] {
            if source.uint("", key)?.is_some_and(|n| n != head_dim) {
                return Err(source.unsupported(key, what));
            }
        }
        if let Some(false) = source.bool("", "attention.causal")? {
            return Err(source.unsupported("attention.causal", false));
        }
        let vocab_size = match source.embedding_rows()? {
            Some(rows) => rows,
            None => source.size("vocab_size", "", Some(defaults.vocab_size), 1 << 24)?,
        };
        let by_layer = |i: usize| LayerDims {
            n_kv_heads: kv_by_layer.as_ref().map_or(n_kv_heads, |l| l[i]),
            intermediate_size: mlp_by_layer.as_ref().map_or(intermediate_size, |l| l[i]),
        };
        let varies = kv_by_layer.is_some() || mlp_by_layer.is_some();
        Ok(Self {
            by_layer: (0..if varies { n_layers } else { 0 })
                .map(by_layer)
                .collect(),
            n_layers,
            hidden_size,
            intermediate_size,
            n_heads,
            n_kv_heads,
            head_dim,
            vocab_size,
            rms_norm_eps: source.positive(
                "rms_norm_eps",
                "attention.layer_norm_rms_epsilon",
                1e-6,
            )?,
            // Families read it with their frequencies.
            rope_theta: 0.0,
            context_length: source.size(
                "max_position_embeddings",
                "context_length",
                or(defaults.context_length),
                1 << 28,
            )?,
        })
    }
}
