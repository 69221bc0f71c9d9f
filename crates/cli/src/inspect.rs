use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use indicatif::HumanBytes;
use serde_json::json;
use siskin_engine::{MemoryFigure, read_text};
use siskin_formats::Checkpoint;
use siskin_models::Model;

use crate::args::InspectArgs;
use crate::open::resolve;
use crate::terminal::printable;

pub fn inspect(args: &InspectArgs) -> Result<()> {
    let path = resolve(&args.model)?;
    let checkpoint = Checkpoint::open(&path)?;
    let model = Model::open(&checkpoint)?;
    let text = read_text(&checkpoint)?;
    let dims = model.dims();
    let context = args.ctx.unwrap_or(dims.context_length.min(4096));
    if context == 0 || context > dims.context_length {
        return Err(siskin_engine::Error::Context {
            wanted: context,
            max: dims.context_length,
        }
        .into());
    }
    let figure = |on_gpu| MemoryFigure::of(&model, &checkpoint, context, 2, on_gpu);
    let (memory, on_gpu) = (figure(false)?, figure(true)?);
    let mut by_type = BTreeMap::<_, (usize, u64, usize)>::new();
    for t in &checkpoint.tensors {
        let entry = by_type.entry(t.ty).or_default();
        entry.0 += 1;
        entry.1 += t.bytes;
        entry.2 += t.shape.iter().product::<usize>();
    }
    let parameters: usize = by_type.values().map(|t| t.2).sum();
    let mut out = std::io::stdout().lock();
    if args.json {
        let types: Vec<_> = by_type
            .iter()
            .map(|(ty, (n, bytes, params))| {
                json!({
                    "type": ty.name(), "tensors": n, "bytes": bytes, "parameters": params,
                    "on_gpu": siskin_gpu::stored_as(*ty),
                })
            })
            .collect();
        let tensors: Vec<_> = checkpoint
            .tensors
            .iter()
            .map(|t| json!({"name": t.name, "shape": t.shape, "type": t.ty.name(), "bytes": t.bytes}))
            .collect();
        let json = json!({
            "architecture": model.arch(),
            "parameters": parameters,
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
            "tokenizer": {
                "kind": text.kind(),
                "vocab_size": text.vocab_size(),
                "end_tokens": text.end_tokens().collect::<Vec<_>>(),
            },
            "chat_template": text.template(),
            "types": types,
            "tensors": tensors,
            "memory": { "context": context, "figure": memory, "on_gpu": on_gpu },
        });
        writeln!(out, "{json}")?;
        return Ok(());
    }
    writeln!(
        out,
        "architecture   {}, {:.1} M parameters",
        printable(model.arch()),
        parameters as f64 / 1e6
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
    writeln!(
        out,
        "context        {} tokens, rope theta {}",
        dims.context_length, dims.rope_theta
    )?;
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
    writeln!(
        out,
        "\ntype    tensors  parameters        bytes  on the GPU"
    )?;
    for (ty, (n, bytes, params)) in &by_type {
        let stored = siskin_gpu::stored_as(*ty);
        writeln!(
            out,
            "{:<7} {n:>7} {params:>11} {bytes:>12}  {stored}",
            ty.name()
        )?;
    }
    if args.tensors {
        writeln!(out)?;
        for t in &checkpoint.tensors {
            let name = printable(&t.name);
            writeln!(out, "{name:<50} {:<7} {:?}", t.ty.name(), t.shape)?;
        }
    }
    writeln!(
        out,
        "\nmemory for a context of {context} tokens (f16 cache)"
    )?;
    for (what, bytes, on_gpu) in [
        ("weights", memory.weights, on_gpu.weights),
        ("KV cache", memory.kv_cache, on_gpu.kv_cache),
        ("activations", memory.activations, on_gpu.activations),
        ("total", memory.total, on_gpu.total),
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
