#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

mod altup;
mod apertus;
mod arcee;
mod bert;
mod bitnet;
mod blocks;
mod cohere;
mod config;
mod deepseek;
mod dense;
mod dense_graph;
mod dims;
mod encoder;
mod ernie;
mod error;
mod exaone4;
mod export;
mod falcon;
mod falcon_h1;
mod families;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod glm;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod harmless;
mod hunyuan;
mod latent;
mod layers;
mod lfm2;
mod llama;
mod mamba;
mod minicpm;
mod mixers;
mod mixtral;
mod modernbert;
mod moe;
mod names;
mod nemotron_h;
mod nomic;
mod olmo;
mod own_inputs;
mod phi;
mod phimoe;
mod purpose;
mod qwen;
mod qwen35;
mod qwen_moe;
mod rope;
mod rope_request;
mod rope_scaling;
mod seed_oss;
mod sentence;
mod shared_keys;
mod smollm3;
mod sparsity;
mod stablelm;
mod starcoder2;
mod to_config;
mod zero_biases;

use std::collections::BTreeSet;
use std::sync::Arc;

use siskin_formats::{Checkpoint, TensorInfo, TensorType, decode};
use siskin_graph::{Graph, Map, NodeId, Part};

use config::Source;
use families::{Architecture, Family, InFile};

pub use dims::Dims;
pub use error::{Error, Result};
pub use export::{Change, EncodeTensor, Exported};
pub use families::{Kind, architectures, families};
pub use moe::ExpertCounts;
pub use names::{Transform, is_in_layer};
pub use rope_request::{RopeScaling, RopeScalingKind};
pub use sentence::Sentence;
pub use siskin_graph::Pooling;

/// What is at the end of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Logits of the last row, and the token chosen from them.
    Next,
    /// Logits of every row.
    AllLogits,
    /// Logits of every row as they would be if the model ended after each layer: the logit lens
    /// (nostalgebraist, "interpreting GPT: the logit lens", 2020). One output per layer.
    Lens,
    /// The loss of every row against its target, for training.
    Loss,
    /// The last hidden state of every row, over a batch of whole texts.
    Hidden,
    /// The embedding of each text of a batch, not yet divided by its length.
    Embedding(Pooling),
    /// The scores of each text of a batch, of a model for rerankers.
    Score,
}

/// A tensor that a part of a weight is taken from.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Name, shape and type of the tensor, and where its bytes are.
    pub info: &'a TensorInfo,
    /// What must be done to its values to get the graph's.
    pub transform: Transform,
    /// Bytes of the part, in the file's type.
    pub bytes: u64,
}

impl Found<'_> {
    /// The type in which a part is read: its tensor's, or F32 where blocks would be cut apart.
    pub fn ty(&self) -> TensorType {
        match self.transform {
            Transform::TransposeHeads { .. } if self.info.ty.block_len() > 1 => TensorType::F32,
            _ => self.info.ty,
        }
    }

    /// What must be read for a part: a piece of the tensor, and which of the piece's rows is the part's first.
    pub fn piece(&self, part: &Part) -> (TensorInfo, usize) {
        match self.transform {
            Transform::Transpose | Transform::TransposeHeads { .. } => {
                (self.info.clone(), part.rows.start)
            }
            _ => self.info.around(part.rows.clone(), part.shape[0]),
        }
    }

    /// The part's bytes, row by row, from those of its [piece](Self::piece), whose row `first` is the part's first.
    pub fn cut(&self, part: &Part, first: usize, bytes: Vec<u8>) -> Vec<u8> {
        let bytes = match self.ty() == self.info.ty {
            true => bytes,
            false => {
                let mut values = vec![0.0; part.shape.iter().product()];
                decode(self.info.ty, &bytes, &mut values);
                values.into_iter().flat_map(f32::to_le_bytes).collect()
            }
        };
        cut(self.ty(), self.transform, part, first, bytes)
    }
}

/// Rows and columns of a part, from bytes of type `ty` whose row `first` is the part's first.
pub fn cut(
    ty: TensorType,
    transform: Transform,
    part: &Part,
    first: usize,
    bytes: Vec<u8>,
) -> Vec<u8> {
    if transform == Transform::Transpose {
        let values: Vec<&[u8]> = bytes.chunks_exact(ty.block_bytes()).collect();
        let bytes = names::transposed(&values, part.shape[0]).concat();
        return cut(ty, Transform::None, part, first, bytes);
    }
    if let Transform::TransposeHeads { n_heads } = transform {
        let values: Vec<&[u8]> = bytes.chunks_exact(ty.block_bytes()).collect();
        let bytes = names::transposed_heads(&values, n_heads, part.shape[0] / n_heads).concat();
        return cut(ty, Transform::None, part, first, bytes);
    }
    let bytes_of = |cols: usize| cols / ty.block_len() * ty.block_bytes();
    let row_bytes = bytes_of(part.shape[1]);
    let is_all = bytes.len() == part.n_rows() * row_bytes && part.cols.len() == part.shape[1];
    if is_all && !matches!(transform, Transform::UnpermuteRope { .. }) {
        return bytes;
    }
    let cols = bytes_of(part.cols.start)..bytes_of(part.cols.end);
    part.rows
        .clone()
        .flat_map(|row| {
            let at = first + transform.source_row(row) - part.rows.start;
            &bytes[at * row_bytes..][cols.clone()]
        })
        .copied()
        .collect()
}

/// A model's configuration, from which graphs are built.
#[derive(Clone)]
pub struct Model {
    family: Arc<dyn Family>,
    arch: &'static Architecture,
    /// What the file calls the architecture.
    arch_name: String,
    from_gguf: bool,
    /// Whether the embedding is the head, too.
    tied: bool,
    has_vision: bool,
    sentence: Option<Sentence>,
    /// Whether it is a model for embeddings whose file has no head.
    is_headless: bool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut s = f.debug_struct("Model");
        s.field("arch", &self.arch_name).finish_non_exhaustive()
    }
}

impl Model {
    /// Reads the configuration: GGUF metadata, or the folder's `config.json`.
    ///
    /// # Errors
    /// If the architecture is not known; if the file holds a key or a tensor that would change what the model
    /// computes and that its family does not read; if a tensor is missing or of another shape.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        let mut model = match &checkpoint.gguf {
            Some(gguf) => Self::from_source(&Source::gguf(gguf, checkpoint))?,
            None => Self::from_config(config::read_json(&checkpoint.side)?)?,
        };
        model.sentence = Sentence::read(checkpoint)?;
        let has_head = model.tied || model.find(checkpoint, "lm_head.weight").is_some();
        model.is_headless = model.sentence.is_some() && !has_head;
        // A graph that does not fit together is found before any weight is read.
        let used = model.used(checkpoint)?;
        model.check_unused(checkpoint, &used)?;
        Ok(model)
    }

    /// From the JSON of a `config.json` alone, before there are any weights.
    ///
    /// # Errors
    /// As [`Self::open`], except for tensors.
    pub fn from_config(config: serde_json::Value) -> Result<Self> {
        Self::from_source(&Source::json(config)?)
    }

    fn from_source(source: &Source<'_>) -> Result<Self> {
        let arch = Architecture::of(source)?;
        let family = (arch.read)(source)?;
        let tied = match source.is_gguf() {
            true => !source.has_tensor("output.weight"),
            false => source
                .bool("tie_word_embeddings", "")?
                .unwrap_or(arch.defaults.tied),
        };
        config::check_quantisation(source)?;
        source.finish()?;
        Ok(Self {
            family,
            arch,
            arch_name: source.arch()?,
            from_gguf: source.is_gguf(),
            tied,
            has_vision: source.has_vision,
            sentence: None,
            is_headless: false,
        })
    }

    /// Refuses a tensor that no node takes, unless the forward pass is known to do without it.
    fn check_unused(&self, checkpoint: &Checkpoint, used: &BTreeSet<&str>) -> Result<()> {
        // transformers 4 takes the embedding where the configuration says so, whatever else the file holds.
        let head = self.find(checkpoint, "lm_head.weight");
        let is_head = |name: &str| self.tied && head.is_some_and(|h| h.name == name);
        let dims = self.dims();
        let is_prediction = |name: &str| {
            let mut layers = dims.n_layers..dims.n_layers + dims.n_predict_layers;
            layers.any(|i| name.starts_with(&format!("blk.{i}.")))
        };
        let read = checkpoint.tensors.iter().map(|t| (t.name.as_str(), ""));
        let unread = checkpoint.unread.iter().map(|t| (t.name.as_str(), &*t.ty));
        let mut unused = read.chain(unread).filter(|(name, ty)| {
            let harmless = harmless::tensor(name, self.has_vision) || harmless::is_buffer(ty);
            !used.contains(name)
                && !harmless
                && !is_head(name)
                && !is_prediction(name)
                && !self.family.does_without(name)
                && !zero_biases::may_be(checkpoint, name)
        });
        match unused.next() {
            None => Ok(()),
            Some((tensor, _)) => Err(Error::UnusedTensor {
                name: checkpoint.name.clone(),
                tensor: tensor.into(),
                arch: self.arch_name.clone(),
                more: unused.count(),
            }),
        }
    }

    /// Whether it is the language model within a model for images.
    pub fn is_within_vision(&self) -> bool {
        self.has_vision
    }

    /// Whether the embedding is also the head.
    pub fn has_tied_head(&self) -> bool {
        self.tied
    }

    /// The model with a head of its own, apart from its embedding.
    pub fn with_own_head(&self) -> Self {
        Self {
            tied: false,
            ..self.clone()
        }
    }

    /// The architecture's name in the model's file: `llama`, `gemma3_text`, ….
    pub fn arch(&self) -> &str {
        &self.arch_name
    }

    /// The architecture's name in GGUF files; `None` where these are not read.
    pub fn gguf_arch(&self) -> Option<&str> {
        self.arch.gguf
    }

    /// The name of a projection's tensor in GGUF files, and what its rows need when they are read from there.
    pub fn in_gguf(&self, module: &str) -> (String, Transform) {
        let tensor = format!("{module}.weight");
        let transform = self.transform(&tensor, true);
        (names::in_file(self.arch, &tensor, true), transform)
    }

    /// The sizes of the model.
    pub fn dims(&self) -> &Dims {
        self.family.dims()
    }

    /// The experts of a model that has some.
    ///
    /// # Errors
    /// As [`Self::graph`].
    pub fn experts(&self) -> Result<Option<ExpertCounts>> {
        Ok(moe::expert_counts(&self.graph(self.head())?))
    }

    fn transform(&self, tensor: &str, gguf: bool) -> Transform {
        (self.arch.transform)(InFile { tensor, gguf }, self.dims())
    }

    fn find<'a>(&self, checkpoint: &'a Checkpoint, tensor: &str) -> Option<&'a TensorInfo> {
        names::find(self.arch, checkpoint, tensor, self.from_gguf)
    }

    /// The forward pass, with the given end.
    ///
    /// # Errors
    /// If sizes of the configuration contradict one another, or the model is not for what the end is: an encoder makes no
    /// text, and most models no scores.
    pub fn graph(&self, head: Head) -> Result<Graph> {
        let mut g = Graph::default();
        let x = self.family.build(&mut g)?;
        if matches!(head, Head::Hidden | Head::Embedding(_) | Head::Score) {
            return self.text_graph(g, x, head);
        }
        self.check_text()?;
        let dims = self.dims();
        let lm_head = if self.tied {
            blocks::EMBEDDING
        } else {
            "lm_head.weight"
        };
        let lm_head = g.matrix(lm_head, &[(lm_head, dims.vocab_size)], dims.hidden_size);
        let bias = self.family.has_head_bias().then(|| {
            let bias = "lm_head.bias";
            g.vector(bias, &[(bias, dims.vocab_size)])
        });
        let logits_of = |g: &mut Graph, x: NodeId| -> Result<NodeId> {
            let logits = g.linear(x, lm_head, bias)?;
            let cap = self.family.logits_cap();
            Ok(cap.map_or(logits, |cap| g.map(logits, Map::SoftCap(cap))))
        };
        if head == Head::Lens {
            for x in g.layer_ends.clone() {
                let x = self.family.last_norm(&mut g, x)?;
                let logits = logits_of(&mut g, x)?;
                g.output(logits);
            }
            return Ok(g);
        }
        let x = if head == Head::Next { g.last_row(x) } else { x };
        let x = self.family.last_norm(&mut g, x)?;
        g.name(x, "model.norm");
        if head == Head::Loss {
            self.family.check_training()?;
            let loss = g.cross_entropy(x, lm_head, self.family.logits_cap())?;
            g.output(loss);
            return Ok(g);
        }
        let logits = logits_of(&mut g, x)?;
        g.output(logits);
        if head == Head::Next {
            g.choose(logits);
        }
        Ok(g)
    }

    /// The tensor of a weight's part, its shape checked, and what must be done to its bytes.
    ///
    /// # Errors
    /// If the tensor is missing or of another shape, or the part cannot be read without its neighbours: its columns are
    /// not whole blocks, or its rows not whole heads where a file has them in another order.
    pub fn tensor<'a>(&self, checkpoint: &'a Checkpoint, part: &Part) -> Result<Found<'a>> {
        let info = self.find(checkpoint, &part.tensor).ok_or_else(|| {
            checkpoint.missing(&names::in_file(self.arch, &part.tensor, self.from_gguf))
        })?;
        let transform = self.transform(&part.tensor, self.from_gguf);
        let wanted = match part.shape {
            [rows, 1] => vec![rows],
            [rows, cols] => match transform {
                Transform::Transpose => vec![cols, rows],
                Transform::TransposeHeads { n_heads } => vec![n_heads * cols, rows / n_heads],
                _ => vec![rows, cols],
            },
        };
        // Files differ in dimensions of 1: those of a convolution's weights have one in the middle.
        let significant =
            |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|n| *n != 1).collect() };
        let found = significant(&info.shape);
        let fits = match found[..] {
            // The matrices of all experts.
            [experts, rows, cols] => wanted == [experts * rows, cols],
            // Their biases.
            [experts, rows] if part.shape[1] == 1 => wanted == [experts * rows],
            _ => found == significant(&wanted),
        };
        if !fits {
            return Err(Error::Shape {
                name: checkpoint.name.clone(),
                tensor: info.name.clone(),
                found: info.shape.clone(),
                wanted,
            });
        }
        let no_range = |what| {
            Err(Error::Range {
                name: checkpoint.name.clone(),
                tensor: info.name.clone(),
                what,
            })
        };
        if transform == Transform::Transpose && info.ty.block_len() > 1 {
            return no_range("it is stored transposed, and its type has blocks");
        }
        let found = Found {
            info,
            transform,
            bytes: 0,
        };
        let begins_block = |col: usize| col.is_multiple_of(found.ty().block_len());
        if ![part.cols.start, part.cols.end]
            .into_iter()
            .all(begins_block)
        {
            return no_range("its columns are not whole blocks of the type");
        }
        if let Transform::UnpermuteRope { head_dim } = transform
            && ![part.rows.start, part.rows.end]
                .iter()
                .all(|row| row.is_multiple_of(head_dim))
        {
            return no_range("its rows are not whole heads");
        }
        let values = (part.n_rows() * part.cols.len()) as u64;
        let all = info.shape.iter().product::<usize>() as u64;
        let bytes = match found.ty() == info.ty {
            true => info.bytes,
            false => all * 4,
        };
        Ok(Found {
            bytes: (u128::from(bytes) * u128::from(values) / u128::from(all.max(1))) as u64,
            ..found
        })
    }
}
