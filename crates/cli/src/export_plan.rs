//! The tensors that an export writes, and their types.

use std::path::Path;

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use siskin_engine::{Adapter, ModelFiles};
use siskin_formats::TensorType;
use siskin_models::{Change, Exported, Head};

use crate::encode::{bar, encode};
use crate::file_type::FileType;
use crate::importance::Importance;
use crate::mixture::{Facts, by_name};
use crate::stop;

/// What is written: a GGUF file, or a Hugging Face folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Gguf,
    Folder,
}

impl Target {
    pub fn of(out: &Path) -> Self {
        match out.extension().is_some_and(|e| e == "gguf") {
            true => Self::Gguf,
            false => Self::Folder,
        }
    }
}

pub struct ExportPlan<'a> {
    pub files: &'a ModelFiles,
    pub target: Target,
    pub tensors: Vec<Exported>,
    /// What was asked for; `None` if tensors keep their types.
    pub file: Option<FileType>,
    pub importance: Option<&'a Importance>,
    adapter: Option<&'a Adapter>,
    bar: ProgressBar,
}

impl<'a> ExportPlan<'a> {
    pub fn new(
        files: &'a ModelFiles,
        adapter: Option<&'a Adapter>,
        target: Target,
        file: Option<FileType>,
        importance: Option<&'a Importance>,
    ) -> Result<Self> {
        if let Some(adapter) = adapter {
            if adapter.replaces_weights() {
                bail!(
                    "{} replaces whole weights, and such adapters cannot be merged here; merge it with PEFT",
                    adapter.name
                );
            }
            // Checks every module's shape against the model's.
            adapter.spec(&files.model.graph(Head::Next)?)?;
        }
        let tensors = match target {
            Target::Gguf => in_gguf(files, adapter, file, importance)?,
            Target::Folder => in_folder(files, adapter, file)?,
        };
        let is_written = |m: &str| tensors.iter().any(|t| t.module() == m);
        let mut modules = adapter.iter().flat_map(|a| &a.modules);
        if let Some(lost) = modules.find(|m| !is_written(&m.name)) {
            bail!(
                "the adapter changes `{}`, which the model shares with its embedding; merge it with PEFT",
                lost.name
            );
        }
        let bar = bar(tensors.len())?;
        Ok(Self {
            files,
            target,
            tensors,
            file,
            importance,
            adapter,
            bar,
        })
    }

    /// The bytes of the i-th tensor.
    pub fn bytes(&self, i: usize) -> Result<Vec<u8>> {
        self.bar.set_position(i as u64);
        if stop::flow().is_break() {
            bail!("stopped");
        }
        let tensor = &self.tensors[i];
        let merged = self.adapter.and_then(|a| {
            let module = a.modules.iter().find(|m| m.name == tensor.module())?;
            Some(|weights: &mut [f32]| a.merge_into(module, weights))
        });
        let change = merged.as_ref().map(|f| f as Change<'_>);
        let (model, checkpoint) = (&self.files.model, &self.files.weights.checkpoint);
        let encode = |t: &Exported, values: &[f32]| {
            let weights = self.importance.and_then(|w| w.of(&t.name));
            encode(t.ty, values, t.cols, weights)
        };
        let to_gguf = self.target == Target::Gguf;
        Ok(model.export_bytes(checkpoint, tensor, to_gguf, change, &encode)?)
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What an adapter adds is smaller than a 4-bit quantisation step: where no type is asked for, what it changes does not
/// keep such a type, but becomes `larger`.
fn widen(tensors: &mut [Exported], adapter: Option<&Adapter>, larger: TensorType) {
    for t in tensors {
        let changes = adapter.is_some_and(|a| a.modules.iter().any(|m| m.name == t.module()));
        if changes && t.ty.is_quantised() {
            t.ty = larger;
        }
    }
}

fn in_gguf(
    files: &ModelFiles,
    adapter: Option<&Adapter>,
    file: Option<FileType>,
    importance: Option<&Importance>,
) -> Result<Vec<Exported>> {
    let checkpoint = &files.weights.checkpoint;
    let mut tensors = files.model.exports(checkpoint, true, None)?;
    // What GGUF does not have: NF4, INT4, INT4_1, INT8.
    for t in tensors.iter_mut().filter(|t| t.ty.ggml().is_none()) {
        t.ty = TensorType::F16;
    }
    let Some(file) = file else {
        widen(&mut tensors, adapter, TensorType::Q8_0);
        return Ok(tensors);
    };
    if file.number.is_none() {
        bail!("GGUF has no type NF4; use an --out that does not end in .gguf, to write a folder");
    }
    let shapes: Vec<(&str, &[usize])> = tensors
        .iter()
        .map(|t| (t.name.as_str(), t.shape.as_slice()))
        .collect();
    if let Some(importance) = importance {
        importance.check(shapes.iter().copied())?;
    }
    let own = match checkpoint.gguf {
        Some(_) => vec![],
        None => files.model.to_gguf()?.0,
    };
    let of_folder = |key: &str| own.iter().find(|m| m.0 == key).map(|m| &m.1);
    let mut facts = Facts::new(|key| match &checkpoint.gguf {
        Some(gguf) => gguf.get(key),
        None => of_folder(key),
    });
    facts.has_importance = importance.is_some();
    let wanted = by_name(&file, &facts, &shapes);
    for t in &mut tensors {
        match wanted.get(&t.name) {
            Some(ty) => t.ty = *ty,
            // What is never quantised.
            None if checkpoint.gguf.is_none() => t.ty = TensorType::F32,
            None => {}
        }
    }
    Ok(tensors)
}

fn in_folder(
    files: &ModelFiles,
    adapter: Option<&Adapter>,
    file: Option<FileType>,
) -> Result<Vec<Exported>> {
    let plain = |ty: TensorType| matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::BF16);
    if let Some(file) = file.filter(|f| !plain(f.ty) && f.ty != TensorType::NF4) {
        bail!(
            "a Hugging Face folder cannot hold {}; use f32, f16, bf16 or nf4, or an --out that ends in .gguf",
            file.name
        );
    }
    let ty = file.map(|f| f.ty);
    let mut tensors = files.model.exports(&files.weights.checkpoint, false, ty)?;
    if file.is_none() {
        widen(&mut tensors, adapter, TensorType::F16);
    }
    // Quantised tensors are dequantised.
    for t in tensors
        .iter_mut()
        .filter(|t| !plain(t.ty) && t.ty != TensorType::NF4)
    {
        t.ty = TensorType::F16;
    }
    Ok(tensors)
}
