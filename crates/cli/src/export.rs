//! `siskin merge`, `quantize` and `convert`: write a model, optionally with an adapter merged in, to new files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use siskin_engine::ModelFiles;
use siskin_models::Head;

use crate::args::{ConvertArgs, MergeArgs, QuantizeArgs};
use crate::export_plan::{ExportPlan, Target};
use crate::file_type::FileType;
use crate::importance::Importance;
use crate::{export_folder, export_gguf, open, output, requantise, serving_folder, stop};

pub fn merge(args: &MergeArgs) -> Result<()> {
    serving_folder::check(args.to, &args.out)?;
    export(&Export {
        model: &args.model,
        adapter: Some(&args.adapter),
        out: &args.out,
        force: args.force,
        ty: args.ty.as_deref(),
        importance: None,
    })?;
    if let Some(to) = args.to {
        println!("{}", serving_folder::write(to, &args.out.canonicalize()?)?);
    }
    Ok(())
}

pub fn quantize(args: &QuantizeArgs) -> Result<()> {
    export(&Export {
        model: &args.model,
        adapter: None,
        out: &args.out,
        force: args.force,
        ty: Some(&args.ty),
        importance: args.imatrix.as_deref(),
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
        importance: None,
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
    importance: Option<&'a Path>,
}

fn export(request: &Export<'_>) -> Result<()> {
    let out = request.out;
    output::check(out, request.force)?;
    let file = request.ty.map(FileType::parse).transpose()?;
    let path = open::resolve(request.model)?;
    output::apart(out, &path)?;
    let target = Target::of(out);
    let importance = request.importance.map(Importance::open).transpose()?;
    if importance.is_some() && !file.is_some_and(|f| f.ty.is_quantised() && target == Target::Gguf)
    {
        bail!(
            "--imatrix is for quantised types of GGUF files; use --type q4_k_m and an --out that ends in .gguf"
        );
    }
    let importance = importance.as_ref();
    stop::install()?;
    match request.adapter {
        // NF4 is refused by name on the other way.
        None if target == Target::Gguf
            && !path.is_dir()
            && file.is_none_or(|f| f.number.is_some()) =>
        {
            requantise::write(&path, out, file.as_ref(), importance)?;
        }
        adapter => through_model(&path, adapter, out, file, importance)?,
    }
    println!("{}", out.display());
    Ok(())
}

/// Writes what the model's graph uses: into another kind of file, or with an adapter merged in.
fn through_model(
    path: &Path,
    adapter: Option<&str>,
    out: &Path,
    file: Option<FileType>,
    importance: Option<&Importance>,
) -> Result<()> {
    if let Some(adapter) = adapter {
        output::apart(out, Path::new(adapter))?;
    }
    let files = ModelFiles::open(path)?;
    let adapter = match adapter {
        Some(given) => {
            let adapter = open::read_adapter(given, &files.model, &files.weights.checkpoint)?;
            Some(pollster::block_on(
                adapter.for_base(&files.model, &files.weights),
            )?)
        }
        None => None,
    };
    let plan = ExportPlan::new(&files, adapter.as_ref(), Target::of(out), file, importance)?;
    if adapter.is_some() && file.is_some_and(|f| f.ty.block_bytes() * 8 < 6 * f.ty.block_len()) {
        eprintln!("note: fewer than 6 bits lose much of what an adapter adds; q8_0 keeps it");
    }
    let written = match plan.target {
        Target::Gguf => export_gguf::write(&plan, path, out),
        Target::Folder => export_folder::write(&plan, out),
    };
    plan.finish();
    written
}
