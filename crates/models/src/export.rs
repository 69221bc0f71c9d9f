//! A model's tensors on their way into a file of either kind.

use siskin_formats::{Checkpoint, TensorType, encode};
use siskin_graph::{Part, WeightKind};

use crate::config::Source;
use crate::{Error, Head, Model, Result, names};

/// A tensor to be written: its name in the file, its shape, its type there.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    pub name: String,
    pub shape: Vec<usize>,
    pub ty: TensorType,
    part: Part,
    cols: usize,
}

/// What is done to a tensor's values on the way.
pub type Change<'a> = &'a dyn Fn(&mut [f32]);

impl Exported {
    /// The projection: its Hugging Face name without `.weight`.
    pub fn module(&self) -> &str {
        self.part.tensor.trim_end_matches(".weight")
    }
}

impl Model {
    /// Every tensor that the model uses, as a GGUF file or a Hugging Face folder would have it. Matrices
    /// become `ty`, or keep their own where that is `None`; vectors are f32.
    ///
    /// Matrices whose rows are no whole blocks of the type become f16. The embedding keeps eight bits if the
    /// type has fewer: it is the last layer of many models, too.
    ///
    /// # Errors
    /// If a tensor is missing.
    pub fn exports(
        &self,
        checkpoint: &Checkpoint,
        to_gguf: bool,
        ty: Option<TensorType>,
    ) -> Result<Vec<Exported>> {
        let mut out: Vec<Exported> = vec![];
        for weight in self.graph(Head::Next)?.weights {
            let is_vector = weight.kind == WeightKind::Vector;
            for part in weight.parts {
                let (info, _) = self.tensor(checkpoint, &part, weight.cols)?;
                let name = names::out(&part.tensor, to_gguf, &self.arch);
                let wanted = ty.unwrap_or(info.ty);
                let small = wanted.is_quantised() && wanted != TensorType::Q8_0;
                let wanted = match wanted {
                    _ if is_vector => TensorType::F32,
                    _ if ty.is_some() && small && part.tensor == crate::blocks::EMBEDDING => {
                        TensorType::Q8_0
                    }
                    other => other,
                };
                let fits = weight.cols.is_multiple_of(wanted.block_len());
                let ty = if fits { wanted } else { TensorType::F16 };
                out.push(Exported {
                    name,
                    shape: info.shape.clone(),
                    ty,
                    cols: weight.cols,
                    part,
                });
            }
        }
        Ok(out)
    }

    /// A tensor's bytes for the file. `change` gets its values in Hugging Face's order of rows, where they are
    /// to be changed; without it, a tensor that keeps type and order is copied as it is.
    ///
    /// # Errors
    /// If it cannot be read, or there is no encoder for its type.
    pub fn export_bytes(
        &self,
        checkpoint: &Checkpoint,
        tensor: &Exported,
        to_gguf: bool,
        change: Option<Change<'_>>,
    ) -> Result<Vec<u8>> {
        let (info, from) = self.tensor(checkpoint, &tensor.part, tensor.cols)?;
        let to = names::transform(&self.arch, to_gguf, &tensor.part.tensor, self.dims());
        if change.is_none() && from == to && info.ty == tensor.ty {
            return Ok(checkpoint.read(info)?);
        }
        let mut values = from.apply(checkpoint.read_f32(info)?, tensor.cols);
        if let Some(change) = change {
            change(&mut values);
        }
        Ok(encode(tensor.ty, &to.undo(values, tensor.cols))?)
    }

    /// A `config.json` for transformers, from a GGUF file's metadata.
    ///
    /// # Errors
    /// If the file says what a `config.json` here cannot: scaled frequencies, or Gemma's two kinds of layers.
    pub fn to_config(&self, checkpoint: &Checkpoint, is_tied: bool) -> Result<serde_json::Value> {
        let d = self.dims();
        let source = match &checkpoint.gguf {
            Some(gguf) => Source::Gguf(gguf, checkpoint),
            None => Source::Json(serde_json::Value::Null),
        };
        let unsupported = |what| Error::NoFolder {
            name: checkpoint.name.clone(),
            what,
        };
        let scaling = checkpoint
            .gguf
            .as_ref()
            .and_then(|g| g.str("rope.scaling.type"));
        if checkpoint.find("rope_freqs.weight").is_some() || scaling.is_some_and(|s| s != "none") {
            return Err(unsupported("its rotary frequencies are scaled"));
        }
        let class = match self.arch.as_str() {
            "llama" => "LlamaForCausalLM",
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => return Err(unsupported("its family has two kinds of layers")),
        };
        let window = source
            .uint("", "attention.sliding_window")
            .filter(|w| *w > 0);
        Ok(serde_json::json!({
            "architectures": [class],
            "model_type": self.arch,
            "hidden_size": d.hidden_size,
            "intermediate_size": d.intermediate_size,
            "num_hidden_layers": d.n_layers,
            "num_attention_heads": d.n_heads,
            "num_key_value_heads": d.n_kv_heads,
            "head_dim": d.head_dim,
            "vocab_size": d.vocab_size,
            "rms_norm_eps": d.rms_norm_eps,
            "rope_theta": d.rope_theta,
            "max_position_embeddings": d.context_length,
            "hidden_act": "silu",
            "attention_bias": false,
            "tie_word_embeddings": is_tied,
            "sliding_window": window,
        }))
    }
}
