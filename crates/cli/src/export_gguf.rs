//! A model as a GGUF file.

use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;
use siskin_engine::ModelFiles;
use siskin_formats::{Checkpoint, GgufTensor, TensorType, Value, encode, write_gguf};
use siskin_models::Exported;

use crate::export_plan::ExportPlan;
use crate::file_type::FileType;
use crate::importance::Importance;
use crate::output;

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

/// Says in the metadata which type the file is of, and which importance it was made with.
pub fn mark(metadata: &mut Vec<(String, Value)>, file: &FileType, importance: Option<&Importance>) {
    let mut set = |key: &str, value: Value| {
        metadata.retain(|m| m.0 != key);
        metadata.push((key.into(), value));
    };
    set("general.quantization_version", Value::Uint(2));
    if let Some(number) = file.number {
        set("general.file_type", Value::Uint(number.into()));
    }
    if let Some(importance) = importance {
        let int = |n: u64| Value::Int(n as i64);
        set(
            "quantize.imatrix.entries_count",
            int(importance.len() as u64),
        );
        set("quantize.imatrix.chunks_count", int(importance.chunks));
        if let Some(dataset) = importance.datasets.first() {
            set("quantize.imatrix.dataset", Value::String(dataset.clone()));
        }
    }
}

/// Always in the same order, the architecture first, as readers expect.
pub fn sorted(mut metadata: Vec<(String, Value)>) -> Vec<(String, Value)> {
    metadata.sort_by_key(|(key, _)| (key != "general.architecture", key.clone()));
    metadata
}

/// `path` is that of the model.
pub fn write(plan: &ExportPlan<'_>, path: &Path, out: &Path) -> Result<()> {
    let (files, tensors) = (plan.files, &plan.tensors);
    let checkpoint = &files.weights.checkpoint;
    let (mut metadata, rest) = match checkpoint.gguf {
        Some(_) => beside_gguf(path, checkpoint, tensors)?,
        None => beside_folder(files)?,
    };
    if let Some(file) = &plan.file {
        mark(&mut metadata, file, plan.importance);
    }
    let metadata = sorted(metadata);
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
                None => plan.bytes(i),
                Some(i) => Ok(rest[i].1.clone()),
            }
        })
    })
}
