//! The sizes that every family has.

use crate::Result;
use crate::config::Source;

const MAX_SIZE: usize = 1 << 20;
/// Dimensions of a head of latent attention, in newer GGUF files.
const MLA: &str = "attention.key_length_mla";
/// A tensor of GGUF files with latent attention, whose values have a size of their own.
const LATENT: &str = "blk.0.attn_kv_a_mqa.weight";

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
    /// Heads of keys and values; where layers differ, the most: layers without attention have none.
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
    /// Layers of the file beyond these, which predict further tokens.
    pub(crate) n_predict_layers: usize,
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
    pub rms_norm_eps: f32,
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

    /// The same with heads of another size.
    pub(crate) fn with_head_dim(&self, head_dim: usize) -> Self {
        Self {
            head_dim,
            ..self.clone()
        }
    }

    /// The same with an MLP of another size.
    pub(crate) fn with_intermediate_size(&self, intermediate_size: usize) -> Self {
        Self {
            intermediate_size,
            ..self.clone()
        }
    }

    /// Whether all layers have the same sizes.
    pub(crate) fn is_uniform(&self) -> bool {
        self.by_layer.is_empty()
    }

    /// Of a family without attention and MLP.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn without_heads(source: &Source<'_>, defaults: &Defaults) -> Result<Self> {
        let reader = Reader { source, defaults };
        let of = |keys, default| reader.size(keys, default, MAX_SIZE);
        // GGUF files have 0 for what there is not.
        source.gguf_value("feed_forward_length");
        source.gguf_value("attention.head_count");
        let eps = "attention.layer_norm_rms_epsilon";
        Ok(Self {
            n_layers: of(["num_hidden_layers", "block_count"], defaults.n_layers)?,
            hidden_size: of(["hidden_size", "embedding_length"], defaults.hidden_size)?,
            intermediate_size: 0,
            n_heads: 0,
            n_kv_heads: 0,
            head_dim: 0,
            vocab_size: reader.vocab_size()?,
            rms_norm_eps: source.positive("layer_norm_epsilon", eps, defaults.rms_norm_eps)?,
            rope_theta: 0.0,
            context_length: of(["", "context_length"], defaults.context_length)?,
            n_predict_layers: 0,
            by_layer: vec![],
        })
    }

    /// Of a decoder, whose tokens see none after them.
    ///
    /// # Errors
    /// If a size is missing from a GGUF file, or makes no sense.
    pub(crate) fn read(source: &Source<'_>, defaults: &Defaults) -> Result<Self> {
        if let Some(false) = source.bool("", "attention.causal")? {
            return Err(source.unsupported("attention.causal", false));
        }
        Self::read_any(source, defaults)
    }

    /// Of an encoder too.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_any(source: &Source<'_>, defaults: &Defaults) -> Result<Self> {
        let reader = Reader { source, defaults };
        let n_heads = reader.size(
            ["num_attention_heads", "attention.head_count"],
            defaults.n_heads,
            1024,
        )?;
        let hidden_size = reader.size(
            ["hidden_size", "embedding_length"],
            defaults.hidden_size,
            MAX_SIZE,
        )?;
        let n_all = reader.size(
            ["num_hidden_layers", "block_count"],
            defaults.n_layers,
            1024,
        )?;
        const PREDICT: &str = "nextn_predict_layers";
        let n_predict_layers = source.uint("", PREDICT)?.unwrap_or(0);
        if n_predict_layers >= n_all {
            return Err(source.wrong(PREDICT, "less than block_count"));
        }
        let n_layers = n_all - n_predict_layers;
        let kv_heads = reader.kv_heads(n_all, n_heads)?;
        let mlp = reader.mlp(n_all)?;
        let head_dim = reader.head_dim(hidden_size / n_heads)?;
        reader.refuse_unsupported(head_dim)?;
        Ok(Self {
            by_layer: by_layer(&kv_heads, &mlp, n_layers),
            n_predict_layers,
            n_layers,
            hidden_size,
            intermediate_size: mlp.largest,
            n_heads,
            n_kv_heads: kv_heads.largest,
            head_dim,
            vocab_size: reader.vocab_size()?,
            rms_norm_eps: source.positive(
                "rms_norm_eps",
                "attention.layer_norm_rms_epsilon",
                defaults.rms_norm_eps,
            )?,
            // Families read it with their frequencies.
            rope_theta: 0.0,
            context_length: reader.size(
                ["max_position_embeddings", "context_length"],
                defaults.context_length,
                1 << 28,
            )?,
        })
    }
}

/// A size that may differ between layers.
struct PerLayer {
    largest: usize,
    /// `None` where the file gives one size for all layers.
    each: Option<Vec<usize>>,
}

impl PerLayer {
    fn of(&self, layer: usize) -> usize {
        self.each.as_ref().map_or(self.largest, |list| list[layer])
    }
}

/// Each layer's sizes if any of them differ between layers, else nothing.
fn by_layer(kv_heads: &PerLayer, mlp: &PerLayer, n_layers: usize) -> Vec<LayerDims> {
    if kv_heads.each.is_none() && mlp.each.is_none() {
        return vec![];
    }
    let layer = |i: usize| LayerDims {
        n_kv_heads: kv_heads.of(i),
        intermediate_size: mlp.of(i),
    };
    (0..n_layers).map(layer).collect()
}

struct Reader<'a> {
    source: &'a Source<'a>,
    defaults: &'a Defaults,
}

impl Reader<'_> {
    /// A size by its name in `config.json` and in GGUF; GGUF files have all of them, so only the former has defaults.
    fn size(&self, [json, gguf]: [&str; 2], default: usize, max: usize) -> Result<usize> {
        let default = (!self.source.is_gguf()).then_some(default);
        self.source.size(json, gguf, default, max)
    }

    /// A size for which null is not the class's default, but derived from other sizes.
    fn derived(
        &self,
        [json, gguf]: [&str; 2],
        default: Option<usize>,
        derived: usize,
    ) -> Result<usize> {
        let source = self.source;
        let default = default.filter(|_| !source.is_gguf() && !source.is_null(json));
        Ok(source.uint(json, gguf)?.or(default).unwrap_or(derived))
    }

    fn kv_heads(&self, n_layers: usize, n_heads: usize) -> Result<PerLayer> {
        let keys = ["num_key_value_heads", "attention.head_count_kv"];
        let each = self.source.by_layer(keys[1], n_layers)?;
        let largest = match each.iter().flatten().max() {
            Some(n) => *n,
            None => self.derived(keys, self.defaults.n_kv_heads, n_heads)?,
        };
        // 0 in layers that have something else than attention.
        let all = each.iter().flatten().copied().filter(|n| *n > 0);
        if all
            .chain([largest])
            .any(|n| n == 0 || !n_heads.is_multiple_of(n))
        {
            return Err(self
                .source
                .wrong(keys[0], "a divisor of the number of heads"));
        }
        Ok(PerLayer { largest, each })
    }

    fn mlp(&self, n_layers: usize) -> Result<PerLayer> {
        let keys = ["intermediate_size", "feed_forward_length"];
        let each = self.source.by_layer(keys[1], n_layers)?;
        let largest = match each.iter().flatten().max() {
            Some(n) => *n,
            // A family without a default reads it by another name.
            None if self.defaults.intermediate_size == 0 && !self.source.is_gguf() => 1,
            None => self.size(keys, self.defaults.intermediate_size, MAX_SIZE)?,
        };
        if largest == 0 {
            return Err(self.source.wrong(keys[1], "above 0"));
        }
        Ok(PerLayer { largest, each })
    }

    fn head_dim(&self, derived: usize) -> Result<usize> {
        // Files of latent attention have the sizes of heads in llama.cpp's cache, and beside them those of the model.
        let in_cache = self.derived(
            ["head_dim", "attention.key_length"],
            self.defaults.head_dim,
            derived,
        )?;
        let head_dim = self.source.uint("", MLA)?.unwrap_or(in_cache);
        if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > 512 {
            return Err(self.source.wrong("head_dim", "a multiple of 4 up to 512"));
        }
        Ok(head_dim)
    }

    fn refuse_unsupported(&self, head_dim: usize) -> Result<()> {
        const KEY: &str = "attention.value_length";
        if self.source.has_tensor(LATENT) {
            return Ok(());
        }
        if self.source.uint("", KEY)?.is_some_and(|n| n != head_dim) {
            return Err(self.source.unsupported(KEY, "another size than the keys'"));
        }
        Ok(())
    }

    fn vocab_size(&self) -> Result<usize> {
        match self.source.embedding_rows()? {
            Some(rows) => Ok(rows),
            None => {
                let default = Some(self.defaults.vocab_size);
                self.source.size("vocab_size", "", default, 1 << 24)
            }
        }
    }
}
