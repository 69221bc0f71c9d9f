use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use indicatif::HumanBytes;
use serde_json::{Value as Json, json};
use siskin_engine::{CacheTypes, MemoryFigure, read_text};
use siskin_formats::{Checkpoint, TensorType};
use siskin_models::{ExpertCounts, Model, Pooling};
use siskin_text::TextModel;

use crate::args::InspectArgs;
use crate::open::resolve;
use crate::terminal::printable;

pub fn inspect(args: &InspectArgs) -> Result<()> {
    let inspected = Inspected::open(args)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", inspected.json())?;
        return Ok(());
    }
    inspected.print_model(&mut out)?;
    inspected.print_types(&mut out)?;
    if args.tensors {
        inspected.print_tensors(&mut out)?;
    }
    inspected.print_memory(&mut out)?;
    Ok(())
}

/// What sentence-transformers calls it.
fn pooling(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::Mean => "mean",
        Pooling::First => "cls",
        Pooling::Last => "last",
    }
}

/// The tensors of one type.
#[derive(Default)]
struct OfType {
    tensors: usize,
    bytes: u64,
    parameters: usize,
}

struct Inspected {
    checkpoint: Checkpoint,
    model: Model,
    text: TextModel,
    by_type: BTreeMap<TensorType, OfType>,
    /// Tensors that are larger in memory than in their file: how many, by what they are there.
    widened: BTreeMap<&'static str, usize>,
    experts: Option<ExpertCounts>,
    context: usize,
    cache: CacheTypes,
    on_cpu: MemoryFigure,
    on_gpu: MemoryFigure,
}

impl Inspected {
    fn open(args: &InspectArgs) -> Result<Self> {
        let checkpoint = Checkpoint::open(&resolve(&args.model)?)?;
        let model = Model::open(&checkpoint)?;
        let text = read_text(&checkpoint)?;
        let max = model.dims().context_length;
        let context = args.ctx.unwrap_or(max.min(4096));
        if context == 0 || context > max {
            let wanted = context;
            return Err(siskin_engine::Error::Context { wanted, max }.into());
        }
        let cache = args.cache.types();
        let memory = |on_gpu| MemoryFigure::of(&model, &checkpoint, context, cache, on_gpu);
        let (on_cpu, on_gpu) = (memory(false)?, memory(true)?);
        let mut by_type = BTreeMap::<_, OfType>::new();
        let mut widened = BTreeMap::<_, usize>::new();
        for t in &checkpoint.tensors {
            if let Some(from) = t.widened_from() {
                *widened.entry(from).or_default() += 1;
            }
            let entry = by_type.entry(t.ty).or_default();
            entry.tensors += 1;
            entry.bytes += t.bytes;
            entry.parameters += t.shape.iter().product::<usize>();
        }
        Ok(Self {
            experts: model.experts()?,
            checkpoint,
            model,
            text,
            by_type,
            widened,
            context,
            cache,
            on_cpu,
            on_gpu,
        })
    }

    fn parameters(&self) -> usize {
        self.by_type.values().map(|t| t.parameters).sum()
    }

    fn json(&self) -> Json {
        let (dims, text) = (self.model.dims(), &self.text);
        let types: Vec<_> = self
            .by_type
            .iter()
            .map(|(ty, of)| {
                json!({
                    "type": ty.name(), "tensors": of.tensors, "bytes": of.bytes, "parameters": of.parameters,
                    "on_gpu": siskin_gpu::stored_as(*ty),
                })
            })
            .collect();
        let tensors: Vec<_> = self
            .checkpoint
            .tensors
            .iter()
            .map(|t| json!({"name": t.name, "shape": t.shape, "type": t.ty.name(), "bytes": t.bytes}))
            .collect();
        json!({
            "architecture": self.model.arch(),
            "parameters": self.parameters(),
            "n_layers": dims.n_layers,
            "hidden_size": dims.hidden_size,
            "intermediate_size": dims.intermediate_size,
            "n_heads": dims.n_heads,
            "n_kv_heads": dims.n_kv_heads,
            "head_dim": dims.head_dim,
            "vocab_size": dims.vocab_size,
            "rope_theta": dims.rope_theta,
            "rms_norm_eps": dims.rms_norm_eps,
            "context_length": dims.context_length,
            "experts": self.experts.map(|e| json!({
                "count": e.count, "used": e.used, "active_parameters": e.active_parameters,
            })),
            "tokenizer": {
                "kind": text.kind(),
                "vocab_size": text.vocab_size(),
                "end_tokens": text.end_tokens().collect::<Vec<_>>(),
            },
            "chat_template": text.template(),
            "embeddings": self.embeddings_json(),
            "types": types,
            "widened": self.widened,
            "tensors": tensors,
            "memory": { "context": self.context, "figure": self.on_cpu, "on_gpu": self.on_gpu },
        })
    }

    /// What the model makes of a text as a whole; null of a model for text alone.
    fn embeddings_json(&self) -> Json {
        let model = &self.model;
        if !model.is_encoder() && model.sentence().is_none() {
            return Json::Null;
        }
        let sentence = model.sentence();
        json!({
            "bidirectional": model.is_encoder(),
            "classes": model.labels(),
            "pooling": sentence.map(|s| pooling(s.pooling)),
            "normalize": sentence.map(|s| s.normalize),
            "max_tokens": sentence.and_then(|s| s.max_tokens),
            "prompts": sentence.map(|s| &s.prompts),
        })
    }

    fn print_embeddings(&self, out: &mut impl Write) -> Result<()> {
        let model = &self.model;
        let sees = match model.is_encoder() {
            true => "tokens see the whole text",
            false => "tokens see those before them",
        };
        let made = match (model.labels(), model.sentence()) {
            (Some(n), _) => format!("scores of {n} classes"),
            (None, Some(s)) => {
                let length = if s.normalize { ", of length 1" } else { "" };
                format!("embeddings by {} pooling{length}", pooling(s.pooling))
            }
            (None, None) if model.is_encoder() => "hidden states, pooling not said".into(),
            (None, None) => return Ok(()),
        };
        writeln!(out, "makes          {made}; {sees}")?;
        Ok(())
    }

    fn print_model(&self, out: &mut impl Write) -> Result<()> {
        let (dims, text) = (self.model.dims(), &self.text);
        writeln!(
            out,
            "architecture   {}, {:.1} M parameters",
            printable(self.model.arch()),
            self.parameters() as f64 / 1e6
        )?;
        writeln!(
            out,
            "shape          {} layers, hidden {}, MLP {}, {} heads ({} for k and v) of {}",
            dims.n_layers,
            dims.hidden_size,
            dims.intermediate_size,
            dims.n_heads,
            dims.n_kv_heads,
            dims.head_dim
        )?;
        if let Some(experts) = self.experts {
            writeln!(
                out,
                "experts        {} of {} for each token, {:.1} M parameters active",
                experts.used,
                experts.count,
                experts.active_parameters as f64 / 1e6
            )?;
        }
        writeln!(
            out,
            "context        {} tokens, {}",
            dims.context_length,
            match dims.rope_theta {
                0.0 => "learned positions".into(),
                theta => format!("rope theta {theta}"),
            }
        )?;
        self.print_embeddings(out)?;
        let ends: Vec<_> = text
            .end_tokens()
            .map(|id| printable(&text.piece(id)))
            .collect();
        writeln!(
            out,
            "tokenizer      {}, {} tokens, ends at {}",
            printable(text.kind()),
            text.vocab_size(),
            ends.join(" ")
        )?;
        let template = text
            .template()
            .map_or("none".into(), |t| format!("{} characters", t.len()));
        writeln!(out, "chat template  {template}")?;
        Ok(())
    }

    fn print_types(&self, out: &mut impl Write) -> Result<()> {
        writeln!(
            out,
            "\ntype    tensors  parameters        bytes  on the GPU"
        )?;
        for (ty, of) in &self.by_type {
            let stored = siskin_gpu::stored_as(*ty);
            writeln!(
                out,
                "{:<7} {:>7} {:>11} {:>12}  {stored}",
                ty.name(),
                of.tensors,
                of.parameters,
                of.bytes
            )?;
        }
        for (from, n) in &self.widened {
            writeln!(out, "{n} of F16 are in the files as {from}")?;
        }
        Ok(())
    }

    fn print_tensors(&self, out: &mut impl Write) -> Result<()> {
        writeln!(out)?;
        for t in &self.checkpoint.tensors {
            let name = printable(&t.name);
            writeln!(out, "{name:<50} {:<7} {:?}", t.ty.name(), t.shape)?;
        }
        Ok(())
    }

    fn print_memory(&self, out: &mut impl Write) -> Result<()> {
        let (on_cpu, on_gpu) = (&self.on_cpu, &self.on_gpu);
        writeln!(
            out,
            "\nmemory for a context of {} tokens (cache of {})",
            self.context, self.cache
        )?;
        for (what, bytes, on_gpu) in [
            ("weights", on_cpu.weights, on_gpu.weights),
            ("KV cache", on_cpu.kv_cache, on_gpu.kv_cache),
            ("activations", on_cpu.activations, on_gpu.activations),
            ("total", on_cpu.total, on_gpu.total),
        ] {
            let bytes = HumanBytes(bytes).to_string();
            writeln!(
                out,
                "  {what:<12} {bytes:<12} on a GPU {}",
                HumanBytes(on_gpu)
            )?;
        }
        Ok(())
    }
}
