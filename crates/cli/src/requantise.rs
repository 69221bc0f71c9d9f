//! A GGUF file whose matrices get another type. Its tensors are known by name and shape alone, so that files of every
//! model can be written, of those too that are not run here.

use std::io::BufWriter;
use std::path::Path;

use anyhow::{Result, bail};
use siskin_formats::{Checkpoint, GgufTensor, TensorInfo, TensorType, Value, write_gguf};

use crate::encode::{bar, encode};
use crate::export_gguf::{mark, sorted};
use crate::file_type::FileType;
use crate::importance::Importance;
use crate::mixture::{Facts, types};
use crate::{output, stop};

/// Writes the file. Without `file`, all tensors keep their types.
pub fn write(
    path: &Path,
    out: &Path,
    file: Option<&FileType>,
    importance: Option<&Importance>,
) -> Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    let Some(gguf) = &checkpoint.gguf else {
        bail!("{} is not a GGUF file", path.display());
    };
    match gguf.str("general.type") {
        None | Some("model") => {}
        Some(other) => bail!("{} is of the type `{other}`, not a model", path.display()),
    }
    if let Some(t) = checkpoint.unread.first() {
        return Err(checkpoint.missing(&t.name).into());
    }
    let mut metadata: Vec<(String, Value)> = gguf.header.metadata.clone().into_iter().collect();
    metadata.retain(|m| m.0 != "general.alignment" && !m.0.starts_with("split."));
    if let Some(file) = file {
        mark(&mut metadata, file, importance);
    }
    let tensors = tensors(&checkpoint, file, importance);
    if let Some(importance) = importance {
        importance.check(
            tensors
                .iter()
                .map(|t| (t.name.as_str(), t.shape.as_slice())),
        )?;
    }
    let bar = bar(tensors.len())?;
    let written = output::whole(out, |part| {
        let mut to = BufWriter::new(std::fs::File::create(part)?);
        write_gguf::<anyhow::Error>(&mut to, &sorted(metadata), &tensors, |i| {
            bar.set_position(i as u64);
            if stop::flow().is_break() {
                bail!("stopped");
            }
            bytes(
                &checkpoint,
                &checkpoint.tensors[i],
                tensors[i].ty,
                importance,
            )
        })
    });
    bar.finish_and_clear();
    written
}

/// As they are written.
fn tensors(
    checkpoint: &Checkpoint,
    file: Option<&FileType>,
    importance: Option<&Importance>,
) -> Vec<GgufTensor> {
    let all = checkpoint.tensors.iter();
    let shapes: Vec<(&str, &[usize])> =
        all.map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let mut facts = Facts::new(|key| checkpoint.gguf.as_ref()?.get(key));
    facts.has_importance = importance.is_some();
    let wanted = match file {
        Some(file) => types(file, &facts, &shapes),
        None => vec![None; shapes.len()],
    };
    let tensor = |(t, ty): (&TensorInfo, Option<TensorType>)| GgufTensor {
        name: t.name.clone(),
        shape: t.shape.clone(),
        ty: ty.unwrap_or(t.ty),
    };
    checkpoint.tensors.iter().zip(wanted).map(tensor).collect()
}

/// A tensor's bytes: its own if it keeps its type.
fn bytes(
    checkpoint: &Checkpoint,
    info: &TensorInfo,
    ty: TensorType,
    importance: Option<&Importance>,
) -> Result<Vec<u8>> {
    if ty == info.ty {
        return Ok(checkpoint.read(info)?);
    }
    let values = checkpoint.read_f32(info)?;
    let cols = info.shape.last().copied().unwrap_or(1);
    let weights = importance.and_then(|w| w.of(&info.name));
    Ok(encode(ty, &values, cols, weights)?)
}
