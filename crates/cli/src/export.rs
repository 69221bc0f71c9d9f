//! `siskin merge`, `quantize` and `convert`: write a model, optionally with an adapter merged in, to new files.

use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use siskin_engine::{Adapter, ModelFiles};
use siskin_formats::{Checkpoint, GgufTensor, TensorType, Value, encode, write_gguf};
use siskin_models::{Change, Exported, Head, Model};

use crate::args::{ConvertArgs, MergeArgs, QuantizeArgs};
use crate::{export_folder, open, output};

pub fn merge(args: &MergeArgs) -> Result<()> {
    export(
        &args.model,
        Some(&args.adapter),
        &args.out,
        args.force,
        args.ty.as_deref(),
    )
}

pub fn quantize(args: &QuantizeArgs) -> Result<()> {
    export(&args.model, None, &args.out, args.force, Some(&args.ty))
}

pub fn convert(args: &ConvertArgs) -> Result<()> {
    if let Some(base) = &args.base {
        return convert_adapter(&args.model, base, &args.out, args.force);
    }
    export(&args.model, None, &args.out, args.force, args.ty.as_deref())
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
    if out.extension().is_some_and(|e| e == "gguf") {
        let bytes = adapter.to_gguf(&files.model)?;
        output::whole(out, |part| Ok(std::fs::write(part, bytes)?))?;
    } else {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        for (name, bytes) in adapter.to_peft()? {
            output::whole(&out.join(name), |part| Ok(std::fs::write(part, bytes)?))?;
        }
    }
    println!("{}", out.display());
    Ok(())
}

/// Types that can be written.
const TYPES: &str = "f32, f16, bf16, q8_0, q4_0, q4_1, nf4";

fn parse_type(name: &str) -> Result<TensorType> {
    let mut all = TensorType::ALL.into_iter();
    let ty = all.find(|t| t.name().eq_ignore_ascii_case(name) && encode(*t, &[]).is_ok());
    ty.with_context(|| format!("cannot write the type `{name}`; use one of {TYPES}"))
}

fn export(
    model: &Path,
    adapter: Option<&str>,
    out: &Path,
    force: bool,
    ty: Option<&str>,
) -> Result<()> {
    output::check(out, force)?;
    let ty = ty.map(parse_type).transpose()?;
    let path = open::resolve(model)?;
    output::apart(out, &path)?;
    if let Some(adapter) = adapter {
        output::apart(out, Path::new(adapter))?;
    }
    let files = ModelFiles::open(&path)?;
    let (model, checkpoint) = (&files.model, &files.weights.checkpoint);
    let adapter = match adapter {
        Some(given) => {
            let adapter = open::read_adapter(given, model, checkpoint)?;
            Some(pollster::block_on(adapter.for_base(model, &files.weights))?)
        }
        None => None,
    };
    let adapter = adapter.as_ref();
    if let Some(adapter) = adapter.filter(|a| a.replaces_weights()) {
        bail!(
            "{} replaces whole weights, and such adapters cannot be merged here; merge it with PEFT",
            adapter.name
        );
    }
    let to_gguf = out.extension().is_some_and(|e| e == "gguf");
    if let Some(adapter) = adapter {
        // Checks every module's shape against the model's.
        adapter.spec(&model.graph(Head::Next)?)?;
    }
    let tensors = plan(model, checkpoint, adapter, to_gguf, ty)?;
    let is_written = |m: &str| tensors.iter().any(|t| t.module() == m);
    let mut modules = adapter.iter().flat_map(|a| &a.modules);
    if let Some(lost) = modules.find(|m| !is_written(&m.name)) {
        bail!(
            "the adapter changes `{}`, which the model shares with its embedding; merge it with PEFT",
            lost.name
        );
    }
    if adapter.is_some() && ty.is_some_and(|t| t.is_quantised() && t != TensorType::Q8_0) {
        eprintln!("note: four bits lose much of what an adapter adds; q8_0 keeps it");
    }
    let bar = ProgressBar::new(tensors.len() as u64).with_style(ProgressStyle::with_template(
        "writing {bar:30} {pos}/{len} tensors",
    )?);
    let bytes = |i: usize| -> Result<Vec<u8>> {
        bar.set_position(i as u64);
        let tensor = &tensors[i];
        let merged = adapter.and_then(|a| {
            let module = a.modules.iter().find(|m| m.name == tensor.module())?;
            Some(|weights: &mut [f32]| a.merge_into(module, weights))
        });
        let change = merged.as_ref().map(|f| f as Change<'_>);
        Ok(model.export_bytes(checkpoint, tensor, to_gguf, change)?)
    };
    let written = if to_gguf {
        gguf(&path, &files, &tensors, out, &bytes)
    } else {
        export_folder::write(&files, &tensors, out, &bytes)
    };
    bar.finish_and_clear();
    written?;
    println!("{}", out.display());
    Ok(())
}

fn plan(
    model: &Model,
    checkpoint: &Checkpoint,
    adapter: Option<&Adapter>,
    to_gguf: bool,
    ty: Option<TensorType>,
) -> Result<Vec<Exported>> {
    let plain = |ty: TensorType| matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::BF16);
    if to_gguf && ty == Some(TensorType::NF4) {
        bail!("GGUF has no type NF4; use an --out that does not end in .gguf, to write a folder");
    }
    let mut tensors = model.exports(checkpoint, to_gguf, ty)?;
    for t in &mut tensors {
        if !to_gguf && !plain(t.ty) && t.ty != TensorType::NF4 {
            match ty {
                Some(ty) => bail!(
                    "a Hugging Face folder cannot hold {}; use f32, f16, bf16 or nf4, or an --out that ends in .gguf",
                    ty.name()
                ),
                // Quantised tensors are dequantised.
                None => t.ty = TensorType::F16,
            }
        }
        // GGUF does not have NF4 either.
        if to_gguf && t.ty == TensorType::NF4 {
            t.ty = TensorType::F16;
        }
        // What an adapter adds is smaller than a 4-bit quantisation step: requantising would lose most of it.
        let changes = adapter.is_some_and(|a| a.modules.iter().any(|m| m.name == t.module()));
        if changes && t.ty.is_quantised() && ty.is_none() {
            t.ty = if to_gguf {
                TensorType::Q8_0
            } else {
                TensorType::F16
            };
        }
    }
    Ok(tensors)
}

/// The bytes of the i-th tensor to be written.
pub(crate) type Bytes<'a> = &'a dyn Fn(usize) -> Result<Vec<u8>>;

/// What a GGUF file holds besides the model's matrices and vectors: its metadata, and the bytes of other tensors.
type Beside = (Vec<(String, Value)>, Vec<(GgufTensor, Vec<u8>)>);

/// A GGUF file's own metadata, and tensors that the graph does not use, such as tables of frequencies.
fn beside_gguf(path: &Path, checkpoint: &Checkpoint, tensors: &[Exported]) -> Result<Beside> {
    // Read again: the vocabulary that was read first was moved into the tokenizer.
    let source = Checkpoint::open(path)?.gguf;
    let metadata = source.into_iter().flat_map(|g| g.header.metadata);
    let metadata = metadata.filter(|m| m.0 != "general.alignment").collect();
    let mut rest = vec![];
    for t in &checkpoint.tensors {
        if !tensors.iter().any(|e| e.name == t.name) {
            let tensor = GgufTensor {
                name: t.name.clone(),
                shape: t.shape.clone(),
                ty: t.ty,
            };
            rest.push((tensor, checkpoint.read(t)?));
        }
    }
    Ok((metadata, rest))
}

/// Metadata made from a Hugging Face folder's configuration and tokenizer.
fn beside_folder(files: &ModelFiles) -> Result<Beside> {
    let checkpoint = &files.weights.checkpoint;
    let (mut metadata, factors) = files.model.to_gguf()?;
    let vocab_size = files.model.dims().vocab_size;
    metadata.extend(siskin_text::gguf_metadata(&checkpoint.side, vocab_size)?);
    let name = Path::new(&checkpoint.name).file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    metadata.push(("general.name".into(), Value::String(name)));
    metadata.push(("general.quantization_version".into(), Value::Uint(2)));
    let mut rest = vec![];
    if let Some(factors) = factors {
        let tensor = GgufTensor {
            name: "rope_freqs.weight".into(),
            shape: vec![factors.len()],
            ty: TensorType::F32,
        };
        rest.push((tensor, encode(TensorType::F32, &factors)?));
    }
    Ok((metadata, rest))
}

fn gguf(
    path: &Path,
    files: &ModelFiles,
    tensors: &[Exported],
    out: &Path,
    bytes: Bytes<'_>,
) -> Result<()> {
    let checkpoint = &files.weights.checkpoint;
    let (mut metadata, rest) = match checkpoint.gguf {
        Some(_) => beside_gguf(path, checkpoint, tensors)?,
        None => beside_folder(files)?,
    };
    // Always in the same order, the architecture first, as readers expect.
    metadata.sort_by_key(|(key, _)| (key != "general.architecture", key.clone()));
    let all = tensors.iter().map(|t| GgufTensor {
        name: t.name.clone(),
        shape: t.shape.clone(),
        ty: t.ty,
    });
    let all: Vec<_> = all.chain(rest.iter().map(|r| r.0.clone())).collect();
    output::whole(out, |part| {
        let mut file = BufWriter::new(std::fs::File::create(part)?);
        write_gguf::<anyhow::Error>(&mut file, &metadata, &all, |i| {
            match i.checked_sub(tensors.len()) {
                None => bytes(i),
                Some(i) => Ok(rest[i].1.clone()),
            }
        })
    })
}
