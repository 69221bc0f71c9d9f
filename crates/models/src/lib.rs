//! Model families: a configuration becomes a graph, and tensor names are found in either kind of
//! file. One file a family.

mod blocks;
mod config;
mod error;
mod export;
mod gemma3;
mod llama;
mod names;
mod qwen2;
mod qwen3;
mod to_config;

use siskin_formats::{Checkpoint, TensorInfo};
use siskin_graph::{Graph, NodeId, Part};

pub use config::Dims;
pub use error::{Error, Result};
pub use export::{Change, Exported};
pub use names::Transform;

/// What stands at the end of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Logits of the last row, and the token chosen from them.
    Next,
    /// Logits of every row.
    AllLogits,
    /// Logits of every row as they would be if the model ended after each layer: the logit lens
    /// (nostalgebraist, "interpreting GPT: the logit lens", 2020). One output a layer.
    Lens,
    /// The loss of every row against its target, for training.
    Loss,
}

#[derive(Debug, Clone)]
enum Family {
    Llama(llama::Config),
    Qwen2(qwen2::Config),
    Qwen3(qwen3::Config),
    Gemma3(gemma3::Config),
}

/// A model's configuration, out of which graphs are built.
#[derive(Debug, Clone)]
pub struct Model {
    family: Family,
    arch: String,
    from_gguf: bool,
    tied: bool,
}

const KNOWN: &str = "llama, mistral, qwen2, qwen3, gemma3";

impl Model {
    /// Reads the configuration: GGUF metadata, or the folder's `config.json`.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self> {
        let source = match &checkpoint.gguf {
            Some(gguf) => config::Source::Gguf(gguf, checkpoint),
            None => config::Source::Json(config::read_json(&checkpoint.side)?),
        };
        let mut model = Self::from_source(&source)?;
        model.tied = names::find(checkpoint, "lm_head.weight", model.from_gguf).is_none();
        // A graph that does not fit together is found before any weight is read.
        for weight in model.graph(Head::Next)?.weights {
            for part in &weight.parts {
                model.tensor(checkpoint, part, weight.cols)?;
            }
        }
        Ok(model)
    }

    /// From the JSON of a `config.json` alone: what there is to know before any weight.
    pub fn from_config(config: serde_json::Value) -> Result<Self> {
        let tied = config["tie_word_embeddings"] != false;
        Ok(Self {
            tied,
            ..Self::from_source(&config::Source::Json(config))?
        })
    }

    fn from_source(source: &config::Source<'_>) -> Result<Self> {
        let arch = source.arch()?;
        let family = match arch.as_str() {
            "llama" | "mistral" => Family::Llama(llama::Config::read(source)?),
            "qwen2" => Family::Qwen2(qwen2::Config::read(source)?),
            "qwen3" => Family::Qwen3(qwen3::Config::read(source)?),
            "gemma3" | "gemma3_text" => Family::Gemma3(gemma3::Config::read(source)?),
            _ => {
                return Err(Error::UnknownArchitecture {
                    name: source.name(),
                    arch,
                    known: KNOWN,
                });
            }
        };
        let from_gguf = matches!(source, config::Source::Gguf(..));
        Ok(Self {
            family,
            arch,
            from_gguf,
            tied: false,
        })
    }

    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// What GGUF files call the architecture.
    pub fn gguf_arch(&self) -> &str {
        match self.arch.as_str() {
            "mistral" => "llama",
            "gemma3_text" => "gemma3",
            arch => arch,
        }
    }

    /// The name that a GGUF file has for a projection's tensor, and what its rows need on their way in.
    pub fn in_gguf(&self, module: &str) -> (String, Transform) {
        let tensor = format!("{module}.weight");
        let transform = names::transform(self.gguf_arch(), true, &tensor, self.dims());
        (names::in_file(&tensor, true), transform)
    }

    pub fn dims(&self) -> &Dims {
        match &self.family {
            Family::Llama(c) => &c.dims,
            Family::Qwen2(c) => &c.dims,
            Family::Qwen3(c) => &c.dims,
            Family::Gemma3(c) => &c.dims,
        }
    }

    /// The forward pass.
    pub fn graph(&self, head: Head) -> Result<Graph> {
        let mut g = Graph::default();
        let x = match &self.family {
            Family::Llama(c) => c.build(&mut g)?,
            Family::Qwen2(c) => c.build(&mut g)?,
            Family::Qwen3(c) => c.build(&mut g)?,
            Family::Gemma3(c) => c.build(&mut g)?,
        };
        let dims = self.dims();
        let lm_head = if self.tied {
            blocks::EMBEDDING
        } else {
            "lm_head.weight"
        };
        let lm_head = g.matrix(lm_head, &[(lm_head, dims.vocab_size)], dims.hidden_size);
        let norm = |g: &mut Graph, x| {
            blocks::norm(g, x, "model.norm", dims.hidden_size, dims.rms_norm_eps)
        };
        if head == Head::Lens {
            let is_hidden = |n: &&(String, NodeId)| n.0.ends_with(".hidden");
            let hidden: Vec<NodeId> = g.names.iter().filter(is_hidden).map(|n| n.1).collect();
            for x in hidden {
                let x = norm(&mut g, x)?;
                let logits = g.linear(x, lm_head, None)?;
                g.output(logits);
            }
            return Ok(g);
        }
        let x = if head == Head::Next { g.last_row(x) } else { x };
        let x = norm(&mut g, x)?;
        g.name(x, "model.norm");
        if head == Head::Loss {
            let loss = g.cross_entropy(x, lm_head)?;
            g.output(loss);
            return Ok(g);
        }
        let logits = g.linear(x, lm_head, None)?;
        g.output(logits);
        if head == Head::Next {
            g.choose(logits);
        }
        Ok(g)
    }

    /// The tensor of a weight's part, its shape checked, and what to do to its bytes.
    pub fn tensor<'a>(
        &self,
        checkpoint: &'a Checkpoint,
        part: &Part,
        cols: usize,
    ) -> Result<(&'a TensorInfo, Transform)> {
        let info = names::find(checkpoint, &part.tensor, self.from_gguf).ok_or_else(|| {
            siskin_formats::Error::MissingTensor {
                name: checkpoint.name.clone(),
                tensor: names::in_file(&part.tensor, self.from_gguf),
            }
        })?;
        let wanted = if cols == 1 {
            vec![part.rows]
        } else {
            vec![part.rows, cols]
        };
        if info.shape != wanted {
            return Err(Error::Shape {
                name: checkpoint.name.clone(),
                tensor: info.name.clone(),
                found: info.shape.clone(),
                wanted,
            });
        }
        Ok((
            info,
            names::transform(&self.arch, self.from_gguf, &part.tensor, self.dims()),
        ))
    }
}
