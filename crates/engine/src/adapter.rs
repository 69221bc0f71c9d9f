//! LoRA adapters in memory, and their application to a model.

use siskin_formats::{Checkpoint, sort_by};
use siskin_graph::{Graph, LoraSpec, NodeId, Op};
use siskin_models::Model;

use crate::{AdapterConfig, Error, Result};

/// The adapter of one projection: A `[r, k]`, B `[n, r]`, and with DoRA its magnitudes `[n]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterModule {
    /// The projection: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// A, row by row.
    pub a: Vec<f32>,
    /// B, row by row.
    pub b: Vec<f32>,
    /// The magnitudes; empty without DoRA.
    pub m: Vec<f32>,
}

/// A LoRA or DoRA adapter in memory.
///
/// ```
/// use std::path::Path;
///
/// use siskin_engine::{Adapter, OpenOptions, Session};
///
/// # let path = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny/llama");
/// # let folder = &path.join("lora/adapter");
/// # pollster::block_on(async {
/// let mut session = Session::open(path, &OpenOptions::default(), &mut |_| ()).await?;
/// let adapter = Adapter::open(folder)?;
/// assert!(adapter.modules[0].name.starts_with("model.layers."));
/// session.set_adapter(Some(adapter)).await?;
/// # Ok::<(), siskin_engine::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// For messages: the file or folder.
    pub name: String,
    /// Rank, scaling and the other fields of `adapter_config.json`.
    pub config: AdapterConfig,
    /// Multiplies the adapter's own scaling: 1 applies it as it was trained. As in PEFT, it multiplies the low-rank
    /// product alone: magnitudes do not change.
    pub strength: f32,
    /// The projections that it adapts.
    pub modules: Vec<AdapterModule>,
    /// What it adds to the embedding, until [`Self::for_base`] has read the base's.
    pub(crate) embedding: Option<EmbeddingLora>,
    /// Matrices that replace the base's.
    pub(crate) replaced: Vec<Replaced>,
    /// Whether the base is the language model within a model for images, whose modules have longer names.
    pub within_vision: bool,
}

/// A low-rank product that is added to the embedding's rows: A `[r, vocab]`, B `[hidden, r]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EmbeddingLora {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
}

/// A matrix `[rows, cols]` that replaces one of the base.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Replaced {
    /// `lm_head.weight`.
    pub tensor: String,
    pub rows: usize,
    pub values: Vec<f32>,
}

impl Adapter {
    /// Whether it contains more than low-rank products beside linears.
    pub fn replaces_weights(&self) -> bool {
        self.embedding.is_some() || !self.replaced.is_empty()
    }

    pub(crate) fn replaced(&self, tensor: &str) -> Option<&Replaced> {
        self.replaced.iter().find(|r| r.tensor == tensor)
    }

    /// The model with this adapter: if embedding and head differ, it has a head of its own.
    pub(crate) fn model(&self, base: &Model) -> Model {
        match self.replaced(HEAD_WEIGHT) {
            Some(_) => base.with_own_head(),
            None => base.clone(),
        }
    }

    fn misfit(&self, what: String) -> Error {
        Error::Adapter {
            name: self.name.clone(),
            what,
        }
    }

    /// The model that the adapter was trained for, if that seems to be another one than the checkpoint's, whose shapes
    /// may match all the same. Names are compared by their letters and digits, and one may contain the other, as
    /// `smollm2-135m-instruct-q4_1.gguf` does.
    pub fn other_base(&self, checkpoint: &Checkpoint) -> Option<&str> {
        let base = self.config.base_model_name_or_path.as_deref()?;
        let plain = |name: &str| -> String {
            let last = name.trim_end_matches('/').rsplit(['/', '\\']).next();
            let last = last.unwrap_or_default().trim_end_matches(".gguf");
            let letters = last.chars().filter(|c| c.is_ascii_alphanumeric());
            letters.map(|c| c.to_ascii_lowercase()).collect()
        };
        let theirs = plain(base);
        let known = checkpoint.gguf.as_ref().and_then(|g| g.str("general.name"));
        let is_same = |name: &str| {
            let ours = plain(name);
            ours.is_empty() || ours.contains(&theirs) || theirs.contains(&ours)
        };
        let same = is_same(&checkpoint.name) || known.is_some_and(is_same);
        (!same && !theirs.is_empty()).then_some(base)
    }

    /// How a graph is rewritten to have this adapter ([`Graph::with_lora`]).
    ///
    /// # Errors
    /// If the graph has no linear of a module's name, or one of another shape.
    pub fn spec(&self, graph: &Graph) -> Result<LoraSpec> {
        let projections = projections(graph);
        let r = self.config.r;
        for m in &self.modules {
            let Some((_, [n, k])) = projections.iter().find(|p| p.0 == m.name) else {
                return Err(self.misfit(format!("the model has no linear `{}`", m.name)));
            };
            let found = [m.b.len() / r, m.a.len() / r];
            if found != [*n, *k] {
                return Err(self.misfit(format!(
                    "it adapts `{}` as {found:?}, but the model's is {:?}",
                    m.name,
                    [n, k]
                )));
            }
        }
        Ok(LoraSpec {
            rank: r,
            scale: self.config.scaling() * self.strength,
            dropout: 0.0,
            use_dora: self.config.use_dora,
            adapter: None,
            modules: self
                .modules
                .iter()
                .map(|m| in_graph(graph, &m.name))
                .collect(),
        })
    }

    /// Merges a module into a projection's weights `[n, k]`: `W + scale · B A`, and with DoRA each row scaled to its
    /// magnitude.
    pub fn merge_into(&self, module: &AdapterModule, weights: &mut [f32]) {
        let r = self.config.r;
        let scale = self.config.scaling() * self.strength;
        let k = module.a.len() / r;
        let rows = weights.chunks_exact_mut(k).zip(module.b.chunks_exact(r));
        for (i, (row, b)) in rows.enumerate() {
            for (b, a) in b.iter().zip(module.a.chunks_exact(k)) {
                row.iter_mut().zip(a).for_each(|(w, a)| *w += scale * b * a);
            }
            let norm = row.iter().map(|w| w * w).sum::<f32>().sqrt();
            if let Some(m) = module.m.get(i).filter(|_| norm > 0.0) {
                row.iter_mut().for_each(|w| *w *= m / norm);
            }
        }
    }

    /// Writes its values to the parameters of a graph that was rewritten for [`Self::spec`] with this `adapter`.
    pub(crate) fn write_params(
        &self,
        graph: &Graph,
        adapter: Option<u32>,
        params: &mut [f32],
    ) -> Result<()> {
        for place in places(graph, adapter) {
            let found = self.modules.iter().find(|m| m.name == place.module);
            let m = found.ok_or_else(|| self.misfit(format!("`{}` is missing", place.module)))?;
            for (at, values) in place.starts.into_iter().zip([&m.a, &m.b, &m.m]) {
                params[at..at + values.len()].copy_from_slice(values);
            }
        }
        Ok(())
    }

    /// The adapter with new values, from a graph's parameters.
    #[cfg(feature = "training")]
    pub(crate) fn with_params(&self, graph: &Graph, params: &[f32]) -> Self {
        let mut out = self.clone();
        for place in places(graph, None) {
            for m in out.modules.iter_mut().filter(|m| m.name == place.module) {
                for (at, values) in place.starts.into_iter().zip([&mut m.a, &mut m.b, &mut m.m]) {
                    let n = values.len();
                    values.copy_from_slice(&params[at..at + n]);
                }
            }
        }
        out
    }

    /// The adapter with magnitudes that change nothing. `factors` are those of magnitudes of 1: the inverse of the
    /// norms of the rows.
    #[cfg(feature = "training")]
    pub(crate) fn with_neutral_magnitudes(&self, graph: &Graph, factors: &[f32]) -> Self {
        let mut out = self.clone();
        for lora in &graph.loras {
            let Some(dora) = &lora.dora else { continue };
            for span in &lora.spans {
                let factors = &factors[dora.factors + span.start..][..span.len];
                for m in out
                    .modules
                    .iter_mut()
                    .filter(|m| m.name == outside(&span.module))
                {
                    m.m = factors.iter().map(|f| 1.0 / f).collect();
                }
            }
        }
        out
    }

    /// A new adapter for the projections of a graph whose last name is one of `targets`, or for all of them
    /// (`all-linear`), initialised as in PEFT: A uniform within ±1/√k, B zero. Magnitudes are 1 until
    /// [`crate::Session::begin_dora`] sets them to the norms of the weights.
    ///
    /// # Errors
    /// If a target is not a projection of the graph.
    pub fn new(
        name: &str,
        graph: &Graph,
        targets: &[String],
        config: AdapterConfig,
        seed: u64,
    ) -> Result<Self> {
        let all = targets.iter().any(|t| t == "all-linear");
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
        let projections: Vec<_> = projections(graph)
            .into_iter()
            .filter(|p| siskin_models::is_in_layer(&p.0))
            .collect();
        let mut known: Vec<String> = projections.iter().map(|p| last(&p.0)).collect();
        sort_by(&mut known, &mut |a, b| a.cmp(b));
        known.dedup();
        if let Some(wrong) = targets
            .iter()
            .find(|t| *t != "all-linear" && !known.contains(t))
        {
            return Err(Error::Adapter {
                name: name.into(),
                what: format!(
                    "there is no projection `{wrong}`; it must be all-linear or some of {}",
                    known.join(", ")
                ),
            });
        }
        let r = config.r;
        let mut noise = siskin_graph::Noise::new(seed);
        let chosen = projections
            .into_iter()
            .filter(|p| all || targets.contains(&last(&p.0)));
        let mut modules: Vec<_> = chosen
            .map(|(name, [n, k])| {
                let bound = 1.0 / (k as f32).sqrt();
                let a = (0..r * k).map(|_| bound * (2.0 * noise.uniform() - 1.0));
                AdapterModule {
                    name,
                    a: a.collect(),
                    b: vec![0.0; n * r],
                    m: vec![1.0; if config.use_dora { n } else { 0 }],
                }
            })
            .collect();
        // As if they were read from a file.
        sort(&mut modules);
        Ok(Self {
            name: name.into(),
            modules,
            config,
            strength: 1.0,
            embedding: None,
            replaced: vec![],
            within_vision: false,
        })
    }
}

/// In the order in which files have them.
pub(crate) fn sort(modules: &mut [AdapterModule]) {
    sort_by(modules, &mut |a, b| a.name.cmp(&b.name));
}

/// Each linear projection of a graph with its shape `[n, k]`. Routers, and the experts that they choose, cannot be
/// adapted.
pub(crate) fn projections(graph: &Graph) -> Vec<(String, [usize; 2])> {
    let nodes = graph.nodes.iter().enumerate();
    let linears = nodes.filter_map(|(i, n)| match n.op {
        Op::Linear { weight, .. } if !graph.is_router(NodeId(i)) => Some(graph.weight(weight)),
        _ => None,
    });
    linears
        .flat_map(|w| &w.parts)
        .filter(|p| p.is_whole())
        .map(|p| {
            let module = p.tensor.trim_end_matches(".weight");
            (outside(module).into(), p.shape)
        })
        .collect()
}

/// A head that is tied to the embedding is a linear with the embedding's weight; adapters name it `lm_head`.
const EMBEDDING: &str = "model.embed_tokens";
const HEAD: &str = "lm_head";
pub(crate) const HEAD_WEIGHT: &str = "lm_head.weight";
pub(crate) const EMBEDDING_WEIGHT: &str = "model.embed_tokens.weight";

fn outside(module: &str) -> &str {
    if module == EMBEDDING { HEAD } else { module }
}

fn in_graph(graph: &Graph, module: &str) -> String {
    let mut parts = graph.weights.iter().flat_map(|w| &w.parts);
    let is_own = parts.any(|p| p.tensor == format!("{HEAD}.weight"));
    match module == HEAD && !is_own {
        true => EMBEDDING.into(),
        false => module.into(),
    }
}

/// Where a projection's A, B and magnitudes begin among a graph's parameters.
struct Place<'a> {
    module: &'a str,
    starts: [usize; 3],
}

fn places(graph: &Graph, adapter: Option<u32>) -> impl Iterator<Item = Place<'_>> {
    let loras = graph.loras.iter().filter(move |l| l.adapter == adapter);
    loras.flat_map(|lora| {
        let mut m = lora.dora.as_ref().map_or(0, |d| d.m);
        lora.parts().map(move |(span, a, b)| {
            let starts = [a, b, m];
            m += span.len;
            Place {
                module: outside(&span.module),
                starts,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use siskin_formats::SideFiles;

    #[test]
    fn another_base_is_recognised_by_its_name() {
        let mut adapter = Adapter {
            name: "adapter".into(),
            config: AdapterConfig::plain(4, 8.0),
            strength: 1.0,
            modules: vec![],
            embedding: None,
            replaced: vec![],
            within_vision: false,
        };
        let folder = |name| Checkpoint::from_safetensors(vec![], SideFiles::new(name)).unwrap();
        let here = folder("models/SmolLM2-135M-Instruct-bf16/");
        assert_eq!(adapter.other_base(&here), None);
        for (base, other) in [
            ("HuggingFaceTB/SmolLM2-135M-Instruct", false),
            ("models/smollm2-135m-instruct-bf16.gguf", false),
            ("HuggingFaceTB/SmolLM2-360M-Instruct", true),
            ("Qwen/Qwen3-0.6B", true),
            ("", false),
        ] {
            adapter.config.base_model_name_or_path = Some(base.into());
            assert_eq!(adapter.other_base(&here), other.then_some(base));
        }
    }
}
