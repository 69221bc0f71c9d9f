//! The table of what is known. A family is its own file and a row here.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value as Json;
use siskin_formats::Value;
use siskin_graph::{Graph, NodeId};

use crate::blocks::Biases;
use crate::config::Source;
use crate::dims::Defaults;
use crate::{Dims, Error, Result, Transform, blocks};

/// All architectures, as messages list them.
static ALL: &[&Architecture] = &[
    &crate::llama::LLAMA,
    &crate::llama::MISTRAL,
    &crate::qwen::QWEN2,
    &crate::qwen::QWEN3,
    &crate::gemma3::GEMMA3,
    &crate::arcee::ARCEE,
    &crate::cohere::COHERE,
    &crate::cohere::COHERE2,
    &crate::ernie::ERNIE4_5,
    &crate::ernie::ERNIE4_5_MOE,
    &crate::exaone4::EXAONE4,
    &crate::falcon::FALCON,
    &crate::falcon_h1::FALCON_H1,
    &crate::gemma::GEMMA,
    &crate::gemma2::GEMMA2,
    &crate::gemma3n::GEMMA3N,
    &crate::gemma4::GEMMA4,
    &crate::glm::GLM,
    &crate::glm::GLM4,
    &crate::gpt_neox::GPT_NEOX,
    &crate::gpt_oss::GPT_OSS,
    &crate::granite::GRANITE,
    &crate::granite_hybrid::GRANITE_HYBRID,
    &crate::granite::GRANITE_MOE,
    &crate::ernie::HELIUM,
    &crate::hunyuan::HUNYUAN,
    &crate::minicpm::INTERNLM3,
    &crate::minicpm::MINICPM,
    &crate::minicpm::MINISTRAL3,
    &crate::mixtral::MIXTRAL,
    &crate::lfm2::LFM2,
    &crate::lfm2::LFM2_MOE,
    &crate::mamba::MAMBA,
    &crate::mamba::MAMBA2,
    &crate::arcee::NEMOTRON,
    &crate::nemotron_h::NEMOTRON_H,
    &crate::olmo::OLMO,
    &crate::olmo::OLMO2,
    &crate::olmo::OLMO3,
    &crate::olmo::OLMOE,
    &crate::phi::PHI,
    &crate::phi::PHI3,
    &crate::phimoe::PHIMOE,
    &crate::qwen_moe::QWEN2_MOE,
    &crate::qwen_moe::QWEN3_MOE,
    &crate::qwen35::QWEN3_5,
    &crate::qwen35::QWEN3_5_MOE,
    &crate::qwen35::QWEN3_NEXT,
    &crate::seed_oss::SEED_OSS,
    &crate::smollm3::SMOLLM3,
    &crate::stablelm::STABLELM,
    &crate::starcoder2::STARCODER2,
    &crate::gemma3::GEMMA_EMBEDDING,
    &crate::bert::BERT,
    &crate::bert::ROBERTA,
    &crate::bert::XLM_ROBERTA,
    &crate::modernbert::MODERNBERT,
    &crate::nomic::NOMIC_BERT,
];

/// One architecture: what it is called, how it is read, and how files have its tensors.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// What a `config.json` may call it; messages use the first.
    pub names: &'static [&'static str],
    /// What GGUF files call it; `None` where they are not read.
    pub gguf: Option<&'static str>,
    /// `model_type` of a `config.json` that is written.
    pub model_type: &'static str,
    /// transformers' class.
    pub class: &'static str,
    pub defaults: Defaults,
    pub read: fn(&Source<'_>) -> Result<Arc<dyn Family>>,
    /// Names within a layer that are not those of [`crate::names`]: Hugging Face's and GGUF's.
    pub layer_names: &'static [(&'static str, &'static str)],
    /// What a tensor of a file needs, by its Hugging Face name.
    pub transform: fn(InFile<'_>, &Dims) -> Transform,
    /// Which biases transformers' class can have.
    pub can_have: &'static [Biases],
    /// Names outside the layers that are not llama's: the graph's and Hugging Face's.
    pub top_names: &'static [(&'static str, &'static str)],
    /// The same for GGUF files.
    pub gguf_top_names: &'static [(&'static str, &'static str)],
    /// Whether its GGUF files may have a factor for each rotary frequency.
    pub has_rope_factors: bool,
}

/// A tensor of one kind of file.
pub(crate) struct InFile<'a> {
    pub tensor: &'a str,
    pub gguf: bool,
}

/// A family's configuration, as it was read.
pub(crate) trait Family: Debug + Send + Sync {
    fn dims(&self) -> &Dims;

    /// The forward pass up to the last layer's end.
    fn build(&self, g: &mut Graph) -> Result<NodeId>;

    /// The norm before the head.
    ///
    /// # Errors
    /// If sizes contradict one another.
    fn last_norm(&self, g: &mut Graph, x: NodeId) -> Result<NodeId> {
        let Dims {
            hidden_size,
            rms_norm_eps,
            ..
        } = *self.dims();
        Ok(blocks::norm(g, x, "model.norm", hidden_size, rms_norm_eps)?)
    }

    /// Whether tokens see those after them: it makes embeddings or scores of texts, and no text.
    fn is_encoder(&self) -> bool {
        false
    }

    /// How many scores it gives a text; `None` if it makes embeddings.
    fn labels(&self) -> Option<usize> {
        None
    }

    /// Whether a score is the logistic function of what the graph gives.
    fn is_logistic(&self) -> bool {
        false
    }

    /// How many texts it tells apart where several are read together.
    fn kinds(&self) -> usize {
        1
    }

    /// The scores of each text, from the hidden states; `None` if it makes none.
    ///
    /// # Errors
    /// If sizes contradict one another.
    fn score(&self, _: &mut Graph, _: NodeId) -> Result<Option<NodeId>> {
        Ok(None)
    }

    /// Whether the forward pass does without a tensor.
    fn does_without(&self, _tensor: &str) -> bool {
        false
    }

    /// Whether the head has a bias.
    fn has_head_bias(&self) -> bool {
        false
    }

    /// The soft cap of the logits.
    fn logits_cap(&self) -> Option<f32> {
        None
    }

    /// Whether it can be trained.
    ///
    /// # Errors
    /// If not, with the reason.
    fn check_training(&self) -> Result<()> {
        Ok(())
    }

    /// What GGUF metadata says of it beyond sizes and rope, by keys without the architecture's name.
    ///
    /// # Errors
    /// If the family's GGUF files cannot say what it computes.
    fn in_gguf(&self) -> Result<Vec<(&'static str, Value)>>;

    /// What a `config.json` says of it beyond sizes and rope.
    ///
    /// # Errors
    /// If the family cannot be converted.
    fn in_config(&self) -> Result<InConfig>;
}

/// A family's part of a `config.json`.
pub(crate) struct InConfig {
    /// The architecture whose class in transformers computes the same.
    pub arch: &'static Architecture,
    pub window: Option<usize>,
    pub biases: Biases,
    pub more: Vec<(&'static str, Json)>,
}

/// The names of all architectures, as `config.json` has them.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|a| a.names[0])
}

impl Architecture {
    /// # Errors
    /// If the source's architecture is not in the table.
    pub fn of(source: &Source<'_>) -> Result<&'static Self> {
        let name = source.arch()?;
        let found = ALL.iter().find(|a| a.names.contains(&name.as_str()));
        found.copied().ok_or_else(|| Error::UnknownArchitecture {
            name: source.name(),
            arch: name,
            known: architectures().collect::<Vec<_>>().join(", "),
        })
    }
}

/// Of an architecture whose tensors every file has as the graph wants them.
pub(crate) fn as_they_are(_: InFile<'_>, _: &Dims) -> Transform {
    Transform::None
}
