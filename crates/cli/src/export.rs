//! `siskin merge`, `quantize` and `convert`: write a model, optionally with an adapter merged in, to new files.

use std::path::Path;

use anyhow::{Context, Result};
use siskin_engine::ModelFiles;
use siskin_formats::TensorType;
use siskin_models::Head;

use crate::args::{ConvertArgs, MergeArgs, QuantizeArgs};
use crate::export_plan::{ExportPlan, Target, parse_type};
use crate::{export_folder, export_gguf, open, output};

pub fn merge(args: &MergeArgs) -> Result<()> {
    export(&Export {
        model: &args.model,
        adapter: Some(&args.adapter),
        out: &args.out,
        force: args.force,
        ty: args.ty.as_deref(),
    })
}

pub fn quantize(args: &QuantizeArgs) -> Result<()> {
    export(&Export {
        model: &args.model,
        adapter: None,
        out: &args.out,
        force: args.force,
        ty: Some(&args.ty),
    })
}

pub fn convert(args: &ConvertArgs) -> Result<()> {
    if let Some(base) = &args.base {
        return convert_adapter(&args.model, base, &args.out, args.force);
    }
    export(&Export {
        model: &args.model,
        adapter: None,
        out: &args.out,
        force: args.force,
        ty: args.ty.as_deref(),
    })
}

/// Converts an adapter from a PEFT folder to a GGUF file, or back.
fn convert_adapter(adapter: &Path, base: &Path, out: &Path, force: bool) -> Result<()> {
    output::check(out, force)?;
    output::apart(out, adapter)?;
    let files = ModelFiles::open(&open::resolve(base)?)?;
    let given = adapter.display().to_string();
    let adapter = open::read_adapter(&given, &files.model, &files.weights.checkpoint)?;
    let adapter = pollster::block_on(adapter.for_base(&files.model, &files.weights))?;
    adapter.spec(&files.model.graph(Head::Next)?)?;
    match Target::of(out) {
        Target::Gguf => {
            let bytes = adapter.to_gguf(&files.model)?;
            output::whole(out, |part| Ok(std::fs::write(part, bytes)?))?;
        }
        Target::Folder => {
            std::fs::create_dir_all(out)
                .with_context(|| format!("cannot create {}", out.display()))?;
            for (name, bytes) in adapter.to_peft()? {
                output::whole(&out.join(name), |part| Ok(std::fs::write(part, bytes)?))?;
            }
        }
    }
    println!("{}", out.display());
    Ok(())
}

/// A model to be written, as requested on the command line.
struct Export<'a> {
    model: &'a Path,
    adapter: Option<&'a str>,
    out: &'a Path,
    force: bool,
    ty: Option<&'a str>,
}

fn export(request: &Export<'_>) -> Result<()> {
    let out = request.out;
    output::check(out, request.force)?;
    let ty = request.ty.map(parse_type).transpose()?;
    let path = open::resolve(request.model)?;
    output::apart(out, &path)?;
    if let Some(adapter) = request.adapter {
        output::apart(out, Path::new(adapter))?;
    }
    let files = ModelFiles::open(&path)?;
    let adapter = match request.adapter {
        Some(given) => {
            let adapter = open::read_adapter(given, &files.model, &files.weights.checkpoint)?;
            Some(pollster::block_on(
                adapter.for_base(&files.model, &files.weights),
            )?)
        }
        None => None,
    };
    let plan = ExportPlan::new(&files, adapter.as_ref(), Target::of(out), ty)?;
    if adapter.is_some() && ty.is_some_and(|t| t.is_quantised() && t != TensorType::Q8_0) {
        eprintln!("note: four bits lose much of what an adapter adds; q8_0 keeps it");
    }
    let written = match plan.target {
        Target::Gguf => export_gguf::write(&plan, &path, out),
        Target::Folder => export_folder::write(&plan, out),
    };
    plan.finish();
    written?;
    println!("{}", out.display());
    Ok(())
}
