//! The table of what is known. A family is its own file and a row here.

use std::sync::Arc;

use serde_json::Value as Json;
use siskin_formats::Value;
use siskin_graph::{Graph, NodeId};

use crate::blocks::Biases;
use crate::config::Source;
use crate::dims::Defaults;
use crate::{Dims, Error, Result, Transform, blocks};

/// All architectures, as messages and tables list them.
static ALL: &[Row] = &[
    (
        &crate::llama::LLAMA,
        "Llama 1 to 3 (SmolLM2, TinyLlama, Falcon 3)",
        &[Kind::Dense],
    ),
    (&crate::llama::MISTRAL, "Mistral", &[Kind::Dense]),
    (&crate::qwen::QWEN2, "Qwen2 and 2.5", &[Kind::Dense]),
    (
        &crate::qwen::QWEN3,
        "Qwen3 and Qwen3-Embedding",
        &[Kind::Dense],
    ),
    (&crate::gemma3::GEMMA3, "Gemma 3", &[Kind::Dense]),
    (&crate::apertus::APERTUS, "Apertus", &[Kind::Dense]),
    (&crate::arcee::ARCEE, "Arcee", &[Kind::Dense]),
    (
        &crate::bitnet::BITNET,
        "BitNet b1.58 (unpacked)",
        &[Kind::Dense],
    ),
    (&crate::cohere::COHERE, "Command R", &[Kind::Dense]),
    (&crate::cohere::COHERE2, "Command R7B", &[Kind::Dense]),
    (
        &crate::deepseek::DEEPSEEK_V2,
        "DeepSeek V2-Lite",
        &[Kind::Experts],
    ),
    (&crate::ernie::ERNIE4_5, "ERNIE 4.5", &[Kind::Dense]),
    (
        &crate::ernie::ERNIE4_5_MOE,
        "ERNIE 4.5 with experts",
        &[Kind::Experts],
    ),
    (&crate::exaone4::EXAONE4, "EXAONE 4", &[Kind::Dense]),
    (&crate::falcon::FALCON, "Falcon 1 and 2", &[Kind::Dense]),
    (
        &crate::falcon_h1::FALCON_H1,
        "Falcon-H1",
        &[Kind::Recurrent],
    ),
    (&crate::gemma::GEMMA, "Gemma 1", &[Kind::Dense]),
    (&crate::gemma2::GEMMA2, "Gemma 2", &[Kind::Dense]),
    (&crate::gemma3n::GEMMA3N, "Gemma 3n (text)", &[Kind::Dense]),
    (
        &crate::gemma4::GEMMA4,
        "Gemma 4 (text)",
        &[Kind::Dense, Kind::Experts],
    ),
    (&crate::glm::GLM, "GLM 4 (9B)", &[Kind::Dense]),
    (&crate::glm::GLM4, "GLM 4 (0414)", &[Kind::Dense]),
    (&crate::gpt2::GPT2, "GPT-2", &[Kind::Dense]),
    (
        &crate::gpt_neox::GPT_NEOX,
        "Pythia (GPT-NeoX)",
        &[Kind::Dense],
    ),
    (&crate::gpt_oss::GPT_OSS, "gpt-oss", &[Kind::Experts]),
    (&crate::granite::GRANITE, "Granite 3", &[Kind::Dense]),
    (
        &crate::granite_hybrid::GRANITE_HYBRID,
        "Granite 4",
        &[Kind::Recurrent, Kind::Experts],
    ),
    (
        &crate::granite::GRANITE_MOE,
        "Granite 3 with experts",
        &[Kind::Experts],
    ),
    (&crate::ernie::HELIUM, "Helium", &[Kind::Dense]),
    (&crate::hunyuan::HUNYUAN, "Hunyuan (dense)", &[Kind::Dense]),
    (&crate::minicpm::INTERNLM3, "InternLM 3", &[Kind::Dense]),
    (&crate::minicpm::MINICPM, "MiniCPM 1 and 2", &[Kind::Dense]),
    (&crate::minicpm::MINISTRAL3, "Ministral 3", &[Kind::Dense]),
    (&crate::mixtral::MIXTRAL, "Mixtral", &[Kind::Experts]),
    (&crate::lfm2::LFM2, "LFM2 and LFM2.5", &[Kind::Recurrent]),
    (
        &crate::lfm2::LFM2_MOE,
        "LFM2 with experts",
        &[Kind::Recurrent, Kind::Experts],
    ),
    (
        &crate::mamba::FALCON_MAMBA,
        "Falcon-Mamba",
        &[Kind::Recurrent],
    ),
    (&crate::mamba::MAMBA, "Mamba", &[Kind::Recurrent]),
    (&crate::mamba::MAMBA2, "Mamba 2", &[Kind::Recurrent]),
    (&crate::arcee::NEMOTRON, "Nemotron", &[Kind::Dense]),
    (
        &crate::nemotron_h::NEMOTRON_H,
        "Nemotron-H and Nemotron 3 Nano",
        &[Kind::Recurrent, Kind::Experts],
    ),
    (&crate::olmo::OLMO, "OLMo 1", &[Kind::Dense]),
    (&crate::olmo::OLMO2, "OLMo 2", &[Kind::Dense]),
    (&crate::olmo::OLMO3, "OLMo 3", &[Kind::Dense]),
    (&crate::olmo::OLMOE, "OLMoE", &[Kind::Experts]),
    (&crate::phi::PHI, "Phi 1 to 2", &[Kind::Dense]),
    (&crate::phi::PHI3, "Phi 3 to 4", &[Kind::Dense]),
    (
        &crate::phimoe::PHIMOE,
        "Phi 3.5 with experts",
        &[Kind::Experts],
    ),
    (
        &crate::qwen_moe::QWEN2_MOE,
        "Qwen1.5 and Qwen2 with experts",
        &[Kind::Experts],
    ),
    (
        &crate::qwen_moe::QWEN3_MOE,
        "Qwen3 with experts",
        &[Kind::Experts],
    ),
    (&crate::qwen35::QWEN3_5, "Qwen3.5", &[Kind::Recurrent]),
    (
        &crate::qwen35::QWEN3_5_MOE,
        "Qwen3.5 with experts",
        &[Kind::Recurrent, Kind::Experts],
    ),
    (
        &crate::qwen35::QWEN3_NEXT,
        "Qwen3-Next",
        &[Kind::Recurrent, Kind::Experts],
    ),
    (&crate::seed_oss::SEED_OSS, "Seed-OSS", &[Kind::Dense]),
    (&crate::smollm3::SMOLLM3, "SmolLM3", &[Kind::Dense]),
    (&crate::stablelm::STABLELM, "StableLM 2", &[Kind::Dense]),
    (
        &crate::starcoder2::STARCODER2,
        "StarCoder 2",
        &[Kind::Dense],
    ),
    (
        &crate::gemma3::GEMMA_EMBEDDING,
        "EmbeddingGemma",
        &[Kind::Encoder],
    ),
    (
        &crate::bert::BERT,
        "BERT (MiniLM, BGE, E5)",
        &[Kind::Encoder],
    ),
    (&crate::bert::ROBERTA, "RoBERTa", &[Kind::Encoder]),
    (
        &crate::bert::XLM_ROBERTA,
        "XLM-R (bge-m3, multilingual E5)",
        &[Kind::Encoder],
    ),
    (
        &crate::modernbert::MODERNBERT,
        "ModernBERT",
        &[Kind::Encoder],
    ),
    (
        &crate::nomic::NOMIC_BERT,
        "nomic-embed-text 1 and 1.5",
        &[Kind::Encoder],
    ),
];

/// An architecture, what people call its models, and what they consist of.
type Row = (&'static Architecture, &'static str, &'static [Kind]);

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
pub(crate) trait Family: Send + Sync {
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
    ALL.iter().map(|row| row.0.names[0])
}

/// What the layers of a family consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Attention and an MLP.
    Dense,
    /// Experts, of which a token passes some.
    Experts,
    /// Recurrent states in place of attention, in some layers or in all.
    Recurrent,
    /// Attention both ways: it makes embeddings or scores.
    Encoder,
}

/// The families of a kind: their names in `config.json`, what people call their models, and whether they are read from
/// GGUF files, too.
pub fn families(kind: Kind) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let rows = ALL.iter().filter(move |row| row.2.contains(&kind));
    rows.map(|(arch, label, _)| (arch.names[0], *label, arch.gguf.is_some()))
}

impl Architecture {
    /// # Errors
    /// If the source's architecture is not in the table.
    pub fn of(source: &Source<'_>) -> Result<&'static Self> {
        let name = source.arch()?;
        let found = ALL.iter().find(|row| row.0.names.contains(&name.as_str()));
        found
            .map(|row| row.0)
            .ok_or_else(|| Error::UnknownArchitecture {
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
